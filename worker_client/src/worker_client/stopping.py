"""Ends a worker that is asked to stop.

A job that is cancelled gets SIGTERM and is killed 10 s later. The main thread is interrupted by the exception
`Stopped`, so that `with` and `finally` clean up. Code that swallows the exception gets it again, and a process that has
not ended after 8 s is ended from a watching thread, which works as long as the main thread lets go of the interpreter
lock now and then.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import tempfile
import threading
import time
import weakref
from types import FrameType

from worker_client.errors import Stopped

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SECONDS_BETWEEN_ATTEMPTS = 1.0
_SECONDS_UNTIL_EXIT = 8.0
_SECONDS_FOR_READER = 0.5
_STDOUT = 1

_MESSAGE = {
    "warning": "The tool was stopped. What it had saved on the server by then, such as the annotations of finished "
    "positions, is kept; unfinished work is discarded.",
    "title": "Stopped",
    "info": None,
    "type": "warning",
}


class StopRequest:
    """Whether this process was asked to stop, and what follows from it.

    Attributes:
        signal: number of the first signal that asked, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._main_thread = threading.main_thread().ident
        self._stopped: weakref.ref[Stopped] | None = None
        self._is_settled = False
        self._announcement = threading.Lock()
        self._temporary_folder: str | None = None

    @property
    def exit_code(self) -> int:
        """What a shell would report for the signal: 143 for SIGTERM."""
        return 128 + (self.signal or 0)

    def listen(self) -> None:
        """Begin to react to SIGTERM and SIGINT; they are handled so until the process ends."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        # Python runs signal handlers in the main thread only when that executes bytecode; this file descriptor is
        # written at once, whatever the main thread is doing.
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), name="stop request", daemon=True).start()
        for number in _SIGNALS:
            signal.signal(number, self._interrupt)
        os.register_at_fork(after_in_child=_forget_signals)

    def settle(self) -> None:
        """Interrupt nothing from now on; the process still ends in time if it is asked to."""
        self._is_settled = True

    def announce(self) -> None:
        """Tell the platform once that the worker was stopped. Neither buffers nor locks of others stand in the way."""
        # A pipe that can be written to has room for this line; waiting for a reader that hangs would take for ever.
        if self._announcement.acquire(blocking=False) and select.select([], [_STDOUT], [], _SECONDS_FOR_READER)[1]:
            os.write(_STDOUT, f"\n{json.dumps(_MESSAGE)}\n".encode())

    def use_temporary_folder(self) -> None:
        """Put the temporary files of this process into a folder of its own."""
        # The folder is noted before it exists: a stop may come between any two steps.
        self._temporary_folder = os.path.join(tempfile.gettempdir(), f"worker_{os.urandom(4).hex()}")
        os.mkdir(self._temporary_folder, mode=0o700)
        tempfile.tempdir = os.environ["TMPDIR"] = self._temporary_folder

    def remove_temporary_folder(self) -> None:
        """Remove that folder with whatever was left in it."""
        if self._temporary_folder is not None:
            shutil.rmtree(self._temporary_folder, ignore_errors=True)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
        if self._is_settled or self._is_on_its_way():
            return
        stopped = Stopped("the worker was asked to stop")
        self._stopped = weakref.ref(stopped)
        try:
            raise stopped
        finally:
            # The traceback holds this frame: a variable here would keep the exception alive after it was swallowed.
            del stopped

    def _is_on_its_way(self) -> bool:
        # An exception that is being handled by `with`, `finally` or `except` exists; one that was swallowed does not.
        return self._stopped is not None and self._stopped() is not None

    def _watch(self, reading: int) -> None:
        number = 0
        while number not in _SIGNALS:
            number = os.read(reading, 1)[0]
        if self.signal is None:
            self.signal = number
        end = time.monotonic() + _SECONDS_UNTIL_EXIT
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SECONDS_BETWEEN_ATTEMPTS))
            if not self._is_settled and not self._is_on_its_way() and self._main_thread is not None:
                signal.pthread_kill(self._main_thread, self.signal)
        with contextlib.suppress(OSError):
            self.announce()
        self.remove_temporary_folder()
        os._exit(self.exit_code)


def _forget_signals() -> None:
    # A forked child, such as one that loads training data, is ended by its parent and must not wake the parent's watch.
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
