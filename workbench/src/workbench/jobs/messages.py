"""What a worker prints: text for the log, and lines of JSON that the platform understands."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from typing import IO, Any

from workbench.jobs.log import JobLog

HIDDEN = "***"  # in place of a token

_CHUNK = 2**16
_LONGEST_MESSAGE = 2**14
_MOST_MESSAGES = 100


class OutputReader:
    """Writes output to a job's log without the job's token, and keeps the last progress, the errors and warnings."""

    def __init__(self, log: JobLog, token: str) -> None:
        self._log = log
        self._token = token.encode()
        self._held = b""
        self._line = b""
        self._lock = threading.Lock()
        self._progress: dict[str, Any] | None = None
        self._messages: list[dict[str, Any]] = []
        self._changes = 0
        self._written = 0

    def read_all(self, stream: IO[bytes]) -> None:
        """Read until every writer of the stream is gone."""
        with stream:
            while chunk := os.read(stream.fileno(), _CHUNK):
                self._take(chunk)
        self._write(self._held)
        self._split(b"\n")

    def latest(self) -> dict[str, Any]:
        """Return the last `progress` and all `messages`."""
        with self._lock:
            return {"progress": self._progress, "messages": list(self._messages)}

    def write_changes(self, write: Callable[[dict[str, Any]], object]) -> None:
        """Pass `progress` and `messages` on if they changed since that last succeeded; if it fails, they are kept."""
        with self._lock:
            number = self._changes
        if number != self._written:
            write(self.latest())
            self._written = number

    def _take(self, chunk: bytes) -> None:
        content = (self._held + chunk).replace(self._token, HIDDEN.encode())
        keep = _beginning_of(self._token, content)
        self._held = content[len(content) - keep :]
        self._write(content[: len(content) - keep])

    def _write(self, content: bytes) -> None:
        if content:
            with contextlib.suppress(OSError):  # a full disk must not make the worker wait for a reader
                self._log.append(content)
            self._split(content)

    def _split(self, content: bytes) -> None:
        *lines, rest = (self._line + content).split(b"\n")
        self._line = rest[: _LONGEST_MESSAGE + 1]
        for line in lines:
            self._understand(line)

    def _understand(self, line: bytes) -> None:
        if len(line) > _LONGEST_MESSAGE or not line.lstrip().startswith(b"{"):
            return
        try:
            message = json.loads(line)
            json.dumps(message, ensure_ascii=False, allow_nan=False).encode()  # what Python reads and nobody else does
        except (ValueError, RecursionError):
            return
        with self._lock:
            if message.get("error") or message.get("warning"):
                self._messages = [*self._messages, message][-_MOST_MESSAGES:]
                self._changes += 1
            elif isinstance(message.get("progress"), (int, float)) and not isinstance(message["progress"], bool):
                self._progress = message
                self._changes += 1


def _beginning_of(token: bytes, content: bytes) -> int:
    """Return how many bytes at the end of the content may be the beginning of the token."""
    for length in range(min(len(token) - 1, len(content)), 0, -1):
        if content.endswith(token[:length]):
            return length
    return 0
