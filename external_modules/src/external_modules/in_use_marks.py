"""Tells other processes which environments this one uses.

A mark is a file named by the process id, which that process holds locked: so the mark ends with the process however
that ends, and an id that is given out again misleads nobody.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from external_modules.file_lock import HeldLock, try_lock

_held: dict[Path, HeldLock] = {}
_lock = threading.Lock()


def mark_in_use(marks: Path) -> None:
    """Mark something as in use by this process until it ends.

    Args:
        marks: the folder of the marks of that thing; is made.
    """
    mark = marks / str(os.getpid())
    with _lock:
        if mark in _held:
            return
        while True:
            marks.mkdir(parents=True, exist_ok=True)
            try:
                lock = try_lock(mark)
            except FileNotFoundError:  # the folder was just tidied away
                continue
            if lock:
                _held[mark] = lock
                return
            time.sleep(0.01)  # somebody is looking at what a dead process of our number left


def is_in_use(marks: Path) -> bool:
    """Return whether a living process has marked something; marks that the dead left are removed."""
    try:
        found = list(marks.iterdir())
    except FileNotFoundError:
        return False
    for mark in found:
        lock = try_lock(mark)
        if lock is None:
            return True
        lock.release(remove=True)
    return False


def remove_marks(marks: Path) -> None:
    """Remove the folder of the marks if there are none."""
    with contextlib.suppress(OSError):
        marks.rmdir()
