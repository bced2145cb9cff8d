"""Label masks: every object as pixels of its own number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.export.objects import Object

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

NOT_ANNOTATED = -1


def draw_labels(
    objects: Sequence[Object], shape: tuple[int, int], *, regions: Sequence[BaseGeometry] | None = None
) -> NDArray[np.int32]:
    """Draw areas as a label mask: object number i has the label i + 1 in the pixels whose centres it covers.

    Where objects overlap, the smaller is on top; of equally large ones the later.

    Args:
        objects: areas.
        shape: (H, W).
        regions: what is fully annotated; pixels outside all of them become -1. None: everything is.
    """
    from rasterio.features import rasterize

    numbered = [(item.geometry.area, item.id, item.geometry, i + 1) for i, item in enumerate(objects) if item.geometry]
    drawn = [(geometry, label) for _, _, geometry, label in sorted(numbered, key=lambda one: (-one[0], one[1]))]
    labels = np.zeros(shape, dtype=np.int32)
    if drawn:
        rasterize(drawn, out=labels)
    if regions is not None:
        inside = np.zeros(shape, dtype=np.uint8)
        if regions:
            rasterize([(region, 1) for region in regions], out=inside)
        labels[inside == 0] = NOT_ANNOTATED
    return labels


def write_labels(path: Path, labels: NDArray[Any]) -> None:
    """Write a label mask as compressed TIFF: uint16, or uint32 for more than 65,535 objects; int32 if it has -1."""
    import tifffile

    dtype = np.int32 if labels.min() < 0 else np.uint16 if labels.max() <= np.iinfo(np.uint16).max else np.uint32
    tifffile.imwrite(path, labels.astype(dtype), compression="zlib", photometric="minisblack")
