"""How long something still takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import accumulate

_TELLING_AFTER_S = 0.5  # less says nothing about the rest


class TimeLeft:
    """Estimates from the time that the parts took so far, in proportion to their sizes.

    Args:
        sizes: of the parts, such as bytes.
        clock: in seconds.
    """

    def __init__(self, sizes: Sequence[int], clock: Callable[[], float] = time.monotonic) -> None:
        self._ends = [0, *accumulate(max(size, 1) for size in sizes)]
        self._clock = clock
        self._begin = clock()

    def fraction(self, part: int, fraction: float) -> float:
        """Return how much of all is done when a part is at a fraction and those before it are done."""
        begin, end = self._ends[part : part + 2]
        return (begin + fraction * (end - begin)) / self._ends[-1]

    def text(self, done: float) -> str:
        """Return such as "about 5 min left"; empty as long as nothing can be said.

        Args:
            done: fraction of all, 0 to 1.
        """
        elapsed = self._clock() - self._begin
        # The beginning of the first part would mislead: a worker starts in it, and loads a model.
        if elapsed < _TELLING_AFTER_S or done < self.fraction(0, 0.5):
            return ""
        left = elapsed * (1 - done) / done
        if left < 60:
            return f"about {left:.0f} s left"
        if left < 5400:
            return f"about {left / 60:.0f} min left"
        return f"about {left / 3600:.1f} h left"
