"""A tree of processes ends with all that belongs to it, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from external_modules.process_tree import ProcessTree, _posix_table, end_processes, is_alive

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sessions and signals")

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(600)"], {how})
print(child.pid, flush=True)
"""


def grow(folder: Path, how: str) -> tuple[ProcessTree, int]:
    """Start a process that leaves a child behind, and return the tree and the child's number."""
    tree = ProcessTree(
        [sys.executable, "-I", "-c", PARENT.format(how=how)],
        environment=os.environ,
        folder=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    assert tree.process.stdout
    with tree.process.stdout:
        return tree, int(tree.process.stdout.readline())


def wait_for_end(pid: int) -> None:
    end = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    "how",
    [
        "env={}",
        pytest.param("start_new_session=True", marks=pytest.mark.skipif(sys.platform != "linux", reason="the mark")),
    ],
)
def test_what_the_first_process_left_behind_is_ended(tmp_path: Path, how: str) -> None:
    tree, child = grow(tmp_path, how)
    assert tree.process.wait(10) == 0 == tree.process.poll()
    assert is_alive(child)
    assert tree.end() == 0
    wait_for_end(child)
    assert tree.end() == 0


@pytest.mark.skipif(not os.path.exists("/bin/ps"), reason="there is no ps")
def test_processes_are_found_without_a_path_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    table = _posix_table()
    assert table[os.getpid()] == (os.getppid(), os.getpgrp(), False)


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="macOS before Python 3.13")
def test_the_number_of_the_first_process_stays_its_own_until_the_end(tmp_path: Path) -> None:
    tree, _ = grow(tmp_path, "")
    tree.process.wait(10)
    os.kill(tree.process.pid, 0)
    tree.end()
    with pytest.raises(ProcessLookupError):
        os.kill(tree.process.pid, 0)


def test_exit_codes_and_waiting(tmp_path: Path) -> None:
    tree, _ = grow(tmp_path, "")
    assert tree.process.wait() == 0 and tree.end() == 0
    tree = ProcessTree([sys.executable, "-c", "input()"], environment=os.environ, folder=tmp_path)
    assert tree.process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        tree.process.wait(0.05)
    os.kill(tree.process.pid, signal.SIGTERM)
    assert tree.process.wait(10) == -signal.SIGTERM == tree.end()
    for pipe in (tree.process.stdin, tree.process.stdout, tree.process.stderr):
        assert pipe
        pipe.close()


def test_a_stranger_that_got_the_number_is_left_alone(tmp_path: Path) -> None:
    # Its parent is gone, as that of any program: it is neither a child nor the parent of this process.
    code = PARENT.format(how="start_new_session=True, stdout=subprocess.DEVNULL")
    stranger = int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout)
    try:
        end_processes(stranger, "the mark of a process that had this number")
        assert is_alive(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)
