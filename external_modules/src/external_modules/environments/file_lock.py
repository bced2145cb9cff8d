"""A lock between processes: a file that the system itself unlocks when the process that holds it dies.

POSIX uses `flock`, Windows `msvcrt.locking` (by construction: it was not run there). Both also hold between two threads
of one process, because each acquisition opens the file anew.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_POLL_S = 0.1
_IS_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class HeldLock:
    """A lock that this process has until `release`, or until it ends.

    Attributes:
        descriptor: of the open file. A child process that inherits it on POSIX keeps the lock as long as it lives.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def release(self, *, remove: bool = False) -> None:
        """Let others have it.

        Args:
            remove: remove the file too; whoever waits for it notices and makes a new one.
        """
        if remove and sys.platform != "win32":
            self._remove()
        # Not only closed: a child that was forked meanwhile may have a copy of the descriptor.
        _unlock(self.descriptor)
        os.close(self.descriptor)
        if remove and sys.platform == "win32":  # there a file that somebody has open cannot be removed
            self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def try_lock(path: Path) -> HeldLock | None:
    """Lock a file, which is made where there is none.

    Returns:
        The lock, or None where another process or thread has it.

    Raises:
        OSError: the file cannot be made, or its file system knows no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            locked = _lock(descriptor)
            # Its last holder may have removed it after we opened it: then others lock another file of that name.
            valid = locked and _is_same_file(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if valid:
            return HeldLock(path, descriptor)
        os.close(descriptor)
        if not locked:
            return None


@contextlib.contextmanager
def file_lock(path: Path, while_waiting: Callable[[], object]) -> Iterator[HeldLock]:
    """Hold a lock, waiting for it as long as it takes.

    Args:
        path: the file.
        while_waiting: is called ten times a second until the lock is ours. What it raises ends the wait.

    Raises:
        OSError: as `try_lock`.
    """
    while (lock := try_lock(path)) is None:
        while_waiting()
        time.sleep(_POLL_S)
    try:
        yield lock
    finally:
        lock.release()


def _lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _IS_HELD:
            return False
        raise
    return True


def _unlock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
