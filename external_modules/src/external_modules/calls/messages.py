"""The lines of JSON that host and worker exchange over two pipes.

Both sides import this module, the worker's in its own environment: standard library and Python 3.9 only.

From the host: {"call": n, ...packed arguments}, {"cancel": n}.
From the worker: {"ready": {...}}, {"begun": n}, {"progress": n, "fraction": f, "text": t},
{"result": n, "seconds": s, ...packed result}, {"error": n, "kind": k, "message": m, "traceback": t}.

`n` is the number of a call; an error before the first call has the number 0. The end of the host's pipe tells the
worker to leave.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]

# What an error is: the function raised, it heeded the wish to stop, or it returned what cannot be sent.
RAISED = "raised"
CANCELLED = "cancelled"
UNSUITABLE = "unsuitable"

# The files of a one-shot call; both have the form of a message.
REQUEST_FILE = "request.json"
RESULT_FILE = "result.json"

_CHUNK = 2**16


def line_of(message: Message) -> bytes:
    """Return the line that stands for a message."""
    return json.dumps(message).encode("ascii") + b"\n"


def write_line(descriptor: int, line: bytes) -> None:
    """Write a whole line to a pipe.

    Raises:
        OSError: nobody reads any more.
    """
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class MessageWriter:
    """Writes messages to a pipe, whole ones, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write one message.

        Raises:
            OSError: nobody reads any more.
        """
        line = line_of(message)
        with self._lock:
            write_line(self._descriptor, line)


def read_messages(descriptor: int) -> Iterator[Message]:
    """Yield the messages of a pipe until every writer is gone.

    Raises:
        ValueError: something else than messages came.
    """
    held: list[bytes] = []
    while chunk := os.read(descriptor, _CHUNK):
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            yield json.loads(b"".join([*held, line]))
            held = []
        held.append(rest)
