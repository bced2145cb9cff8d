"""Whatever a worker does, its host hears of it, nothing is left, and the next call works."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from calling_behaving_worker import SCRIPT, is_running, open_module, wait_until_gone

from external_modules.errors import (
    CallAbortedError,
    ExternalModuleError,
    InvalidModuleError,
    WorkerError,
    WorkerTimeoutError,
)
from external_modules.external_module import ExternalModule

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the faults are made with POSIX signals")

Mode = Literal["server", "one-shot"]
BOTH = pytest.mark.parametrize("mode", ["server", "one-shot"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExternalModule]:
    with open_module(tmp_path_factory.mktemp("faults")) as module:
        yield module


@pytest.fixture
def module(shared: ExternalModule) -> Iterator[ExternalModule]:
    """A module whose next call must work, whatever the test did."""
    yield shared
    image = np.arange(6, dtype=np.uint16)
    np.testing.assert_array_equal(shared.call(SCRIPT, what="echo", image=image, timeout=20)["image"], image)


@BOTH
def test_prints_go_to_the_log(module: ExternalModule, mode: Mode) -> None:
    assert module.call(SCRIPT, mode=mode, what="print") == ["", ""]
    log = module.log_file.read_text(encoding="utf-8")
    for line in ('{"result": 1, "value": "printed"}', "snowman \u2603", "from C", "to stderr", "from a child"):
        assert f"\n{line}\n" in log


@BOTH
def test_an_error_arrives_with_traceback_and_log(module: ExternalModule, mode: Mode) -> None:
    before = module.call(SCRIPT, what="pid")
    with pytest.raises(WorkerError) as caught:
        module.call(SCRIPT, mode=mode, what="raise")
    error = caught.value
    assert str(error).startswith("behaving/behaving_worker.py: ValueError: no objects in \u00b5m")
    assert error.worker_traceback.splitlines()[1].endswith("in behave")
    assert "in do_raise" in error.worker_traceback and "service.py" not in error.worker_traceback
    assert error.log_tail.endswith("before the error")
    assert module.call(SCRIPT, what="pid") == before


def test_a_wrong_argument_and_an_exit_are_errors(module: ExternalModule) -> None:
    before = module.call(SCRIPT, what="pid")
    with pytest.raises(WorkerError, match="unexpected keyword argument 'sigmaa'"):
        module.call(SCRIPT, what="sleep", sigmaa=1)
    with pytest.raises(WorkerError, match="SystemExit: I leave"):
        module.call(SCRIPT, what="leave")
    assert module.call(SCRIPT, what="pid") == before


@BOTH
@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        ({"what": "exit"}, "with exit code 7"),
        ({"what": "die", "number": signal.SIGKILL}, "by signal SIGKILL (9). Was there too little memory?"),
        ({"what": "die", "number": signal.SIGSEGV}, "by signal SIGSEGV (11)"),
    ],
)
def test_an_end_in_mid_call_is_told(module: ExternalModule, mode: Mode, arguments: dict[str, Any], end: str) -> None:
    begin = time.monotonic()
    with pytest.raises(WorkerError) as caught:
        module.call(SCRIPT, mode=mode, **arguments)
    assert f"ended {end}" in str(caught.value)
    assert "last words" in caught.value.log_tail
    assert time.monotonic() - begin < 10


def test_a_crash_in_c_leaves_the_place_in_the_log(module: ExternalModule) -> None:
    with pytest.raises(WorkerError, match="SIGSEGV") as caught:
        module.call(SCRIPT, what="crash_in_c")
    assert "in do_crash_in_c" in caught.value.log_tail


def test_a_hang_ends_with_the_time(module: ExternalModule) -> None:
    pids = module.call(SCRIPT, what="children", then=None)
    assert all(is_running(pid) for pid in pids)
    begin = time.monotonic()
    with pytest.raises(WorkerTimeoutError, match=r"longer than 0\.5 s and was ended\."):
        module.call(SCRIPT, what="hang_in_c", timeout=0.5)
    assert 2.5 <= time.monotonic() - begin < 10
    wait_until_gone(pids, 3)


def test_a_cooperative_worker_survives_its_time(module: ExternalModule) -> None:
    before = module.call(SCRIPT, what="pid")
    with pytest.raises(WorkerTimeoutError, match="stopped when it was asked to"):
        module.call(SCRIPT, what="steps", steps=1000, timeout=0.3)
    assert module.call(SCRIPT, what="pid") == before


@BOTH
@pytest.mark.parametrize("then", [None, "exit"])
def test_children_do_not_outlive_their_worker(module: ExternalModule, mode: Mode, then: str | None) -> None:
    pids: list[int] = []

    def note(fraction: float, text: str) -> None:
        if text[:1].isdigit():
            pids.extend(int(word) for word in text.split())
            assert then or all(is_running(pid) for pid in pids)

    try:
        module.call(SCRIPT, mode=mode, what="children", then=then, progress=note)
    except WorkerError:
        assert then is not None
    if mode == "server" and then is None:
        module.close()
    assert len(pids) == 5
    wait_until_gone(pids, 3)


@BOTH
def test_a_cooperative_worker_is_aborted(module: ExternalModule, mode: Mode, tmp_path: Path) -> None:
    before = module.call(SCRIPT, what="pid")
    steps: list[str] = []
    file = tmp_path / "clean"
    with pytest.raises(CallAbortedError):
        module.call(
            SCRIPT,
            mode=mode,
            what="clean_up",
            file=file,
            progress=lambda fraction, text: steps.append(text),
            should_abort=lambda: len(steps) > 3,
        )
    assert file.read_text() == "cleaned up, cancelled: True"
    assert len(steps) < 20
    assert module.call(SCRIPT, what="pid") == before


def test_a_deaf_worker_is_aborted_two_seconds_later(module: ExternalModule) -> None:
    pids: list[int] = []
    began: list[float] = []

    def note(fraction: float, text: str) -> None:
        if text[:1].isdigit():
            pids.extend(int(word) for word in text.split())
            began.append(time.monotonic())

    def is_enough() -> bool:
        return bool(began) and time.monotonic() - began[0] > 0.5  # by now it hangs

    with pytest.raises(CallAbortedError):
        module.call(SCRIPT, mode="one-shot", what="children", then="hang_deaf", progress=note, should_abort=is_enough)
    assert 2.5 < time.monotonic() - began[0] < 10
    wait_until_gone(pids, 3)


def test_an_error_in_the_hosts_function_stops_the_worker(module: ExternalModule) -> None:
    def fail(fraction: float, text: str) -> None:
        raise TimeoutError("of the host")

    before = module.call(SCRIPT, what="pid")
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="of the host"):
        module.call(SCRIPT, what="steps", steps=1000, progress=fail)
    assert time.monotonic() - begin < 10  # of 20
    assert module.call(SCRIPT, what="pid") == before


def test_a_worker_that_ended_between_calls_is_started_anew(module: ExternalModule) -> None:
    for _ in range(3):
        pid = module.call(SCRIPT, what="pid")
        os.kill(pid, signal.SIGKILL)
        wait_until_gone([pid], 5)
        assert module.call(SCRIPT, what="pid") != pid


def test_a_worker_that_ends_before_it_begins_a_call_is_replaced(module: ExternalModule) -> None:
    pid = module.call(SCRIPT, what="pid")
    os.kill(pid, signal.SIGSTOP)
    killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    killer.start()
    assert module.call(SCRIPT, what="pid", timeout=20) != pid
    killer.join()


def test_a_thread_that_stays_does_not_keep_a_worker(module: ExternalModule) -> None:
    pid = module.call(SCRIPT, what="thread")
    module.close()
    assert not is_running(pid)


def test_two_threads_are_served_one_after_the_other(module: ExternalModule) -> None:
    times: list[list[float]] = []

    def call(seconds: float) -> None:
        times.append(module.call(SCRIPT, what="sleep", seconds=seconds))

    module.call(SCRIPT, what="pid")
    threads = [threading.Thread(target=call, args=(0.2 + number / 100,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 3
    ordered = sorted(times)
    assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(ordered))


def test_who_waits_for_his_turn_can_give_up_and_needs_no_time(module: ExternalModule) -> None:
    results: list[object] = []
    first = threading.Thread(target=lambda: results.append(module.call(SCRIPT, what="sleep", seconds=3)))
    first.start()
    time.sleep(0.3)
    begin = time.monotonic()
    with pytest.raises(CallAbortedError):
        module.call(SCRIPT, what="pid", should_abort=lambda: time.monotonic() - begin > 0.2)
    assert time.monotonic() - begin < 2
    assert module.call(SCRIPT, what="count", timeout=1.5) > 0  # though it waits for longer than that
    first.join()
    assert len(results) == 1


def test_closing_aborts_what_is_being_computed_and_who_waits(module: ExternalModule) -> None:
    errors: list[BaseException] = []

    def call(mode: Mode) -> None:
        try:
            module.call(SCRIPT, mode=mode, what="steps", steps=1000)
        except CallAbortedError as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(mode,)) for mode in ("server", "server", "one-shot")]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    begin = time.monotonic()
    module.close()
    for thread in threads:
        thread.join()
    assert len(errors) == 3
    assert time.monotonic() - begin < 10


def test_a_callback_cannot_call_its_own_worker(module: ExternalModule) -> None:
    def again(fraction: float, text: str) -> None:
        module.call(SCRIPT, what="pid")

    with pytest.raises(ExternalModuleError, match="should_abort"):
        module.call(SCRIPT, what="steps", steps=100, progress=again)
    with pytest.raises(ExternalModuleError, match="should_abort"):
        module.call(SCRIPT, what="steps", steps=100, progress=lambda fraction, text: module.close())


@BOTH
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_package\n", "No module named 'no_such_package'"),
        ("\ndef broken(:\n", 'bad.py", line 2)'),
        ("print('nothing to do')\n", "with exit code 0. Does the script call serve(...)?"),
        ("import sys\nsys.exit('no licence')\n", "with exit code 1"),
    ],
)
def test_a_script_that_cannot_serve_is_told(tmp_path: Path, mode: Mode, text: str, told: str) -> None:
    with open_module(tmp_path) as module:
        (module.folder.path / "bad.py").write_text(text)
        with pytest.raises(WorkerError) as caught:
            module.call("bad.py", mode=mode)
        assert told in str(caught.value)
        if "licence" in text:
            assert caught.value.log_tail == "no licence"
        if "import no" in text:
            assert 'bad.py", line 1' in caught.value.worker_traceback


def test_a_script_that_loads_for_too_long(tmp_path: Path) -> None:
    with open_module(tmp_path) as module:
        (module.folder.path / "slow.py").write_text("import time\ntime.sleep(300)\n")
        with pytest.raises(WorkerTimeoutError, match=r"not ready after 0\.5 s"):
            module.call("slow.py", timeout=0.5)
        with pytest.raises(CallAbortedError):
            module.call("slow.py", should_abort=lambda: True)
        with pytest.raises(InvalidModuleError, match=r"missing\.py"):
            module.call("missing.py")


def test_a_python_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    from external_modules.calls.connection import WorkerProgram
    from external_modules.calls.server_worker import ServerWorker
    from external_modules.calls.worker_log import LogFile

    program = WorkerProgram("behaving", tmp_path / "python", tmp_path / "worker.py", {})
    with pytest.raises(WorkerError, match="cannot be started"):
        ServerWorker(program, LogFile(tmp_path / "log")).call({}, timeout=5)
    assert list(tmp_path.iterdir()) == []
