"""The log of a module's workers: one file that several hosts may write to, with older ones beside it."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

LIMIT = 10**6
OLD_FILES = 2
TAIL_LINES = 30

_LONGEST_LINE = 2000


class LogFile:
    """Appends to a file; once it is full it is renamed to `.1`, and `.1` to `.2`. Any thread may write.

    The file is not kept open, since Windows would let no other host rename it then.

    Attributes:
        path: the file, which this account alone may read; where it may not write there, one in a temporary folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()  # what is collected as garbage meanwhile may end a worker, which is noted

    def append(self, content: bytes) -> None:
        """Add output. A full disk costs the output, never a call."""
        with self._lock, contextlib.suppress(OSError):
            try:
                self._write(content)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                refused = self.path
                self.path = Path(tempfile.mkdtemp(prefix="external_modules-log-")) / refused.name
                self._write(f"This account may not write to {refused}: {error}\n".encode(errors="replace") + content)

    def _write(self, content: bytes) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.path, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(content)
            size = file.tell()
        if size >= LIMIT:
            self._rotate()

    def note(self, text: str) -> None:
        """Add a line of the host's with the time."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        self.append(f"{stamp}.{int(now % 1 * 1000):03d} {text}\n".encode(errors="replace"))

    def _rotate(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{number}") for number in range(1, OLD_FILES + 1))]
        for number in range(OLD_FILES, 0, -1):
            with contextlib.suppress(OSError):  # Windows renames no file that another host is writing to: next time
                os.replace(names[number - 1], names[number])


class WorkerOutput:
    """Takes what one worker prints: to the log, and its last lines for errors.

    A zero byte marks that all which the worker printed before an error has come; it is no part of the output.
    """

    def __init__(self, log: LogFile) -> None:
        self._log = log
        self._marks = threading.Semaphore(0)
        self._lines: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._rest = b""
        self._lock = threading.Lock()

    def take(self, content: bytes) -> None:
        """Take output as it comes."""
        marks = content.count(b"\0")
        content = content.replace(b"\0", b"")
        if content:
            self._log.append(content)
        with self._lock:
            *lines, rest = (self._rest + content).split(b"\n")
            self._lines.extend(line[:_LONGEST_LINE] for line in lines)
            self._rest = rest[:_LONGEST_LINE]
        if marks:
            self._marks.release(marks)

    def wait_for_mark(self, seconds: float) -> None:
        """Wait until all has come that the worker printed before its last error, or for some time."""
        self._marks.acquire(timeout=seconds)

    def tail(self) -> str:
        """Return the last lines of this worker."""
        with self._lock:
            lines = [*self._lines, self._rest] if self._rest else [*self._lines]
        return "\n".join(line.decode(errors="replace").rstrip("\r") for line in lines[-TAIL_LINES:])
