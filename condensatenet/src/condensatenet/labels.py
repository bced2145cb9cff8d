"""Label masks: whole numbers per pixel, 0 background, 1 and up instances, -1 where nobody annotated."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from condensatenet.errors import InvalidLabelsError

IGNORED = -1
"""Label of pixels that nobody annotated: they take part neither in training nor in evaluation."""


def check_labels(labels: NDArray[Any], source: str = "The label mask") -> NDArray[np.int32]:
    """Return a label mask as int32 (H, W): 0 background, > 0 instance ids, -1 not annotated.

    Args:
        labels: any integer or boolean type, or floats that are whole numbers.
        source: what to call the mask in an error, for instance its file.

    Raises:
        InvalidLabelsError: the array is not 2-D, is empty, or holds values that are no labels.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.size == 0:
        raise InvalidLabelsError(f"{source} has the shape {labels.shape}; a label mask is one (height, width) plane.")
    if labels.dtype.kind not in "biuf":
        raise InvalidLabelsError(f"{source} is of the type {labels.dtype}; labels are whole numbers.")
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.trunc(labels)):
        raise InvalidLabelsError(
            f"{source} holds fractions or NaN, so it is no label mask. "
            "Give the instance numbers, not a probability map or an image."
        )
    smallest, largest = labels.min(), labels.max()
    if smallest < IGNORED:
        raise InvalidLabelsError(f"{source} holds the value {smallest}; the only negative label is -1 (not annotated).")
    if largest > np.iinfo(np.int32).max:
        raise InvalidLabelsError(f"{source} holds the label {largest}, which is too large. Number instances from 1.")
    return np.ascontiguousarray(labels, dtype=np.int32)
