"""The two ways of calling a worker: one that stays, and one for each call. Both take and return the same."""

from __future__ import annotations

import atexit
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from external_modules.errors import ExternalModuleError, WorkerError
from external_modules.messages import Message
from external_modules.shared_arrays import ArrayExchange, SharedBlock, UnsuitableValueError
from external_modules.worker_connection import (
    AbortQuestion,
    Limits,
    NotBegunError,
    ProgressCallback,
    WorkerConnection,
    WorkerProgram,
)
from external_modules.worker_log import LogFile

REQUEST_FILE = "request.json"
RESULT_FILE = "result.json"
README_FILE = "README.txt"

_PREFIX = "external_modules-"


class ServerWorker:
    """A worker that stays for the next call, with what it has loaded. One call at a time: others wait for their turn.

    Args:
        program: what to start.
        log: of the module.
        idle_timeout: seconds without a call after which it is ended; the next call starts it anew.
        shared_memory: whether arrays go through shared memory, or else through files.
    """

    def __init__(
        self, program: WorkerProgram, log: LogFile, *, idle_timeout: float = 600.0, shared_memory: bool = True
    ) -> None:
        self.program = program
        self._log = log
        self._idle_timeout = idle_timeout
        self._shared_memory = shared_memory
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._connection: WorkerConnection | None = None
        self._blocks: tuple[SharedBlock, ...] = ()
        self._exchange: ArrayExchange | None = None
        self._number = 0
        self._idle_since = 0.0
        self._process: int | None = None  # that started the worker
        self._caller: int | None = None  # the thread whose call is being computed

    @property
    def pid(self) -> int | None:
        """The running worker's process number."""
        connection = self._connection
        return connection.pid if connection is not None and connection.is_running else None

    def call(
        self,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None,
        progress: ProgressCallback | None = None,
        should_abort: AbortQuestion | None = None,
    ) -> Any:
        """Call the worker's function, see `ExternalModule.call`. Waiting for one's turn does not count as its time."""
        self._leave_to_parent()
        self._refuse_within_call()
        closing = self._closing  # of now: who waits when the worker is closed is not to begin afterwards
        turn = Limits(None, should_abort, closing)
        while not self._turn.acquire(timeout=turn.next_tick()):
            pass
        self._caller = threading.get_ident()
        try:
            return self._call(arguments, Limits(timeout, should_abort, closing), progress)
        finally:
            self._caller = None
            self._idle_since = time.monotonic()
            self._turn.release()

    def start(self, *, timeout: float | None) -> None:
        """Start the worker if it is not running, and wait until it is ready.

        Raises:
            WorkerError: it cannot be started, or takes too long.
        """
        self._leave_to_parent()
        self._refuse_within_call()
        with self._turn:
            self._connect(Limits(timeout, None, self._closing))

    def close(self) -> None:
        """End the worker; a call that it computes is aborted. A later call starts it anew."""
        if self._process not in (None, os.getpid()):
            return  # the worker is that of the process that this one was forked from
        self._refuse_within_call()
        closing, self._closing = self._closing, threading.Event()
        closing.set()
        with self._turn:
            self._part()

    def _call(self, arguments: Mapping[str, Any], limits: Limits, progress: ProgressCallback | None) -> Any:
        for attempt in range(2):
            connection, exchange = self._connect(limits)
            self._number += 1
            with _Noted(connection, self._number) as computed:
                packed = _pack(exchange, arguments)
                try:
                    connection.send({"call": self._number, **packed})
                    answer = connection.converse(self._number, limits, progress)
                except NotBegunError:
                    if attempt:
                        raise
                    continue  # it ended while nobody called it, and the host could not see that yet
                computed.append(_seconds(answer, connection))
                return exchange.unpack(answer)
        raise AssertionError("unreachable")

    def _connect(self, limits: Limits) -> tuple[WorkerConnection, ArrayExchange]:
        if self._connection is not None and self._exchange is not None and self._connection.is_running:
            return self._connection, self._exchange
        self._part()
        folder = _temporary_folder()
        blocks = _make_blocks() if self._shared_memory else ()
        memory = ["--memory", *(str(block.descriptor) for block in blocks)] if blocks else []
        try:
            connection = WorkerConnection(
                self.program,
                folder,
                ["--host", "server", *memory],
                self._log,
                descriptors=[block.descriptor for block in blocks if block.descriptor >= 0],
                remove_folder=True,
            )
        except BaseException:
            for block in blocks:
                block.close()
            raise
        self._connection, self._blocks, self._process = connection, blocks, os.getpid()
        outgoing, incoming = blocks or (None, None)
        self._exchange = ArrayExchange(outgoing, incoming, folder, "argument")
        atexit.register(self.close)
        connection.wait_until_ready(limits)
        self._idle_since = time.monotonic()
        threading.Thread(target=self._leave_when_idle, args=(connection,), name="idle", daemon=True).start()
        return connection, self._exchange

    def _leave_to_parent(self) -> None:
        """Forget the worker in a process that was forked from the one that started it: two cannot talk to it."""
        if self._process not in (None, os.getpid()):
            self._turn = threading.Lock()
            self._connection, self._exchange, self._blocks = None, None, ()
            self._process, self._caller = None, None
            atexit.unregister(self.close)

    def _refuse_within_call(self) -> None:
        """Tell a progress callback that it cannot use the worker that it hears from; it would wait for itself.

        Raises:
            ExternalModuleError: this thread's call is being computed.
        """
        if self._caller == threading.get_ident():
            raise ExternalModuleError(
                f"{self.program} is computing a call, and cannot be called or closed from that call's progress or "
                "should_abort; to give the call up let should_abort return True"
            )

    def _part(self) -> None:
        """End the worker, if there is one, and give back what was for it."""
        if self._connection is not None:
            self._connection.leave()
            atexit.unregister(self.close)
        for block in self._blocks:
            block.close()
        self._connection, self._exchange, self._blocks = None, None, ()

    def _leave_when_idle(self, connection: WorkerConnection) -> None:
        left = self._idle_timeout
        while not connection.ended.wait(max(left, 0.01)):
            left = self._idle_timeout
            if self._turn.acquire(blocking=False):
                try:
                    left = self._idle_since + self._idle_timeout - time.monotonic()
                    if left <= 0 and connection is self._connection:
                        connection.note("leaves: nobody called it for a while")
                        self._part()
                finally:
                    self._turn.release()


class OneShotCall:
    """Starts a worker for each call; arguments and result are files in a folder, which can be kept.

    Args:
        program: what to start.
        log: of the module.
    """

    def __init__(self, program: WorkerProgram, log: LogFile) -> None:
        self.program = program
        self._log = log
        self._closing = threading.Event()

    def call(
        self,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None,
        progress: ProgressCallback | None = None,
        should_abort: AbortQuestion | None = None,
        keep_folder: Path | None = None,
    ) -> Any:
        """Call the worker's function, see `ExternalModule.call`.

        Args:
            arguments: of the function.
            timeout: seconds, from its start on.
            progress: gets fraction and text.
            should_abort: whether to give up.
            keep_folder: where the files of the call stay; a call that was kept there before is replaced.
        """
        limits = Limits(timeout, should_abort, self._closing)
        folder = _temporary_folder() if keep_folder is None else _empty_folder(keep_folder)
        try:
            return self._call(arguments, folder, limits, progress, remove_folder=keep_folder is None)
        finally:
            if keep_folder is None:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Abort the calls that are being computed."""
        closing, self._closing = self._closing, threading.Event()
        closing.set()

    def _call(
        self,
        arguments: Mapping[str, Any],
        folder: Path,
        limits: Limits,
        progress: ProgressCallback | None,
        *,
        remove_folder: bool,
    ) -> Any:
        exchange = ArrayExchange(None, None, folder, "argument", keep_files=True)
        request = _pack(exchange, arguments)
        try:
            (folder / REQUEST_FILE).write_text(json.dumps(request, indent=1), encoding="utf-8")
            (folder / README_FILE).write_text(_readme(self.program, folder), encoding="utf-8")
        except OSError as error:
            raise ExternalModuleError(f"The call cannot be written to {folder}: {error}") from error
        connection = WorkerConnection(
            self.program, folder, ["--host", "one-shot"], self._log, remove_folder=remove_folder
        )
        try:
            with _Noted(connection, 1) as computed:
                connection.wait_until_ready(limits)
                computed.append(_seconds(connection.converse(1, limits, progress), connection))
                answer = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
                return exchange.unpack(answer)
        finally:
            connection.leave()


def _make_blocks() -> tuple[SharedBlock, ...]:
    """Return memory for arguments and for results, or nothing where the system gives none."""
    made: list[SharedBlock] = []
    try:
        for _ in range(2):
            made.append(SharedBlock())
    except OSError:
        for block in made:
            block.close()
        return ()
    return tuple(made)


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        raise ExternalModuleError(f"No temporary folder can be made for a worker: {error}") from error


def _pack(exchange: ArrayExchange, arguments: Mapping[str, Any]) -> Message:
    try:
        return exchange.pack(dict(arguments), "arguments")
    except UnsuitableValueError as error:
        raise ExternalModuleError(str(error)) from error
    except OSError as error:
        raise ExternalModuleError(f"The arguments cannot be passed to the worker: {error}") from error


def _seconds(answer: Message, connection: WorkerConnection) -> float:
    """Return how long the worker computed.

    Raises:
        WorkerError: it answered with an error.
    """
    if "error" not in answer:
        return float(answer["seconds"])
    raise WorkerError(f"{connection.program}: {answer['message']}", answer["traceback"], connection.tail())


class _Noted:
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


def _empty_folder(folder: Path) -> Path:
    """Return a folder for a call, made if need be and without an earlier call's files.

    Raises:
        ExternalModuleError: it holds something else, or cannot be made.
    """
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        present = [path.name for path in folder.iterdir()]
        if present and REQUEST_FILE not in present:
            raise ExternalModuleError(f"{folder} is not empty; name a folder of its own for the call to keep")
        for name in present:
            if name in (REQUEST_FILE, RESULT_FILE, README_FILE) or re.fullmatch(r"(argument|result)-.*\.npy", name):
                (folder / name).unlink()
    except OSError as error:
        raise ExternalModuleError(f"The call cannot be kept in {folder}: {error}") from error
    return folder


def _readme(program: WorkerProgram, folder: Path) -> str:
    command = program.command(folder)
    line = subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
    return (
        f"One call of {program}: {REQUEST_FILE} holds its arguments, whose arrays are the files argument-*.npy;\n"
        f"{RESULT_FILE} and result-*.npy are what came of it. To compute it again, in a terminal:\n\n    {line}\n"
    )
