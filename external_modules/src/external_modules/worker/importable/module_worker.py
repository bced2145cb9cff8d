"""What a worker script imports in its module's environment.

    from module_worker import serve

    def segment(input_image, *, sigma=1.0, progress):
        progress(0.5, "smoothed")
        return labels

    if __name__ == "__main__":
        serve(segment)

The host puts this file where the script finds it; nothing needs to be installed. Standard library and Python 3.9
only. The rest of the package is imported when a script is served, so that processes which the script starts can
import it too.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

_PROGRESS_EVERY_S = 0.05


class Cancelled(BaseException):  # no Exception: `except Exception` in a script must not swallow it
    """Raised by `progress` in the worker's function when the host gives the call up. A script may clean up on it."""


class Progress:
    """Tells the host how far a call is, and the function that the host gives up.

    Args:
        report: gets fraction and text.
        stop: is set when the host gives up.
    """

    def __init__(self, report: Callable[[float, str], None], stop: threading.Event) -> None:
        self._report = report
        self._stop = stop
        self._next = 0.0

    @property
    def cancelled(self) -> bool:
        """Whether the host gives the call up, for code that must not be interrupted by an exception."""
        return self._stop.is_set()

    def __call__(self, fraction: float, text: str = "") -> None:
        """Report how far the call is, as often as one likes: the host gets 20 reports a second at most.

        Args:
            fraction: 0 to 1.
            text: what is being done.

        Raises:
            Cancelled: the host gives the call up.
        """
        if self._stop.is_set():
            raise Cancelled
        now = time.monotonic()
        if now >= self._next or fraction >= 1:
            self._next = now + _PROGRESS_EVERY_S
            self._report(float(fraction), str(text))


def serve(process: Callable[..., Any]) -> None:
    """Answer the host's calls with a function; returns when the host needs no more.

    Args:
        process: gets the call's arguments by name: numpy arrays, which it may keep and change, and JSON values. If it
            has a parameter `progress`, a `Progress` too. It returns an array, a JSON value, or lists and dicts of
            them. An exception that it raises reaches the host; the next call is answered all the same.

    Raises:
        SystemExit: the script was not started by a host or by the launcher of this package.
    """
    try:
        from external_modules.worker.service import connected_service
    except ImportError:
        raise SystemExit(
            "Start this script through worker/launcher.py of external_modules, or call it from a host"
        ) from None
    takes_progress = "progress" in inspect.signature(process).parameters

    def compute(arguments: dict[str, Any], report: Callable[[float, str], None], stop: threading.Event) -> Any:
        if takes_progress:
            if "progress" in arguments:
                raise TypeError("the argument 'progress' is not the host's to give: the function gets a Progress")
            arguments["progress"] = Progress(report, stop)
        return process(**arguments)

    connected_service().serve(compute, Cancelled)
