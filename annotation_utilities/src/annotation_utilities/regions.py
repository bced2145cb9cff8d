"""What is annotated inside a region: its box in the frame, and the label mask of that box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from annotation_utilities.geometry import geometries_to_labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in whole pixels; right and bottom are the first pixels outside."""


def crop_box(geometry: BaseGeometry, shape: tuple[int, int]) -> Box | None:
    """Return the smallest box of whole pixels around what lies of a geometry inside a frame of `shape` (H, W).

    None if nothing of it lies inside.
    """
    import shapely

    height, width = shape
    inside = geometry.intersection(shapely.box(0, 0, width, height))
    if inside.area == 0:
        return None
    left, top, right, bottom = inside.bounds
    # An intersection is rounded, too, and may stand out of the frame by a trace.
    box = (
        max(0, math.floor(left)),
        max(0, math.floor(top)),
        min(width, math.ceil(right)),
        min(height, math.ceil(bottom)),
    )
    return box if box[0] < box[2] and box[1] < box[3] else None


def region_label_mask(region: BaseGeometry, annotations: Sequence[BaseGeometry], box: Box) -> NDArray[np.int32]:
    """Draw annotations into the label mask of a region.

    Annotations are drawn where they are and cut at the region's outline; of two that overlap, the smaller lies on top.
    The mask is the same whatever the order of `annotations`.

    Args:
        region: polygon in which every instance is annotated.
        annotations: polygons of the instances; those outside the region leave no trace.
        box: the part of the frame to draw, for instance the region's :func:`crop_box`.

    Returns:
        int32 (bottom - top, right - left): -1 where a pixel's centre is outside the region, 0 background, from 1 up
        one number per instance. An instance that covers no pixel's centre leaves its number unused.
    """
    import numpy as np
    import shapely

    left, top, right, bottom = box
    candidates = np.array(annotations, dtype=object)
    near = candidates[shapely.intersects(candidates, shapely.box(*box))]
    # Numbered in an order that is a matter of the polygons alone.
    ordered = sorted(near, key=lambda polygon: (-polygon.area, polygon.bounds, polygon.wkb))
    shape = (bottom - top, right - left)
    labels = geometries_to_labels(dict(enumerate(ordered, start=1)), shape, origin=(left, top))
    inside = geometries_to_labels({1: region}, shape, origin=(left, top))
    return np.where(inside > 0, labels, np.int32(-1))
