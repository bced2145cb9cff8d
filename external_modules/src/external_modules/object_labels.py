"""Object labels, whose value is an object's number, and what is measured of each object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from external_modules.errors import ExternalModuleError

_LARGEST_LABEL = np.iinfo(np.int32).max


class Calibration(NamedTuple):
    """The size of a pixel. Without calibration x and y are 1 px.

    Attributes:
        x: width of a pixel in `unit`.
        y: height of a pixel in `unit`.
        z: distance of planes in micrometres, 0 where it is not known.
        unit: "µm" or "px".
    """

    x: float = 1.0
    y: float = 1.0
    z: float = 0.0
    unit: str = "px"


def labels_of(result: Any) -> Any:
    """Return the labels in what a worker returned: an array, or a dict that has one as "labels".

    Raises:
        ExternalModuleError: there are none.
    """
    labels = result.get("labels") if isinstance(result, Mapping) else result
    if not isinstance(labels, np.ndarray):
        raise ExternalModuleError(
            f"The worker returned no labels but {type(result).__name__}. It must return an array, or a dict that has "
            'one as "labels".'
        )
    return labels


def to_object_labels(labels: Any) -> NDArray[np.int32]:
    """Return labels as int32 with the same numbers, 0 for background.

    Raises:
        ExternalModuleError: they are no whole numbers from 0 to 2,147,483,647.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind == "f":
        if not np.array_equal(labels, np.rint(labels)):
            raise ExternalModuleError(
                "Object labels must be whole numbers, and these have fractions. If they are probabilities, write "
                "them to a channel output that output() made with makeFloat()."
            )
    elif labels.dtype.kind not in "biu":
        raise ExternalModuleError(f"Object labels must be numbers, not {labels.dtype}.")
    lowest, highest = (labels.min().item(), labels.max().item()) if labels.size else (0, 0)  # compared exactly
    if lowest < 0 or highest > _LARGEST_LABEL:
        raise ExternalModuleError(
            f"Object labels must be from 0 to {_LARGEST_LABEL}; these are from {lowest} to {highest}."
        )
    exact: NDArray[np.int32] = labels.astype(np.int32)
    return exact


def number_on(labels: NDArray[np.int32], highest: int) -> NDArray[np.int32]:
    """Return labels with numbers that go on after `highest`, as for the next plane of a stack.

    Raises:
        ExternalModuleError: they would be over 2,147,483,647.
    """
    return to_object_labels(np.where(labels > 0, labels.astype(np.int64) + highest, 0)) if highest else labels


def count_objects(labels: NDArray[np.int32]) -> int:
    """Return how many objects labels hold."""
    highest = int(labels.max(initial=0))
    if highest > labels.size:  # few objects with large numbers
        return len(np.unique(labels[labels > 0]))
    return int(np.count_nonzero(np.bincount(labels.ravel(), minlength=1)[1:]))


def object_table(labels: Any, image: NDArray[Any], calibration: Calibration | None = None) -> dict[str, NDArray[Any]]:
    """Measure every object of a plane.

    Args:
        labels: (H, W) object labels.
        image: (H, W) intensities.
        calibration: size of a pixel; None for 1 px.

    Returns:
        Columns of equal length, ordered by object: ``ObjectId`` (int64), ``Area``, ``CentroidX``, ``CentroidY``
        and ``MeanIntensity`` (float64). Area and centroid are in the calibration's unit; positions count from
        the outer corner of the top-left pixel, whose centre is at (0.5, 0.5) px. Nothing found: no rows.
    """
    labels = to_object_labels(labels)
    if labels.ndim != 2 or labels.shape != image.shape:
        raise ExternalModuleError(f"Labels of shape {labels.shape} do not fit an image of shape {image.shape}.")
    size = calibration or Calibration()
    pixels = np.flatnonzero(labels)
    which = labels.ravel()[pixels]
    if which.size and which.max() > labels.size:  # few objects with large numbers
        numbers, which = np.unique(which, return_inverse=True)
    else:
        numbers = np.arange(int(which.max(initial=0)) + 1)
    count = np.bincount(which, minlength=len(numbers))
    present = np.flatnonzero(count)
    pixel_count = count[present]

    def mean_of(values: NDArray[Any]) -> NDArray[np.float64]:
        sums = np.bincount(which, weights=values, minlength=len(numbers))
        means: NDArray[np.float64] = sums[present] / pixel_count
        return means

    rows, columns = np.divmod(pixels, labels.shape[1])
    return {
        "ObjectId": numbers[present].astype(np.int64),
        "Area": pixel_count * (size.x * size.y),
        "CentroidX": (mean_of(columns) + 0.5) * size.x,
        "CentroidY": (mean_of(rows) + 0.5) * size.y,
        "MeanIntensity": mean_of(image.ravel()[pixels]),
    }
