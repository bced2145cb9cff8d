"""A host stays as it is, and its end is its workers' end."""

from __future__ import annotations

import ast
import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling_behaving_worker import SCRIPT, is_running, open_module, wait_until_gone

import external_modules
from external_modules.calls import worker_log

SOURCES = Path(external_modules.__file__).parent

HOST = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from calling_behaving_worker import SCRIPT, open_module
module = open_module(Path(sys.argv[1]), shared_memory=sys.argv[3] != "files")
def tell(fraction, text):
    if text[:1].isdigit():
        print(text, flush=True)
"""


def run_host(tmp_path: Path, body: str, what: str, way: str = "memory") -> subprocess.Popen[str]:
    paths = [str(SOURCES.parent), str(Path(__file__).parent)]
    temporary = tmp_path / "temporary"
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", HOST + body, str(tmp_path), what, way],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(temporary)},
    )


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_workers_end_with_a_host_that_is_killed(tmp_path: Path) -> None:
    hosts = []
    for number, (what, mode, way) in enumerate(
        [
            ("hang_in_c", "server", "memory"),
            ("hang_deaf", "server", "files"),
            ("steps", "server", "memory"),
            ("hang_in_c", "one-shot", "files"),
        ]
    ):
        body = f"""
if {mode!r} == "server":
    module.call(SCRIPT, what="echo", image=np.zeros((2000, 2000), np.uint16))
    print(*module.call(SCRIPT, what="children", then=None), flush=True)
    module.call(SCRIPT, what={what!r}, **({{"steps": 10000}} if {what!r} == "steps" else {{}}))
module.call(SCRIPT, mode={mode!r}, what="children", then={what!r}, progress=tell)
"""
        (tmp_path / str(number)).mkdir()
        hosts.append(run_host(tmp_path / str(number), body, what, way))
    pids = []
    for host in hosts:
        assert host.stdout is not None
        found = [int(word) for word in host.stdout.readline().split()]
        assert len(found) == 5
        pids += found
    assert all(is_running(pid) for pid in pids)
    time.sleep(0.2)
    begin = time.monotonic()
    for host in hosts:
        host.kill()
    wait_until_gone(pids, 5)
    while list(tmp_path.glob("*/temporary/*")):
        assert time.monotonic() - begin < 5
        time.sleep(0.05)
    for host in hosts:
        host.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_worker_ends_with_its_host_though_a_fork_of_that_lives_on(tmp_path: Path) -> None:
    body = """
print(module.call(SCRIPT, what="pid"), flush=True)
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""
    host = run_host(tmp_path, body, "")
    assert host.stdout is not None
    worker, fork = int(host.stdout.readline()), int(host.stdout.readline())
    host.kill()
    try:
        wait_until_gone([worker], 5)
        assert is_running(fork)
    finally:
        os.kill(fork, signal.SIGKILL)
        host.communicate()


@pytest.mark.parametrize(
    ("way", "end"),
    [
        ("memory", ""),
        ("files", ""),
        ("memory", "sys.exit(0)"),
        ("memory", "raise KeyboardInterrupt"),
        ("files", "module.close()"),
    ],
)
def test_a_host_that_ends_leaves_nothing_and_says_nothing(tmp_path: Path, way: str, end: str) -> None:
    body = f"""
image = np.arange(4_000_000, dtype=np.uint16)
assert (module.call(SCRIPT, what="echo", image=image)["image"] == image).all()
module.call(SCRIPT, mode="one-shot", what="echo", image=image)
print(module.call(SCRIPT, what="pid"), flush=True)
{end}
"""
    host = run_host(tmp_path, body, "", way)
    printed, errors = host.communicate(timeout=30)
    if "Interrupt" not in end:
        assert errors == ""
        assert host.returncode == 0
    assert "resource_tracker" not in errors and "Warning" not in errors
    assert not is_running(int(printed))
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="open files have no numbers there")
def test_a_host_needs_no_standard_streams(tmp_path: Path) -> None:
    body = """
for number in range(3):
    os.close(number)
image = np.arange(6, dtype=np.uint16)
for mode in ("server", "one-shot"):
    result = module.call(SCRIPT, mode=mode, what="echo", image=image, timeout=20)
    assert (result["image"] == image).all()
Path(sys.argv[1], "well").touch()
module.close()
os._exit(0)
"""
    run_host(tmp_path, body, "").communicate(timeout=30)
    assert (tmp_path / "well").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_host_has_a_worker_of_its_own(tmp_path: Path) -> None:
    body = """
mine = module.call(SCRIPT, what="pid")
child = os.fork()
if child == 0:
    print(module.call(SCRIPT, what="pid"), flush=True)
    sys.exit()
os.waitpid(child, 0)
second = os.fork()
if second == 0:
    sys.exit()
os.waitpid(second, 0)
print(mine, module.call(SCRIPT, what="pid"))
"""
    host = run_host(tmp_path, body, "")
    printed, _ = host.communicate(timeout=30)
    of_fork, before, after = map(int, printed.split())
    assert before == after != of_fork
    assert not is_running(of_fork) and not is_running(before)
    assert host.returncode == 0


def state_of_this_process() -> dict[str, Any]:
    return {
        "path": list(sys.path),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "standard": (sys.stdin, sys.stdout, sys.stderr, sys.excepthook),
        "hooks": (list(sys.meta_path), list(sys.path_hooks)),
    }


def test_the_host_stays_as_it_is(tmp_path: Path) -> None:
    before = state_of_this_process()
    descriptors = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()
    with open_module(tmp_path) as module:
        image = np.ones((10, 10), np.uint16)
        for mode in ("server", "one-shot"):
            module.call(SCRIPT, mode=mode, what="echo", image=image)  # type: ignore[arg-type]
        assert state_of_this_process() == before
    assert state_of_this_process() == before
    if sys.platform == "linux":
        assert set(os.listdir("/proc/self/fd")) == descriptors


def test_a_worker_sees_nothing_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show_path = [sys.executable, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
    usual_path = json.loads(subprocess.run(show_path, capture_output=True, check=True).stdout)
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CONDA_PREFIX", "/conda")
    monkeypatch.setenv("SOMETHING_ELSE", "\u00b5")
    with open_module(tmp_path) as module:
        for mode in ("server", "one-shot"):
            seen = module.call(SCRIPT, mode=mode, what="where")  # type: ignore[arg-type]
            assert seen["cwd"] == str(module.folder.path)
            # This package is on it only where its own interpreter has it installed.
            assert str(SOURCES.parent) not in set(seen["path"]) - set(usual_path)
            assert str(tmp_path) not in seen["path"]
            assert seen["path"][0] == str(module.folder.path)
            assert seen["flags"][sys.flags.__match_args__.index("isolated")] == 1
            assert seen["environment"]["SOMETHING_ELSE"] == "\u00b5"
            assert not {"PYTHONHOME", "PYTHONPATH", "CONDA_PREFIX"} & set(seen["environment"])


def test_a_worker_may_use_processes_of_its_own(tmp_path: Path) -> None:
    with open_module(tmp_path) as module:
        assert module.call(SCRIPT, what="pool") == [0, 1, 4, 9]


def test_progress_arrives_while_the_worker_computes(tmp_path: Path) -> None:
    seen: list[tuple[float, float, str]] = []

    def note(fraction: float, text: str) -> None:
        seen.append((time.monotonic(), fraction, text))

    with open_module(tmp_path) as module:
        for mode in ("server", "one-shot"):
            seen.clear()
            assert module.call(SCRIPT, mode=mode, what="steps", steps=30, progress=note) == 30  # type: ignore[arg-type]
            end = time.monotonic()
            steps = [entry for entry in seen if entry[2].startswith("step")]
            assert 5 <= len(steps) <= 29
            assert end - steps[0][0] > 0.4
            assert [fraction for _, fraction, _ in steps] == sorted(fraction for _, fraction, _ in steps)
        begin = time.monotonic()
        module.call(SCRIPT, what="steps", steps=20_000, pause=0, progress=note)
        assert len(seen) < 30 + 25 * (time.monotonic() - begin)


def test_an_idle_worker_leaves_and_the_next_call_starts_one(tmp_path: Path) -> None:
    with open_module(tmp_path, idle_timeout=1.5) as module:
        pid = module.call(SCRIPT, what="pid")
        for _ in range(2):
            time.sleep(0.9)
            assert module.call(SCRIPT, what="pid") == pid  # each call is a new beginning
        module.call(SCRIPT, what="sleep", seconds=1.8)  # what computes is not idle
        assert module.call(SCRIPT, what="pid") == pid
        wait_until_gone([pid], 5)
        assert module.call(SCRIPT, what="pid") != pid


def test_a_worker_ends_when_nobody_has_its_module_any_more(tmp_path: Path) -> None:
    module = open_module(tmp_path)
    pid = module.call(SCRIPT, what="pid")
    assert is_running(pid)
    del module
    gc.collect()
    wait_until_gone([pid], 5)


def test_a_worker_may_stay_for_ever(tmp_path: Path) -> None:  # a thread that fails is a warning, hence an error
    with open_module(tmp_path, idle_timeout=float("inf")) as module:
        pid = module.call(SCRIPT, what="pid")
        time.sleep(0.2)
        assert module.call(SCRIPT, what="pid") == pid


def test_the_log_tells_begin_and_end_of_calls(tmp_path: Path) -> None:
    with open_module(tmp_path) as module:
        module.call(SCRIPT, what="sleep", seconds=0.1)
        with pytest.raises(Exception, match="ValueError"):
            module.call(SCRIPT, mode="one-shot", what="raise")
        assert module.log_file == tmp_path / "home" / "logs" / "behaving.log"
    log = module.log_file.read_text(encoding="utf-8")
    for text in ("call 1 begins", "call 1 ends after 0.", "of which it computed 0.1", "call 1 fails after 0."):
        assert text in log
    assert "ValueError: no objects" in log and "has ended with exit code 0" in log
    assert log.startswith(time.strftime("%Y-%m-"))


def test_the_log_rotates(tmp_path: Path) -> None:
    with open_module(tmp_path) as module:
        module.call(SCRIPT, what="shout", megabytes=5)
        module.call(SCRIPT, what="print")
    folder = module.log_file.parent
    assert sorted(path.name for path in folder.iterdir()) == ["behaving.log", "behaving.log.1", "behaving.log.2"]
    assert all(path.stat().st_size < worker_log.LIMIT + 2**17 for path in folder.iterdir())
    assert "from C" in module.log_file.read_text(encoding="utf-8")


def test_a_log_that_cannot_be_written_costs_no_call(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with open_module(tmp_path) as module:
        assert module.call(SCRIPT, what="count") == 1


def source_of(name: str) -> Path:
    place = SOURCES.joinpath(*name.split(".")) if name else SOURCES
    return place / "__init__.py" if place.is_dir() else place.with_name(f"{place.name}.py")


def test_what_a_worker_imports_is_python_3_9() -> None:
    names = ["process_tree", "calls", "calls.messages", "calls.shared_arrays"]
    names += ["worker", "worker.guardian", "worker.launcher", "worker.service"]
    for name in [*names, "worker.importable.module_worker", ""]:
        tree = ast.parse(source_of(name).read_text(encoding="utf-8"), feature_version=(3, 9))
        imported = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        for module in imported:
            package, _, rest = module.partition(".")
            own = package == "external_modules" and rest in ["", *names]
            assert own or package == "numpy" or package in sys.stdlib_module_names, (name, module)


def test_arguments_in_a_request_are_json_only(tmp_path: Path) -> None:
    with open_module(tmp_path) as module:
        folder = tmp_path / "kept"
        module.call(SCRIPT, mode="one-shot", keep_folder=folder, what="echo", image=np.ones(3), nothing=None)
        request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    assert request["value"] == {"what": "echo", "image": None, "nothing": None}
    assert request["arrays"] == [{"steps": ["image"], "file": "argument-0-image.npy"}]
