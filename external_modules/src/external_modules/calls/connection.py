"""A running worker as the host sees it: its process, the messages, its log, and what its end was."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from external_modules.calls.messages import Message, line_of, read_messages, write_line
from external_modules.calls.worker_log import LogFile, WorkerOutput
from external_modules.errors import CallAbortedError, WorkerError, WorkerTimeoutError
from external_modules.process_tree import ProcessTree

GRACE_S = 2.0

_TICK_S = 0.05
_LAST_OUTPUT_S = 1.0
_CHUNK = 2**16
_LAUNCHER = Path(__file__).resolve().parents[1] / "worker" / "launcher.py"


class NotBegunError(WorkerError):
    """The worker ended before it began a call, so that another may compute it."""


class _TimeOverError(Exception):
    """The time of a call is over; no TimeoutError, which a host's own function may raise too."""


ProgressCallback = Callable[[float, str], object]
AbortQuestion = Callable[[], bool]


@dataclass(frozen=True)
class WorkerProgram:
    """What a worker is started from.

    Attributes:
        module: the module's name, for messages.
        python: the interpreter of its environment.
        script: the worker script.
        environment: all variables that it gets.
        scripts: the state of the Python files beside the script.
    """

    module: str
    python: Path
    script: Path
    environment: Mapping[str, str]
    scripts: tuple[tuple[str, int, int], ...] = ()

    def is_as(self, other: WorkerProgram) -> bool:
        """Return whether a worker of the one does what a worker of the other does."""
        return (self.python, self.script, self.scripts) == (other.python, other.script, other.scripts)

    def command(self, folder: Path, *options: str) -> list[str]:
        """Return the command that runs it; without options, a call that somebody kept in a folder."""
        return [str(self.python), "-I", "-X", "utf8", str(_LAUNCHER), str(self.script), str(folder), *options]

    def __str__(self) -> str:
        return f"{self.module}/{self.script.name}"


class Limits:
    """How long a call may be waited for.

    Args:
        timeout: seconds from now, None for no limit.
        should_abort: is asked about 20 times a second whether to give up.
        closing: is set when the worker is being closed.
    """

    def __init__(self, timeout: float | None, should_abort: AbortQuestion | None, closing: threading.Event) -> None:
        self.timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._should_abort = should_abort
        self._closing = closing

    def next_tick(self) -> float:
        """Return how many seconds may be waited before this is asked again.

        Raises:
            CallAbortedError: the host gives up.
            _TimeOverError: so it is.
        """
        if self._closing.is_set():
            raise CallAbortedError("The call was given up because its module was closed")
        if self._should_abort is not None and self._should_abort():
            raise CallAbortedError("The call was aborted")
        if self._deadline is None:
            return _TICK_S
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _TimeOverError
        return min(_TICK_S, left)


class WorkerConnection:
    """A worker that was started; it must be ended by `end` or `leave`.

    Args:
        program: what to start.
        folder: of the call, or for arrays; is the caller's.
        options: for the launcher.
        log: of the module.
        descriptors: of shared memory.
        remove_folder: whether the folder goes with the worker.

    Raises:
        WorkerError: it cannot be started.
    """

    def __init__(
        self,
        program: WorkerProgram,
        folder: Path,
        options: Sequence[str],
        log: LogFile,
        *,
        descriptors: Sequence[int] = (),
        remove_folder: bool = False,
    ) -> None:
        self.program = program
        self._log = log
        self._folder = folder if remove_folder else None
        self._output = WorkerOutput(log)
        self._received: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._code: int | None = None
        self._ready = False
        self.ended = threading.Event()
        try:
            self._tree = ProcessTree(
                program.command(folder, *options, *(["--remove-folder"] if remove_folder else [])),
                environment=program.environment,
                folder=program.script.parent,
                descriptors=descriptors,
            )
        except OSError as error:
            self._remove_folder()
            raise WorkerError(f"The worker {program} cannot be started: {error}") from error
        process = self._tree.process
        assert process.stdin and process.stdout and process.stderr
        self._pipes = (process.stdin, process.stdout, process.stderr)
        self._threads = [
            threading.Thread(target=target, args=(pipe,), name=f"{program}", daemon=True)
            for target, pipe in zip(
                (self._write_messages, self._read_messages, self._read_output), self._pipes, strict=True
            )
        ]
        for thread in self._threads:
            thread.start()
        self.note("started")

    @property
    def pid(self) -> int:
        """The worker's process number."""
        return self._tree.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it can take a call."""
        return not self.ended.is_set() and self._tree.process.poll() is None

    def note(self, text: str) -> None:
        """Add a line to the log."""
        self._log.note(f"[{self.pid}] {self.program} {text}")

    def tail(self) -> str:
        """Return the last lines that it printed."""
        return self._output.tail()

    def wait_until_ready(self, limits: Limits) -> None:
        """Wait until the script serves, if it does not yet; nothing is lost by ending it before.

        Raises:
            WorkerError: it ended, or took too long.
            CallAbortedError: the host gives up.
        """
        if self._ready:
            return
        try:
            message = self._receive(limits)
        except _TimeOverError:
            self.end()
            raise WorkerTimeoutError(
                f"The worker {self.program} was not ready after {limits.timeout:g} s and was ended. If it loads a lot, "
                "give the call a longer timeout.",
                log_tail=self.tail(),
            ) from None
        except BaseException:
            self.end()
            raise
        if "ready" not in message:
            self.end()
            raise WorkerError(
                f"The worker script {self.program} cannot be run: {message.get('message')}",
                str(message.get("traceback", "")),
                self.tail(),
            )
        self._ready = True
        about = message["ready"]
        self.note(f"is ready: process {about['process']}, Python {about['python']}, numpy {about['numpy']}")

    def send(self, message: Message) -> None:
        """Send a message, without waiting for a worker that does not read; that it has ended is seen by `converse`."""
        self._lines.put(line_of(message))

    def converse(self, number: int, limits: Limits, progress: ProgressCallback | None) -> Message:
        """Wait until a call is computed; afterwards the worker is ready for the next, or has ended.

        Args:
            number: of the call.
            limits: how long to wait.
            progress: gets fraction and text, in this thread.

        Returns:
            The worker's result or error.

        Raises:
            WorkerError: it ended, or took too long.
            NotBegunError: it ended before it had begun to compute.
            CallAbortedError: the host gives up.
        """
        begun = False
        try:
            while True:
                try:
                    message = self._receive(limits)
                except WorkerError as error:
                    raise error if begun else NotBegunError(*error.args) from None
                if message.get("progress") == number:
                    if progress is not None:
                        progress(message["fraction"], message["text"])
                elif message.get("begun") == number:
                    begun = True
                elif message.get("result") == number or message.get("error") in (0, number):
                    return message  # else it is about a call before, whose thread goes on or that Ctrl-C ended
        except _TimeOverError:
            how = self._stop_call(number)
            raise WorkerTimeoutError(
                f"{self.program} took longer than {limits.timeout:g} s and {how}. If it needs that long, give the call "
                "a longer timeout.",
                log_tail=self.tail(),
            ) from None
        except BaseException:
            self._stop_call(number)
            raise

    def leave(self) -> None:
        """Ask the worker to leave, and end what is left of it a little later."""
        self._let_go()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._tree.process.wait(GRACE_S)
        self.end()

    def end(self) -> int:
        """End the worker and all that it started, if it has not ended, and return its exit code."""
        with self._lock:
            if self._code is None:
                self._code = self._tree.end()
                self._let_go()
                for thread in self._threads:
                    thread.join(_LAST_OUTPUT_S)
                if not any(thread.is_alive() for thread in self._threads):
                    for pipe in self._pipes:
                        pipe.close()
                self._remove_folder()
                self.note(f"has ended {describe_code(self._code)}")
                self.ended.set()
            return self._code

    def _stop_call(self, number: int) -> str:
        """Ask, wait a little, end; return what became of the worker."""
        grace = Limits(GRACE_S, None, threading.Event())
        try:
            self.send({"cancel": number})
            while not {"result", "error"} & self._receive(grace).keys():
                pass
        except (_TimeOverError, WorkerError):
            self.end()
            return "was ended"
        except BaseException:
            self.end()
            raise
        return "stopped when it was asked to"

    def _receive(self, limits: Limits) -> Message:
        """Return the next message.

        Raises:
            WorkerError: the worker has ended.
            CallAbortedError, _TimeOverError: see `Limits`.
        """
        while True:
            running = self._tree.process.poll() is None  # a child may hold its pipe open
            try:
                message = self._received.get(timeout=limits.next_tick() if running else _TICK_S)
            except queue.Empty:
                if running:
                    continue
                message = None
            if message is None:
                raise self._explain_end()
            if "error" in message:
                self._output.wait_for_mark(_LAST_OUTPUT_S)
            return message

    def _explain_end(self) -> WorkerError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._tree.process.wait(GRACE_S)
        code = self.end()
        hint = ""
        if code == 0:
            hint = " Does the script call serve(...)?"
        elif code == -getattr(signal, "SIGKILL", 0):
            hint = " Was there too little memory?"
        return WorkerError(
            f"The worker {self.program} ended {describe_code(code)}.{hint} The next call starts a new one.",
            log_tail=self.tail(),
        )

    def _let_go(self) -> None:
        """Have the pipe to the worker closed, which tells it to leave."""
        self._lines.put(None)

    def _write_messages(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError), pipe:
            while (line := self._lines.get()) is not None:
                write_line(pipe.fileno(), line)

    def _read_messages(self, pipe: IO[bytes]) -> None:
        try:
            for message in read_messages(pipe.fileno()):
                self._received.put(message)
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            text = f"what it answered cannot be read ({error!r})"
            self._received.put({"error": 0, "message": text, "traceback": ""})
        self._received.put(None)

    def _read_output(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError):
            while content := os.read(pipe.fileno(), _CHUNK):
                self._output.take(content)

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def describe_code(code: int) -> str:
    """Return how a process ended, in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"by signal {signal.Signals(-code).name} ({-code})"
    if sys.platform == "win32" and code > 0xFFFF:
        return f"with code 0x{code:08X}"
    return f"with exit code {code}"
