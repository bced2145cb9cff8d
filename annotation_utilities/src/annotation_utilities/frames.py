"""The axes of a dataset, from the platform's tile metadata.

The metadata name an axis only if it has more than one value; all of them may be absent from an image with one frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annotation_utilities.errors import AnnotationError

_AXES = ("IndexXY", "IndexZ", "IndexT", "IndexC")


def index_range(tiles: Mapping[str, Any]) -> dict[str, int]:
    """Return how many values each axis has: IndexXY, IndexZ, IndexT and IndexC, and others that the metadata name.

    Args:
        tiles: the tile metadata of a large image.
    """
    counts = dict.fromkeys(_AXES, 1)
    for axis, count in (tiles.get("IndexRange") or {}).items():
        counts[axis] = max(1, int(count or 1))
    for frame in tiles.get("frames") or ():
        for axis in _AXES:
            counts[axis] = max(counts[axis], (frame.get(axis) or 0) + 1)
    return counts


def channel_count(tiles: Mapping[str, Any]) -> int:
    """Return the number of channels of a dataset."""
    return index_range(tiles)["IndexC"]


def get_frame_index(frame: Mapping[str, Any], dim: str, default: int = 0) -> int:
    """Return where a frame lies along an axis.

    Args:
        frame: one entry of ``frames`` in the tile metadata.
        dim: the axis, "XY", "Z", "T" or "C"; with or without "Index" before it.
        default: the answer for an axis that the frame does not name.

    Raises:
        AnnotationError: there is no such axis.
    """
    axis = dim if dim.startswith("Index") else f"Index{dim}"
    if axis not in _AXES:
        raise AnnotationError(f"{dim!r} is no axis of a dataset; the axes are XY, Z, T and C.")
    index = frame.get(axis)
    return default if index is None else int(index)


def frame_to_large_image_params(frame: Mapping[str, Any]) -> dict[str, int]:
    """Return a frame's place as the options of a large_image sink's ``addTile``: xy, z, t, c, and other axes alike.

    Axes that the frame does not name are absent.
    """
    return {
        name.removeprefix("Index").lower(): int(index)
        for name, index in frame.items()
        if name.startswith("Index") and name != "Index"
    }
