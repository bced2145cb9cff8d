"""A worker that computes one call after another."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from external_modules.calls.call_parts import NotedCall, pack_arguments, seconds_of, temporary_folder, unpack_result
from external_modules.calls.connection import (
    AbortQuestion,
    Limits,
    NotBegunError,
    ProgressCallback,
    WorkerConnection,
    WorkerProgram,
)
from external_modules.calls.kept_call import KeptCall
from external_modules.calls.shared_arrays import ArrayExchange, SharedBlock
from external_modules.calls.worker_log import LogFile
from external_modules.errors import ExternalModuleError


class ServerWorker:
    """A worker that stays for the next call, with what it has loaded. One call at a time: others wait for their turn.

    Args:
        program: what to start.
        log: of the module.
        idle_timeout: seconds without a call after which it is ended; the next call starts it anew.
        shared_memory: whether arrays go through shared memory, or else through files.
        kept: where the only call of this worker is kept, with its files.
    """

    def __init__(
        self,
        program: WorkerProgram,
        log: LogFile,
        *,
        idle_timeout: float = 600.0,
        shared_memory: bool = True,
        kept: KeptCall | None = None,
    ) -> None:
        self.program = program
        self._log = log
        self._idle_timeout = idle_timeout
        self._shared_memory = shared_memory and kept is None
        self._kept = kept
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
        before = self._connection
        try:
            return self._call_once(arguments, limits, progress)
        except NotBegunError:
            if before is None or self._connection is not before:
                raise  # it had just been started for this call
            # It ended while nobody called it, and the host could not see that yet.
            return self._call_once(arguments, limits, progress)

    def _call_once(self, arguments: Mapping[str, Any], limits: Limits, progress: ProgressCallback | None) -> Any:
        connection, exchange = self._connect()
        self._number += 1
        with NotedCall(connection, self._number) as computed:
            request = {"call": self._number, **pack_arguments(exchange, arguments)}
            if self._kept is not None:
                self._kept.write_request(self.program, request)
            connection.wait_until_ready(limits)
            connection.send(request)
            answer = connection.converse(self._number, limits, progress)
            if self._kept is not None:
                self._kept.write_result(answer)
            computed.append(seconds_of(answer, connection))
            return unpack_result(exchange, answer)

    def _connect(self) -> tuple[WorkerConnection, ArrayExchange]:
        if self._connection is not None and self._exchange is not None and self._connection.is_running:
            return self._connection, self._exchange
        self._part()
        keep = self._kept is not None
        folder = temporary_folder() if self._kept is None else self._kept.folder
        blocks = _make_blocks() if self._shared_memory else ()
        options = ["--memory", *(str(block.descriptor) for block in blocks)] if blocks else []
        options += ["--keep-files"] if keep else []
        try:
            connection = WorkerConnection(
                self.program,
                folder,
                ["--host", *options],
                self._log,
                descriptors=[block.descriptor for block in blocks if block.descriptor >= 0],
                remove_folder=not keep,
            )
        except BaseException:
            for block in blocks:
                block.close()
            raise
        self._connection, self._blocks, self._process = connection, blocks, os.getpid()
        outgoing, incoming = blocks or (None, None)
        self._exchange = ArrayExchange(outgoing, incoming, folder, "argument", keep_files=keep)
        atexit.register(self.close)
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
        while not connection.ended.wait(min(max(left, 0.01), threading.TIMEOUT_MAX)):
            left = self._idle_timeout
            if self._turn.acquire(blocking=False):
                try:
                    left = self._idle_since + self._idle_timeout - time.monotonic()
                    if left <= 0 and connection is self._connection:
                        connection.note("leaves: nobody called it for a while")
                        self._part()
                finally:
                    self._turn.release()


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
