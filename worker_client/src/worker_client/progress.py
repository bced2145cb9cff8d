"""Tells the platform how far a worker is."""

from __future__ import annotations

import time

_SECONDS_BETWEEN_LINES = 0.5
_SECONDS_BEFORE_ESTIMATE = 3.0
_PART_BEFORE_ESTIMATE = 0.01


class Progress:
    """Sends progress to the platform, at most twice a second, with the time that is probably left.

    The first call, a call with a new title, and calls at fraction 1 are always sent. So a title should name a phase
    ("Training") and the info should hold what changes often ("epoch 3 of 100").

    >>> progress = Progress("Finding condensates")
    >>> progress(0.5, "position 1 of 2")
    {"progress": 0.5, "title": "Finding condensates", "info": "position 1 of 2"}

    Args:
        title: the phase that is shown until another title is given.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._sent_at = float("-inf")
        self._phase_began_at = time.monotonic()
        self._phase_began_with: float | None = None

    def __call__(self, fraction: float, info: str = "", *, title: str | None = None) -> None:
        """Send how much of the whole work is done.

        Args:
            fraction: 0 to 1 of all phases together; values outside are moved to the nearest of both, NaN to 0.
            info: one short line.
            title: begins a new phase; the time left is then estimated from the speed of this phase alone.
        """
        now = time.monotonic()
        fraction = min(float(fraction), 1.0) if fraction > 0 else 0.0
        is_new_phase = title is not None and title != self._title
        if title is not None:
            self._title = title
        if is_new_phase or self._phase_began_with is None:
            self._phase_began_at, self._phase_began_with = now, fraction
        if not is_new_phase and fraction < 1 and now - self._sent_at < _SECONDS_BETWEEN_LINES:
            return
        # Imported when needed, so that importing this package stays cheap.
        from annotation_client.utils import sendProgress

        self._sent_at = now
        left = self._time_left(fraction, self._phase_began_with, now - self._phase_began_at)
        sendProgress(fraction, self._title, ", ".join(part for part in (info, left) if part))

    @staticmethod
    def _time_left(fraction: float, began_with: float, elapsed: float) -> str:
        done = fraction - began_with
        if elapsed < _SECONDS_BEFORE_ESTIMATE or done < _PART_BEFORE_ESTIMATE or fraction >= 1:
            return ""
        return f"about {_duration_text(elapsed / done * (1 - fraction))} left"


def update_progress(processed: int, total: int, message: str) -> None:
    """Send the progress of a loop over `total` steps: at most about a hundred lines, the last step always.

    Args:
        processed: number of finished steps.
        total: number of steps.
        message: what the loop does.
    """
    if processed < total and processed % max(total // 100, 1):
        return
    from annotation_client.utils import sendProgress

    sendProgress(processed / total if total else 1.0, message, f"{processed}/{total}")


def _duration_text(seconds: float) -> str:
    if seconds < 55:
        return f"{max(5 * round(seconds / 5), 5)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
