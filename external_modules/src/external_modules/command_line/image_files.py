"""Images read from TIFF and PNG files, and results written to files: with tifffile and Pillow, which are optional."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from external_modules.command_line.common import count_noun
from external_modules.errors import ExternalModuleError

ENDINGS = (".tif", ".tiff", ".png")

_CHANNEL_AXES = "CS"  # channels, and samples of a pixel such as red, green and blue


@dataclass(frozen=True)
class Image:
    """One channel of an image.

    Attributes:
        pixels: (..., H, W), of the file's dtype.
        axes: a letter for each axis, ending with "YX"; the others as in tifffile ("T", "Z", ...).
        channels: how many the file has.
    """

    pixels: NDArray[Any]
    axes: str
    channels: int


def check_that_images_can_be_read() -> None:
    """Check that the optional packages are there.

    Raises:
        ExternalModuleError: one is missing; says how to install it.
    """
    packages = {"tifffile": "tifffile", "PIL": "pillow"}
    missing = [name for module, name in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ExternalModuleError(
            f"Reading images needs {' and '.join(missing)}, which this Python does not have. Install: "
            f"python -m pip install {' '.join(missing)} (never into the Python of a microscope's software; any other "
            "Python with external_modules will do)"
        )


def read_image(path: Path, channel: int = 0) -> Image:
    """Read one channel of a file; of a TIFF with several images the first.

    Raises:
        ExternalModuleError: it cannot be read, or has no such channel.
    """
    try:
        pixels, axes = _read_png(path) if path.suffix.lower() == ".png" else _read_tiff(path)
    except Exception as error:  # decoders raise whatever comes up in a damaged file
        raise ExternalModuleError(
            f"{path} cannot be read ({error}). See that it is a complete TIFF or PNG file."
        ) from error
    if "Y" not in axes or "X" not in axes or not pixels.size:
        raise ExternalModuleError(f"{path} holds no image: its axes are {axes!r}, its shape {pixels.shape}.")
    others = "".join(axis for axis in axes if axis not in _CHANNEL_AXES + "YX")
    colours = "".join(axis for axis in axes if axis in _CHANNEL_AXES)
    ordered = pixels.transpose([axes.index(axis) for axis in others + "YX" + colours])
    ordered = ordered.reshape(*ordered.shape[: len(others) + 2], -1)
    channels = ordered.shape[-1]
    if not 0 <= channel < channels:
        raise ExternalModuleError(
            f"{path} has {count_noun(channels, 'channel')}, counted from 0; there is no channel {channel}."
        )
    return Image(np.ascontiguousarray(ordered[..., channel]), others + "YX", channels)


def write_labels(path: Path, labels: NDArray[np.int32], axes: str) -> None:
    """Write labels, (..., H, W), as a TIFF file, at once and completely.

    Raises:
        OSError: it cannot be written.
    """
    import tifffile

    new = path.with_name(f"{path.name}.new")
    tifffile.imwrite(new, labels, photometric="minisblack", compression="zlib", metadata={"axes": axes})
    os.replace(new, path)


def write_table(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of equal length as a CSV file, at once and completely.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    with open(new, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    os.replace(new, path)


def _read_tiff(path: Path) -> tuple[NDArray[Any], str]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        return series.asarray(), series.axes


def _read_png(path: Path) -> tuple[NDArray[Any], str]:
    import PIL.Image

    with PIL.Image.open(path) as file:
        pixels = np.asarray(file.convert("RGBA") if file.mode in ("P", "PA") else file)
    return pixels, "YX" if pixels.ndim == 2 else "YXS"
