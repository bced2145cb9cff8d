"""Size, place, shape and brightness of the instances of a label mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from condensatenet.errors import InvalidImageError
from condensatenet.labels import check_labels

_BLOCK_PIXELS = 2**22  # rows are taken in blocks of about this many pixels, which bounds the memory of a large image


def measure_instances(labels: NDArray[Any], image: ArrayLike | None = None) -> dict[str, NDArray[Any]]:
    """Measure every instance of a label mask.

    Coordinates have their origin at the top-left corner of pixel (0, 0), x to the right and y down: the centre of that
    pixel is (0.5, 0.5). (scikit-image counts from pixel centres; subtract 0.5 from the centroids to get its numbers.)

    Args:
        labels: (H, W) label mask; 0 and -1 are no instances.
        image: (H, W) intensities of the same frame.

    Returns:
        Columns of equal length, ordered by label: ``label``; ``area_px``; ``centroid_x``, ``centroid_y``; the bounding
        box ``bbox_x0``, ``bbox_y0``, ``bbox_x1``, ``bbox_y1`` (outer corners, so x1 - x0 is its width);
        ``equivalent_diameter_px`` (of the circle with that area); ``major_axis_px``, ``minor_axis_px`` (of the ellipse
        with the same second moments of pixel centres) and its ``eccentricity`` (0 circle, towards 1 elongated); with an
        image also ``mean_intensity``, ``max_intensity`` and ``total_intensity``. Counts and boxes are int64, ``label``
        is int32, the rest float64.

    Raises:
        InvalidLabelsError: see :func:`check_labels`.
        InvalidImageError: the image has another shape than the labels.
    """
    labels = check_labels(labels)
    height, width = labels.shape
    if image is not None:
        image = np.asarray(image)
        if image.shape != labels.shape:
            raise InvalidImageError(f"The image has the shape {image.shape} and its label mask {labels.shape}.")
    block_rows = max(1, _BLOCK_PIXELS // width)
    starts = range(0, height, block_rows)
    ids = np.unique(np.concatenate([np.unique(labels[start : start + block_rows]) for start in starts]))
    ids = ids[ids > 0]
    count = len(ids)

    area = np.zeros(count, np.int64)
    # Sums of x, y, x * x, x * y, y * y, and of the intensity.
    sums = np.zeros((6, count))
    low = np.full((2, count), max(height, width), np.int64)
    high = np.zeros((2, count), np.int64)
    brightest = np.full(count, -np.inf)
    for start in starts:
        block = labels[start : start + block_rows]
        rows, columns = np.nonzero(block > 0)
        which = np.searchsorted(ids, block[rows, columns])
        rows += start
        area += np.bincount(which, minlength=count)
        x, y = columns.astype(np.float64), rows.astype(np.float64)
        for total, values in zip(sums, (x, y, x * x, x * y, y * y), strict=False):
            total += np.bincount(which, weights=values, minlength=count)
        for axis, positions in enumerate((columns, rows)):
            np.minimum.at(low[axis], which, positions)
            np.maximum.at(high[axis], which, positions)
        if image is not None:
            intensities = image[rows, columns].astype(np.float64)
            sums[5] += np.bincount(which, weights=intensities, minlength=count)
            np.maximum.at(brightest, which, intensities)

    sum_x, sum_y, sum_xx, sum_xy, sum_yy, total_intensity = sums
    mean_x, mean_y = sum_x / area, sum_y / area
    variance_x = sum_xx / area - mean_x**2
    variance_y = sum_yy / area - mean_y**2
    covariance = sum_xy / area - mean_x * mean_y
    # Eigenvalues of the 2 x 2 covariance matrix; rounding can push the smaller just below 0.
    middle = (variance_x + variance_y) / 2
    spread = np.hypot((variance_x - variance_y) / 2, covariance)
    larger, smaller = middle + spread, np.clip(middle - spread, 0, None)
    flatness = np.divide(smaller, larger, out=np.ones(count), where=larger > 0)
    columns_of_table: dict[str, NDArray[Any]] = {
        "label": ids,
        "area_px": area,
        "centroid_x": mean_x + 0.5,
        "centroid_y": mean_y + 0.5,
        "bbox_x0": low[0],
        "bbox_y0": low[1],
        "bbox_x1": high[0] + 1,
        "bbox_y1": high[1] + 1,
        "equivalent_diameter_px": np.sqrt(4 * area / np.pi),
        "major_axis_px": 4 * np.sqrt(larger),
        "minor_axis_px": 4 * np.sqrt(smaller),
        "eccentricity": np.sqrt(1 - flatness),
    }
    if image is not None:
        columns_of_table["mean_intensity"] = total_intensity / area
        columns_of_table["max_intensity"] = brightest
        columns_of_table["total_intensity"] = total_intensity
    return columns_of_table
