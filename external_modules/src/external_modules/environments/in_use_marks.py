"""Tells other processes which environments this one uses.

A mark is a file that the process holds locked: so the mark ends with the process however that ends. Its name begins
with the process id, for people, and goes on by chance, since two containers or machines may share a folder and the ids.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from pathlib import Path

from external_modules.environments.file_lock import HeldLock, try_lock

_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)

_held: dict[tuple[Path, int], HeldLock] = {}  # by folder and process: one that was forked makes marks of its own
_lock = threading.Lock()


def mark_in_use(marks: Path) -> None:
    """Mark something as in use by this process until it ends.

    An account that may only read what it uses goes on without a mark: nobody can tell that it uses it.

    Args:
        marks: the folder of the marks of that thing; is made.
    """
    key = (marks, os.getpid())
    with _lock:
        if key in _held:
            return
        while True:
            try:
                marks.mkdir(parents=True, exist_ok=True)
                lock = try_lock(marks / f"{os.getpid()}-{secrets.token_hex(6)}")
            except FileNotFoundError:  # the folder was just tidied away
                continue
            except OSError as error:
                if error.errno in _REFUSED:
                    return
                raise
            if lock:  # or somebody is just looking whether it is held
                _held[key] = lock
                return


def is_in_use(marks: Path) -> bool:
    """Return whether a living process has marked something; marks that the dead left are removed."""
    try:
        found = list(marks.iterdir())
        for mark in found:
            lock = try_lock(mark)
            if lock is None:
                return True
            lock.release(remove=True)
    except FileNotFoundError:
        return False
    except PermissionError:  # another account's, who cannot be asked
        return True
    return False


def remove_marks(marks: Path) -> None:
    """Remove the folder of the marks if there are none."""
    with contextlib.suppress(OSError):
        marks.rmdir()
