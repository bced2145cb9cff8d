"""Percentiles from a table of how often each grey value occurs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def percentiles_of_counts(
    counts: NDArray[np.int64], first_value: int, percentages: Sequence[float]
) -> tuple[float, ...]:
    """Return what `numpy.percentile` (method "linear") returns for the values that were counted.

    Args:
        counts: how often the value `first_value + i` occurs, at least one of them positive.
        first_value: the value that the first entry counts.
        percentages: from 0 to 100.
    """
    import numpy as np

    cumulated = np.cumsum(counts)
    last = int(cumulated[-1]) - 1
    results = []
    for percentage in percentages:
        position = (percentage / 100) * last
        below = math.floor(position)
        lower, upper = np.searchsorted(cumulated, [below, min(below + 1, last)], side="right") + first_value
        results.append(_interpolate(float(lower), float(upper), position - below))
    return tuple(results)


def count_values(values: NDArray[Any], first_value: int, length: int) -> NDArray[np.int64]:
    """Return how often each of the integers from `first_value` to `first_value + length - 1` occurs."""
    import numpy as np

    return np.bincount(values.ravel().astype(np.int64) - first_value, minlength=length)


def _interpolate(lower: float, upper: float, fraction: float) -> float:
    """Interpolate as numpy does, from the nearer end, so that the result is the same to the last bit."""
    if fraction >= 0.5:
        return upper - (upper - lower) * (1 - fraction)
    return lower + (upper - lower) * fraction
