"""Programs as trees of processes: started apart from the host, and ended with everything that they started.

On POSIX the first process leads a session of its own. The others are found by that session, by descent, and on Linux by
a variable that they all inherit, so that one is found even after its parents are gone. On Windows a Job Object holds
the tree: the system ends it when its handle is closed, however the host dies (by construction: not run there).

The worker's guardian imports this module, in the module's environment: standard library and Python 3.9 only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

MARK_VARIABLE = "EXTERNAL_MODULES_WORKER"

if sys.platform == "win32":
    NO_WINDOW = subprocess.CREATE_NO_WINDOW
else:
    NO_WINDOW = 0

_SWEEPS = 100
_SWEEP_S = 0.02
_LAST_WAIT_S = 10.0
_KILLED = -9 if sys.platform != "win32" else 1


class _FirstProcess(subprocess.Popen[bytes]):
    """The first process of a tree. It keeps its number until `reap`, also after its end (POSIX).

    Whoever waits for a process in the usual way gives its number back: another process may get it, and a session of
    that number would be somebody else's.
    """

    if sys.platform != "win32" and hasattr(os, "waitid"):  # macOS has it since Python 3.13

        def poll(self) -> int | None:
            """Return the exit code, or None while it runs."""
            if self.returncode is None:
                with contextlib.suppress(ChildProcessError):  # the host lets the system wait for its children
                    ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    if ended is None:
                        return None
                    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            return super().poll()

        def wait(self, timeout: float | None = None) -> int:
            """Wait for its end and return the exit code."""
            end = None if timeout is None else time.monotonic() + timeout
            pause = 0.0005
            while (code := self.poll()) is None:
                left = pause if end is None else end - time.monotonic()
                if timeout is not None and left <= 0:
                    raise subprocess.TimeoutExpired(self.args, timeout)
                time.sleep(min(pause, left))
                pause = min(2 * pause, 0.05)
            return code

    def reap(self, timeout: float) -> int:
        """Wait for its end, give its number back, and return the exit code."""
        return super().wait(timeout)


class ProcessTree:
    """A process and all that it starts.

    Args:
        arguments: the program and its arguments; no shell takes part.
        environment: all variables that it gets, beside the mark of this tree.
        folder: its working folder.
        descriptors: open files that it inherits (POSIX).
        stdin: as for `subprocess.Popen`.
        stderr: as for `subprocess.Popen`.

    Raises:
        OSError: the program cannot be started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        descriptors: Sequence[int] = (),
        stdin: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> None:
        self._mark = os.urandom(16).hex()
        self._code: int | None = None
        self.process = _FirstProcess(
            arguments,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            env={**environment, MARK_VARIABLE: self._mark},
            cwd=folder,
            start_new_session=sys.platform != "win32",
            pass_fds=tuple(descriptors),
            creationflags=NO_WINDOW,
        )
        if sys.platform == "win32":
            self._job = _make_job()
            if not _put_into_job(self._job, int(self.process._handle)):  # type: ignore[attr-defined]
                _close_job(self._job)
                self._job = None

    def end(self) -> int:
        """End every process of the tree at once, and return the exit code of the first as `Popen.returncode` has it."""
        if self._code is None:
            if sys.platform == "win32":
                if self._job:
                    _close_job(self._job)
                else:
                    _end_descendants(self.process.pid)
            else:
                end_processes(self.process.pid, self._mark)
            with contextlib.suppress(OSError):  # Windows refuses to end what is just ending
                self.process.kill()
            try:
                self._code = self.process.reap(_LAST_WAIT_S)
            except subprocess.TimeoutExpired:  # killed, but a driver or a network drive holds it for now
                self._code = _KILLED
        return self._code


def end_processes(root: int, mark: str, *, spared: Iterable[int] = ()) -> None:
    """Kill a process and all that it started (POSIX), also what starts while this happens.

    Args:
        root: the process; a child or the parent of this one, or one that ended a moment ago: much later a session of
            that number may be another's.
        mark: the value of the variable that its processes inherited.
        spared: processes that live on, such as the one that calls this.
    """
    if sys.platform == "win32":
        return
    kept = {*spared}
    for _ in range(_SWEEPS):
        found = _find_processes(root, mark) - kept
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_SWEEP_S)


def is_alive(pid: int) -> bool:
    """Tell whether there is a process of that number (POSIX). On Linux one that is only not yet waited for is none.

    Whoever waits for the end of a process that is not its own asks every second: later another may have the number.
    """
    with contextlib.suppress(OSError):
        return not _is_zombie(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in b"ZX"


def end_with_this_process() -> None:
    """Let the system end all that this process starts when it ends itself, however it does (Windows; else nothing).

    A worker calls it first of all: the host puts a worker into a job only after the start, and python.exe of a virtual
    environment has started the real interpreter by then.
    """
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        _put_into_job(_make_job(), kernel.GetCurrentProcess())  # the handle stays open: the system closes it in the end


def _find_processes(root: int, mark: str) -> set[int]:
    """Return the living processes of a tree."""
    table = _linux_table(mark) if sys.platform == "linux" else _posix_table()
    found = {pid for pid, (_, _, marked) in table.items() if marked}
    if root not in table or root in found or table[root][0] == os.getpid() or root == os.getppid():
        found |= {pid for pid, (_, group, _) in table.items() if root in (pid, group)}  # else the number is another's
    while more := {pid for pid, (parent, _, _) in table.items() if parent in found and pid not in found}:
        found |= more
    return found


def _linux_table(mark: str) -> dict[int, tuple[int, int, bool]]:
    """Return parent, session and whether it has the mark, for each process that is no zombie."""
    table = {}
    line = f"{MARK_VARIABLE}={mark}".encode()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent, _, session = file.read().rpartition(b")")[2].split()[:4]  # the name may hold anything
            if state in b"ZX":
                continue
            marked = False
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                marked = line in file.read().split(b"\0")
            table[int(name)] = (int(parent), int(session), marked)
    return table


def _posix_table() -> dict[int, tuple[int, int, bool]]:
    """Return parent and process group for each process that is no zombie."""
    listed = subprocess.run(
        ["/bin/ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    rows = (row.split() for row in listed.stdout.splitlines())
    return {int(row[0]): (int(row[1]), int(row[2]), False) for row in rows if len(row) == 4 and row[3][:1] != b"Z"}


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _BasicLimits(ctypes.Structure):
        _fields_ = (
            ("PerProcessUserTimeLimit", ctypes.c_int64),
            ("PerJobUserTimeLimit", ctypes.c_int64),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
        )

    class _ExtendedLimits(ctypes.Structure):
        _fields_ = (
            ("BasicLimitInformation", _BasicLimits),
            ("IoInfo", ctypes.c_uint64 * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        )

    _EXTENDED_LIMIT_INFORMATION = 9
    _KILL_ON_JOB_CLOSE = 0x2000

    def _make_job() -> int | None:
        """Return the handle of a job whose processes end when it is closed, or None where the system refuses."""
        kernel = ctypes.WinDLL("kernel32")
        kernel.CreateJobObjectW.restype = ctypes.c_void_p
        kernel.CreateJobObjectW.argtypes = (ctypes.c_void_p, ctypes.c_wchar_p)
        kernel.SetInformationJobObject.argtypes = (
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_void_p,
            wintypes.DWORD,
        )
        job: int | None = kernel.CreateJobObjectW(None, None)
        limits = _ExtendedLimits()
        limits.BasicLimitInformation.LimitFlags = _KILL_ON_JOB_CLOSE
        size = ctypes.sizeof(limits)
        if job and not kernel.SetInformationJobObject(job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), size):
            _close_job(job)
            return None
        return job

    def _put_into_job(job: int | None, process: int) -> bool:
        """Return whether it is in the job: it may have ended already, or be held by a job that allows no other."""
        if not job:
            return False
        kernel = ctypes.WinDLL("kernel32")
        kernel.AssignProcessToJobObject.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        return bool(kernel.AssignProcessToJobObject(job, process))

    def _end_descendants(process: int) -> None:
        """End a process and those whose parents still run; its number is kept by the handle that Popen has."""
        program = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "taskkill.exe")
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [program, "/T", "/F", "/PID", str(process)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LAST_WAIT_S,
                check=False,
                creationflags=NO_WINDOW,
            )

    def _close_job(job: int | None) -> None:
        if job:
            kernel = ctypes.WinDLL("kernel32")
            kernel.CloseHandle.argtypes = (ctypes.c_void_p,)
            kernel.CloseHandle(job)
