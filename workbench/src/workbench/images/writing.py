"""Datasets as one OME-TIFF file, written plane by plane."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.images.arrangement import Arrangement

_CLASSIC_TIFF_BYTES = 2**32 - 2**25  # leaves room for the directory of a file with 4-byte offsets


def write_dataset(path: Path, dataset: Arrangement, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the planes of a dataset, uncompressed, so that a crop can be read without what lies around it.

    Each position is an image of its own, with the axes TZCYX.

    Args:
        path: a file to overwrite.
        progress: called with the number of planes that are written and of all.

    Raises:
        InvalidImageError: a file of the dataset is damaged, or holds values that cannot be stored.
    """
    import tifffile

    sizes = dataset.sizes
    per_position = (sizes["t"], sizes["z"], sizes["c"])
    total = math.prod(sizes.values())
    size = total * math.prod(dataset.shape) * np.dtype(dataset.dtype).itemsize

    def planes(xy: int) -> Iterator[NDArray[Any]]:
        for number, (t, z, c) in enumerate(itertools.product(*map(range, per_position))):
            yield dataset.read(xy, t, z, c)
            if progress is not None:
                progress(xy * math.prod(per_position) + number + 1, total)

    with tifffile.TiffWriter(path, ome=True, bigtiff=size > _CLASSIC_TIFF_BYTES, byteorder="<") as writer:
        for xy, name in enumerate(dataset.position_names):
            metadata: dict[str, Any] = {"axes": "TZCYX", "Name": name}
            if dataset.channel_names:
                metadata["Channel"] = {"Name": list(dataset.channel_names)}
            if dataset.pixel_size is not None:
                for axis, length in zip("XY", dataset.pixel_size, strict=True):
                    metadata |= {f"PhysicalSize{axis}": length, f"PhysicalSize{axis}Unit": "µm"}
            writer.write(
                planes(xy),
                shape=(*per_position, *dataset.shape),
                dtype=dataset.dtype,
                photometric="minisblack",
                metadata=metadata,
            )
