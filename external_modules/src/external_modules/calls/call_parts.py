"""What both ways of calling share: a folder for the call, its arguments as a message, and its lines in the log."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from external_modules.calls.connection import WorkerConnection
from external_modules.calls.messages import Message
from external_modules.calls.shared_arrays import ArrayExchange, UnsuitableValueError
from external_modules.errors import ExternalModuleError, WorkerError

_PREFIX = "external_modules-"


def temporary_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        raise ExternalModuleError(f"No temporary folder can be made for a worker: {error}") from error


def pack_arguments(exchange: ArrayExchange, arguments: Mapping[str, Any]) -> Message:
    try:
        return exchange.pack(dict(arguments), "arguments")
    except UnsuitableValueError as error:
        raise ExternalModuleError(str(error)) from error
    except OSError as error:
        raise ExternalModuleError(f"The arguments cannot be passed to the worker: {error}") from error


def unpack_result(exchange: ArrayExchange, answer: Message) -> Any:
    try:
        return exchange.unpack(answer)
    except OSError as error:
        raise ExternalModuleError(f"The result cannot be taken from the worker: {error}") from error


def seconds_of(answer: Message, connection: WorkerConnection) -> float:
    """Return how long the worker computed.

    Raises:
        WorkerError: it answered with an error.
    """
    if "error" not in answer:
        return float(answer["seconds"])
    raise WorkerError(f"{connection.program}: {answer['message']}", answer["traceback"], connection.tail())


class NotedCall:
    """Writes the begin and the end of a call to the log."""

    def __init__(self, connection: WorkerConnection, number: int) -> None:
        self._connection = connection
        self._name = f"call {number}"
        self._computed: list[float] = []

    def __enter__(self) -> list[float]:
        self._connection.note(f"{self._name} begins")
        self._begin = time.perf_counter()
        return self._computed

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        text = f"{self._name} {'ends' if error is None else 'fails'} after {time.perf_counter() - self._begin:.3f} s"
        if self._computed:
            text += f", of which it computed {self._computed[0]:.3f} s"
        if error is not None:
            text += f": {type(error).__name__}: {error.args[0] if error.args else ''}"
        self._connection.note(text)
