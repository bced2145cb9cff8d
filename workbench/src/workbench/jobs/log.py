"""The log of a job: one file that keeps the end of what a worker printed."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

LIMIT = 4 * 2**20

_LEFT_OUT = re.compile(rb"\[(\d+) bytes of earlier output were left out\]\n")


class JobLog:
    """Appends to the file. Positions count the bytes since the job's start, also those that are left out by now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def append(self, content: bytes) -> None:
        """Add output; once the file is twice the limit, its older half goes."""
        with self._lock:
            with open(self._path, "ab") as file:
                file.write(content)
                size = file.tell()
            if size > 2 * LIMIT:
                self._shorten()

    def note(self, text: str) -> None:
        """Add a line of the workbench itself."""
        line = f"workbench: {text}\n"
        ends_with_line = read_log(self._path, 0)[1][-1:] in (b"", b"\n")
        self.append((line if ends_with_line else f"\n{line}").encode())

    def finish(self) -> None:
        """Keep no more than the limit."""
        with self._lock:
            if self._path.exists() and self._path.stat().st_size > LIMIT:
                self._shorten()

    def _shorten(self) -> None:
        start, kept = read_log(self._path, 0)
        dropped = len(kept) - LIMIT
        if dropped <= 0:
            return
        end_of_line = kept.find(b"\n", dropped, dropped + LIMIT // 10)  # what is kept begins with a line, if it can
        dropped = end_of_line + 1 or dropped
        shorter = self._path.with_suffix(".new")
        shorter.write_bytes(b"[%d bytes of earlier output were left out]\n" % (start + dropped) + kept[dropped:])
        os.replace(shorter, self._path)


def read_log(path: Path, offset: int) -> tuple[int, bytes]:
    """Return output from a position on.

    Args:
        path: the file; that it does not exist means that nothing was printed.
        offset: the position of the first byte that is wanted.

    Returns:
        The position that the bytes begin at, later than `offset` where output was left out, and the bytes.
    """
    try:
        with open(path, "rb") as file:
            note = _LEFT_OUT.fullmatch(file.readline(100))
            start, begin = (int(note[1]), note.end()) if note else (0, 0)
            position = max(offset, start)
            file.seek(begin + position - start)
            return position, file.read()
    except FileNotFoundError:
        return 0, b""
