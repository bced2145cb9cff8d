"""The worker's side of the calls: reads what the host asks for, lets the script's function compute it, and answers.

Runs in the module's environment: standard library, numpy and Python 3.9 only.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from external_modules.calls.messages import (
    CANCELLED,
    RAISED,
    REQUEST_FILE,
    RESULT_FILE,
    UNSUITABLE,
    Message,
    MessageWriter,
    read_messages,
)
from external_modules.process_tree import MARK_VARIABLE, end_with_this_process

if TYPE_CHECKING:
    from external_modules.calls.shared_arrays import ArrayExchange

LEAVE_WITHIN_S = 3.0

Compute = Callable[[dict[str, Any], Callable[[float, str], None], threading.Event], Any]

_services: list[Service] = []


def connect(options: argparse.Namespace) -> Service:
    """Make the service of this process; called once, before anything heavy is imported.

    Args:
        options: of the launcher.
    """
    service = Service(options) if options.host else HandService(options)
    _services.append(service)
    return service


def connected_service() -> Service:
    """Return the service of this process.

    Raises:
        ImportError: the launcher made none.
    """
    if not _services:
        raise ImportError("There is no service in this process")
    return _services[-1]


class Service:
    """Answers a host over a private copy of the pipes that the process was started with.

    What the script or a library prints, from Python or from C, goes to the host's log, and stdin is empty for them.
    Their hold on the real stdin would also block some libraries on Windows while it is being read
    (numpy/numpy#24290).
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._folder: Path = options.folder
        self._keep_files: bool = options.keep_files
        self._memory: list[int] | None = options.memory
        self._host_pipe, self._writer = _take_pipes()
        end_with_this_process()
        if sys.platform != "win32":
            for descriptor in self._memory or ():
                os.set_inheritable(descriptor, False)
            from external_modules.worker.guardian import start_guardian

            mark = os.environ[MARK_VARIABLE]
            removed = str(self._folder) if options.remove_folder else None
            start_guardian(self._host_pipe, mark=mark, folder=removed, grace_s=LEAVE_WITHIN_S)
        faulthandler.enable(2, all_threads=False)
        self._calls: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._number = 0  # of the call that came last
        self._stop = threading.Event()  # its wish to stop

    def serve(self, compute: Compute, cancelled: type[BaseException]) -> None:
        """Answer calls until the host leaves.

        Args:
            compute: gets arguments, a function for progress, and an event that tells it to stop.
            cancelled: what it raises when it heeds that.
        """
        threading.Thread(target=self._read, name="host", daemon=True).start()
        self._writer.send({"ready": _describe()})
        exchange = self._exchange()
        while (message := self._calls.get()) is not None:
            with contextlib.suppress(BrokenPipeError):  # the host is gone; the reading thread knows
                self._writer.send(self._answer(message, exchange, compute, cancelled))

    def fail(self, text: str) -> None:
        """Tell the host that the script cannot be run."""
        _mark_output()
        with contextlib.suppress(OSError):
            self._writer.send({"error": 0, "kind": RAISED, "message": _in_one_line(text), "traceback": text})
        sys.exit(1)

    def _exchange(self) -> ArrayExchange:
        from external_modules.calls.shared_arrays import ArrayExchange, SharedBlock

        if self._memory is None:
            return ArrayExchange(None, None, self._folder, "result", keep_files=self._keep_files)
        incoming, outgoing = (SharedBlock(descriptor) for descriptor in self._memory)
        return ArrayExchange(outgoing, incoming, self._folder, "result")

    def _answer(
        self, message: Message, exchange: ArrayExchange, compute: Compute, cancelled: type[BaseException]
    ) -> Message:
        number = message["call"]
        self._writer.send({"begun": number})

        def report(fraction: float, text: str) -> None:
            self._send_progress(number, fraction, text)

        answer = answer_call(number, message, exchange, compute, cancelled, report, self._stop)
        if "error" in answer:
            _mark_output()
        return answer

    def _send_progress(self, number: int, fraction: float, text: str) -> None:
        self._writer.send({"progress": number, "fraction": fraction, "text": text})

    def _read(self) -> None:
        """Take what the host sends; when it leaves, see that this process ends."""
        with contextlib.suppress(OSError, ValueError):
            for message in read_messages(self._host_pipe):
                if "call" in message:
                    self._stop = threading.Event()
                    self._number = message["call"]
                    self._calls.put(message)
                elif message.get("cancel") == self._number:
                    self._stop.set()
        self._stop.set()
        self._calls.put(None)
        time.sleep(LEAVE_WITHIN_S)
        os._exit(1)  # the guardian, or the system's job, ends what this process has started


class HandService(Service):
    """Computes the call that a folder holds, for somebody who looks for an error."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._folder = options.folder

    def serve(self, compute: Compute, cancelled: type[BaseException]) -> None:
        """Compute the call and print what came of it."""
        from external_modules.calls.shared_arrays import ArrayExchange

        exchange = ArrayExchange(None, None, self._folder, "result", keep_files=True)

        def report(fraction: float, text: str) -> None:
            print(f"{fraction:4.0%} {text}", file=sys.stderr)

        request = json.loads((self._folder / REQUEST_FILE).read_text(encoding="utf-8"))
        answer = answer_call(request["call"], request, exchange, compute, cancelled, report, threading.Event())
        (self._folder / RESULT_FILE).write_text(json.dumps(answer, indent=1), encoding="utf-8")
        if "error" in answer:
            sys.exit(answer["traceback"] or answer["message"])
        print(f"{answer['seconds']:.3f} s; the result is in {self._folder / RESULT_FILE}")

    def fail(self, text: str) -> None:
        """End with what went wrong."""
        sys.exit(text)


def answer_call(
    number: int,
    packed: Message,
    exchange: ArrayExchange,
    compute: Compute,
    cancelled: type[BaseException],
    report: Callable[[float, str], None],
    stop: threading.Event,
) -> Message:
    """Compute one call; whatever happens is an answer."""
    from external_modules.calls.shared_arrays import UnsuitableValueError

    try:
        arguments = exchange.unpack(packed)
        begin = time.perf_counter()
        value = compute(arguments, report, stop)
        seconds = time.perf_counter() - begin
        return {"result": number, "seconds": seconds, **exchange.pack(value, "the worker's result")}
    except cancelled:
        return {"error": number, "kind": CANCELLED, "message": "cancelled", "traceback": ""}
    except UnsuitableValueError as error:
        return {"error": number, "kind": UNSUITABLE, "message": str(error), "traceback": ""}
    except BaseException as error:  # also SystemExit: a script's function does not decide when its worker leaves
        message = "".join(traceback.format_exception_only(type(error), error)).strip()
        text = "".join(traceback.format_exception(type(error), error, _own_part(error)))
        return {"error": number, "kind": RAISED, "message": message, "traceback": text}


def _own_part(error: BaseException) -> Any:
    """Return the traceback from the script's function on, without the frames of this package."""
    part = error.__traceback__
    while part is not None and part.tb_frame.f_code.co_filename in (__file__, _worker_file()):
        part = part.tb_next
    return part or error.__traceback__


def _worker_file() -> str | None:
    return getattr(sys.modules.get("module_worker"), "__file__", None)


def _take_pipes() -> tuple[int, MessageWriter]:
    """Move the host's pipes to private descriptors, that neither prints nor child processes reach."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    return incoming, MessageWriter(outgoing)


def _mark_output() -> None:
    """Let the host know when all has reached it that was printed so far."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(2, b"\0")


def _in_one_line(text: str) -> str:
    """Return a traceback's last line; of a script that is no Python also where, which is in another line."""
    lines = [line.strip() for line in text.strip().splitlines()]
    places = [line for line in lines if line.startswith('File "')]
    is_no_python = lines[-1].startswith(("SyntaxError:", "IndentationError:", "TabError:"))
    return f"{lines[-1]} ({places[-1]})" if is_no_python and places else lines[-1]


def _describe() -> dict[str, Any]:
    import numpy

    return {"process": os.getpid(), "python": sys.version.split()[0], "numpy": numpy.__version__}
