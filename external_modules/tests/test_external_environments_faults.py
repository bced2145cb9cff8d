"""Environments are right whatever happens while they are made: other processes, kills, full disks, no network."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny_module_folders
from tiny_module_folders import make_module, make_wheel, start_host

from external_modules.environments.file_lock import file_lock, try_lock
from external_modules.environments.store import EnvironmentStore
from external_modules.errors import ModuleEnvironmentError
from external_modules.module_folder import ModuleFolder
from external_modules.process_tree import is_alive

NOWHERE = "http://127.0.0.1:9/simple"  # nothing listens there


wheels = tiny_module_folders.wheels
module = tiny_module_folders.module


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen."""
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def works(store: EnvironmentStore, module: Path) -> bool:
    """Return whether a module has a ready environment in which its package is whole."""
    environment = store.find(ModuleFolder(module))
    if environment is None:
        return False
    command = [str(environment.python), "-I", "-c", "import tiny_one; print(tiny_one.VALUE)"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() == "one"


def test_four_hosts_at_once_make_one_environment(tmp_path: Path, module: Path) -> None:
    hosts = [start_host(tmp_path / "home", module) for _ in range(4)]
    answers = [host.communicate(timeout=60) for host in hosts]
    assert [host.returncode for host in hosts] == [0] * 4, answers
    assert len({output.splitlines()[-1] for output, _ in answers}) == 1
    assert sum("installing 1 packages" in output for output, _ in answers) == 1
    store = EnvironmentStore(tmp_path / "home")
    assert works(store, module)
    assert len([path for path in (store.home / "environments").iterdir() if (path / "pyvenv.cfg").exists()]) == 1


def test_threads_at_once_make_one_environment(tmp_path: Path, module: Path) -> None:
    store = EnvironmentStore(tmp_path / "home")
    made: list[str] = []
    steps: list[str] = []

    def report(fraction: float | None, text: str) -> None:
        if fraction is not None:
            steps.append(text)

    def ensure() -> None:
        made.append(str(store.ensure(ModuleFolder(module), report).path))

    threads = [threading.Thread(target=ensure) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 3 and len(set(made)) == 1
    assert steps.count("trying the packages of tiny_module") == 1 and works(store, module)


def test_killed_at_ten_moments_the_next_host_succeeds(tmp_path: Path, module: Path) -> None:
    def count(home: Path) -> int:
        return sum(len(folders) + len(files) for _, folders, files in os.walk(home))

    with start_host(tmp_path / "first", module) as whole:
        whole.communicate()
    unready = 0
    for moment in range(10):
        store = EnvironmentStore(tmp_path / f"home {moment}")
        enough = count(tmp_path / "first") * (0.05 + 0.1 * moment)  # not a time: this machine may be busy
        with start_host(store.home, module) as host:
            while count(store.home) < enough and host.poll() is None:
                time.sleep(0.001)
            host.kill()
        if store.find(ModuleFolder(module)):
            assert works(store, module)
        else:
            unready += 1
            store.ensure(ModuleFolder(module))
            assert works(store, module)
    assert unready >= 3  # most of the kills came in time


@pytest.mark.parametrize("step", ["making an environment", "installing", "trying"])
def test_killed_before_a_step_the_next_host_succeeds(tmp_path: Path, module: Path, step: str) -> None:
    store = EnvironmentStore(tmp_path / "home")
    with start_host(store.home, module, variables={"PAUSE_AT": step}) as host:
        assert host.stdout is not None
        while step not in (line := host.stdout.readline()):
            assert line
        host.kill()
    assert store.find(ModuleFolder(module)) is None
    store.ensure(ModuleFolder(module))
    assert works(store, module)


class _SilentIndex(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _SilentServer)
        self.server.asked.set()
        self.server.end.wait(30)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class _SilentServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _SilentIndex)
        self.asked = threading.Event()
        self.end = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client is gone


@contextmanager
def silent_index() -> Iterator[_SilentServer]:
    """A package index that takes requests and does not answer until the end."""
    with _SilentServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.end.set()
            server.shutdown()
            thread.join()


@pytest.mark.skipif(sys.platform == "win32", reason="there the folder cannot be removed while uv has it open")
def test_what_a_killed_host_left_running_is_waited_for(
    tmp_path: Path, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EnvironmentStore(tmp_path / "home")
    with silent_index() as index:
        slow = {"UV_OFFLINE": "", "UV_FIND_LINKS": "", "UV_HTTP_RETRIES": "0"}
        slow["UV_DEFAULT_INDEX"] = f"http://127.0.0.1:{index.server_port}/simple"
        with start_host(store.home, module, variables=slow) as host:
            assert index.asked.wait(30)
            host.kill()  # uv goes on
        waits: list[str] = []

        def report(fraction: float | None, text: str) -> None:
            waits.append(text)
            if len(waits) == 5:
                index.end.set()  # now it can end

        store.ensure(ModuleFolder(module), report)
    assert waits[:5] == ["waiting for another program that makes the environment of tiny_module"] * 5
    assert works(store, module)


@pytest.mark.skipif(sys.platform == "win32", reason="there all programs end with the host")
def test_packages_that_a_killed_host_was_trying_are_waited_for(tmp_path: Path, wheels: Path) -> None:
    trying, go_on = tmp_path / "trying", tmp_path / "go on"
    slow = f"""
import pathlib, time
pathlib.Path({str(trying)!r}).touch()
while not pathlib.Path({str(go_on)!r}).exists():
    time.sleep(0.01)
VALUE = 'one'
"""
    module = make_module(tmp_path / "slow", make_wheel(wheels, "tiny_one", "3.0", slow))
    store = EnvironmentStore(tmp_path / "home")
    with start_host(store.home, module) as host:
        wait_until(trying.exists)
        host.kill()
    waits: list[str] = []

    def report(fraction: float | None, text: str) -> None:
        waits.append(text)
        if len(waits) == 3:
            go_on.touch()

    store.ensure(ModuleFolder(module), report)
    assert waits[:3] == ["waiting for another program that makes the environment of tiny_module"] * 3
    assert works(store, module)


class GivenUpError(Exception):
    """What a host's report raises."""


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize("gives_up", [True, False])
def test_what_uv_started_ends_with_it(
    tmp_path: Path, module: Path, monkeypatch: pytest.MonkeyPatch, gives_up: bool
) -> None:
    left, uv = tmp_path / "left", tmp_path / "uv"
    uv.write_text(
        f"#!/bin/sh\n[ $1 = --version ] && exec echo 'uv 99.0.0'\nsleep 600 &\necho $! >'{left}.new'\n"
        f"mv '{left}.new' '{left}'\n{'wait' if gives_up else 'exit 1'}\n"
    )
    uv.chmod(0o755)
    monkeypatch.setenv("EXTERNAL_MODULES_UV", str(uv))

    def report(fraction: float | None, text: str) -> None:
        if gives_up and left.exists():
            raise GivenUpError

    with pytest.raises(GivenUpError if gives_up else ModuleEnvironmentError):
        EnvironmentStore(tmp_path / "home").ensure(ModuleFolder(module), report)
    child = int(left.read_text())
    wait_until(lambda: not is_alive(child))


def test_host_that_gives_up_leaves_nothing_and_no_uv(
    tmp_path: Path, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EnvironmentStore(tmp_path / "home")
    with silent_index() as index, monkeypatch.context() as slow:
        slow.setenv("UV_OFFLINE", "")
        slow.setenv("UV_FIND_LINKS", "")
        slow.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{index.server_port}/simple")

        def report(fraction: float | None, text: str) -> None:
            if index.asked.is_set():
                raise GivenUpError

        with pytest.raises(GivenUpError):  # while the index stays silent
            store.ensure(ModuleFolder(module), report)
        if sys.platform != "win32":
            running = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
            assert str(store.home) not in running
    (lock,) = store.home.glob("environments/*.lock")
    held = try_lock(lock)
    assert held
    held.release()
    assert not list(store.home.rglob("pyvenv.cfg"))
    store.ensure(ModuleFolder(module))
    assert works(store, module)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can make a small disk")
def test_full_disk(tmp_path: Path, wheels: Path) -> None:
    module = make_module(
        tmp_path / "module", make_wheel(wheels, "tiny_one", "2.0", "VALUE = 'one'\n", padding=3_000_000)
    )
    home = tmp_path / "home"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(home)], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        store = EnvironmentStore(home)
        with pytest.raises(ModuleEnvironmentError, match=r"disk that holds .* is full.*Free some space"):
            store.ensure(ModuleFolder(module))
        assert not list(home.rglob("ready.json"))
        subprocess.run(["mount", "-o", "remount,size=100m", str(home)], check=True)
        store.ensure(ModuleFolder(module))
        assert works(store, module)
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_quota_on_files(tmp_path: Path, wheels: Path) -> None:
    module = make_module(
        tmp_path / "module", make_wheel(wheels, "tiny_one", "2.0", "VALUE = 'one'\n", padding=3_000_000)
    )
    import resource

    store = EnvironmentStore(tmp_path / "home")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(ModuleEnvironmentError, match=r"disk that holds .* is full"):
            store.ensure(ModuleFolder(module))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(store.home.rglob("ready.json"))
    store.ensure(ModuleFolder(module))
    assert works(store, module)


def test_no_network_on_the_first_and_on_later_calls(
    tmp_path: Path, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EnvironmentStore(tmp_path / "home")
    with monkeypatch.context() as cut:
        cut.setenv("UV_OFFLINE", "")
        cut.setenv("UV_FIND_LINKS", "")
        cut.setenv("UV_DEFAULT_INDEX", NOWHERE)
        cut.setenv("UV_HTTP_RETRIES", "0")
        with pytest.raises(ModuleEnvironmentError, match=r"no package index could be reached. Connect this computer"):
            store.ensure(ModuleFolder(module))
        assert store.find(ModuleFolder(module)) is None
    environment = store.ensure(ModuleFolder(module))
    monkeypatch.delenv("UV_FIND_LINKS")
    assert store.ensure(ModuleFolder(module)) == environment
    assert works(store, module)


def test_home_that_cannot_be_written_to(tmp_path: Path, module: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModuleEnvironmentError, match="EXTERNAL_MODULES_HOME"):
        EnvironmentStore(tmp_path / "file" / "home").ensure(ModuleFolder(module))


def test_lock_ends_with_its_process_and_survives_the_removal_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = "import sys; from pathlib import Path; from external_modules.environments.file_lock import try_lock\n"
    code += "lock = try_lock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert try_lock(path) is None
        holder.send_signal(signal.SIGTERM)
    first = try_lock(path)
    assert first is not None and try_lock(path) is None

    taken = threading.Event()

    def wait() -> None:
        with file_lock(path, lambda: None):
            assert path.exists()
            taken.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not taken.wait(0.2)
    first.release(remove=True)
    assert taken.wait(30)
    waiter.join()
