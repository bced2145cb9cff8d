"""Locks on a data folder between processes; the system drops them when a process ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path


class FolderLock:
    """A lock file that several processes may share or one may hold alone.

    Without `fcntl` (Windows) every process believes to be alone.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def hold_alone(self) -> bool:
        """Try to be the only holder; say whether that worked."""
        return self._lock(exclusive=True)

    def share(self) -> None:
        """Hold it together with others; waits for one who holds it alone."""
        self._lock(exclusive=False)

    def close(self) -> None:
        """Give the lock up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, *, exclusive: bool) -> bool:
        assert self._descriptor is not None
        try:
            import fcntl
        except ImportError:
            return True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
        except BlockingIOError:
            return False
        return True
