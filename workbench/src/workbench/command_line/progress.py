"""How far a verb is, as a line on stderr now and then."""

from __future__ import annotations

import sys
import time

_SECONDS_BETWEEN_LINES = 2.0


class ProgressLines:
    """Called with what is done and all there is; silent for what takes no time.

    Args:
        noun: what is counted.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._next = time.monotonic() + _SECONDS_BETWEEN_LINES

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_LINES
            print(f"{100 * done // total} %: {done} of {total} {self._noun}", file=sys.stderr, flush=True)
