"""What a training run tells while it works, and how it hears that it should stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from condensatenet.errors import TrainingStopped

ProgressCallback = Callable[[float, str], None]
_SECONDS_BETWEEN_REPORTS = 2.0


class Progress:
    """Reports at most every two seconds, and raises `TrainingStopped` where the user wants to stop.

    Attributes:
        start_ap: AP@0.5 of the start model on the held-out part, None where nothing is held out.
    """

    def __init__(self, callback: ProgressCallback | None, should_stop: Callable[[], bool] | None) -> None:
        self.start_ap: float | None = None
        self._callback = callback
        self._should_stop = should_stop
        self._reported = float("-inf")

    def start(self, finished_epochs: int, epochs: int, batches: int) -> None:
        """Begin to measure the time that an epoch takes."""
        self._began = time.monotonic()
        self._first, self._epochs, self._batches = finished_epochs, epochs, batches

    def step(self, epoch: int, batch: int, loss: float, best_ap: float) -> None:
        """Tell that so many batches of an epoch (counted from 1) are done."""
        self.check_stop()
        done = epoch - 1 + batch / self._batches
        seconds = (time.monotonic() - self._began) / (done - self._first) * (self._epochs - done)
        parts = [f"epoch {epoch} of {self._epochs}", f"loss {loss:.3f}"]
        if self.start_ap is not None:
            parts.append(f"AP@0.5 {max(best_ap, self.start_ap):.3f} (start {self.start_ap:.3f})")
        self.report(done / self._epochs, ", ".join([*parts, f"{format_duration(seconds)} left"]))

    def report(self, fraction: float, message: str, *, always: bool = False) -> None:
        """Call the callback, unless it was called a moment ago."""
        now = time.monotonic()
        if self._callback and (always or now - self._reported >= _SECONDS_BETWEEN_REPORTS):
            self._reported = now
            self._callback(fraction, message)

    def check_stop(self) -> None:
        """Raise `TrainingStopped` if the user wants to stop."""
        if self._should_stop and self._should_stop():
            raise TrainingStopped(
                "training was stopped; run it again with resume to go on from the last finished epoch"
            )


def format_duration(seconds: float) -> str:
    """Return a duration as a person says it: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
