"""Images read from TIFF and PNG files, and results written to files: with tifffile and Pillow, which are optional."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from external_modules.errors import ExternalModuleError
from external_modules.optional_packages import IMAGE_PACKAGES, check_that_packages_are_there

ENDINGS = (".tif", ".tiff", ".png")

_KNOWN_AXES = "TCZSYX"
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

    @property
    def has_unknown_axes(self) -> bool:
        """Whether the file does not say what its pages are, such as planes or channels."""
        return any(
            axis not in _KNOWN_AXES and length > 1 for axis, length in zip(self.axes, self.pixels.shape, strict=True)
        )


@dataclass(frozen=True)
class TczyxImage:
    """A whole image.

    Attributes:
        pixels: (T, C, Z, Y, X), of the file's dtype; an axis that the file does not have has the length 1.
    """

    pixels: NDArray[Any]

    def planes_of(self, channel: int) -> NDArray[Any]:
        """Return the planes of a channel, (T * Z, Y, X): all of the first time point, then of the next."""
        return self.pixels[:, channel].reshape(-1, *self.pixels.shape[-2:])


def prepare_to_read_images(doing: str, packages: Mapping[str, str] = IMAGE_PACKAGES) -> None:
    """Check that the optional packages are there, and let tifffile tell of defects by errors alone.

    Args:
        doing: what needs them, such as "Reading images".
        packages: see `check_that_packages_are_there`.

    Raises:
        ExternalModuleError: one is missing; says how to install it.
    """
    check_that_packages_are_there(doing, packages)
    logging.getLogger("tifffile").addHandler(logging.NullHandler())


def find_images(given: Sequence[Path], *, results: Sequence[str]) -> list[Path]:
    """Return the files, those of folders in order, each with results of its own.

    Args:
        given: files, and folders of them.
        results: endings of the results of an image. What a folder holds with such a name is no image, and two images
            whose results would have the same names are refused.

    Raises:
        ExternalModuleError: one is not there, is no image, or would overwrite another's results.
    """
    images: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(
                file
                for file in path.iterdir()
                if file.suffix.lower() in ENDINGS and file.is_file() and not file.name.endswith(tuple(results))
            )
            if not inside:
                raise ExternalModuleError(f"The folder {path} holds no TIFF or PNG file.")
            images += inside
        elif not path.is_file():
            raise ExternalModuleError(f"There is no file {path}.")
        elif path.suffix.lower() not in ENDINGS:
            raise ExternalModuleError(f"{path} is neither TIFF nor PNG: its name must end with {', '.join(ENDINGS)}.")
        else:
            images.append(path)
    images = list(dict.fromkeys(images))
    owners: dict[str, Path] = {}
    for path in images:
        other = owners.setdefault(path.stem.casefold(), path)
        if other != path:
            raise ExternalModuleError(
                f"{other} and {path} would have the same results {path.stem}{results[0]}. Rename one, or run them one "
                "after the other with an --output of their own."
            )
    return images


def read_image(path: Path, channel: int = 0) -> Image:
    """Read one channel of a file; of a TIFF with several images the first.

    Raises:
        ExternalModuleError: it cannot be read, or has no such channel.
    """
    pixels, axes = _read(path)
    others = "".join(axis for axis in axes if axis not in _CHANNEL_AXES + "YX")
    colours = "".join(axis for axis in axes if axis in _CHANNEL_AXES)
    ordered = pixels.transpose([axes.index(axis) for axis in others + "YX" + colours])
    ordered = ordered.reshape(*ordered.shape[: len(others) + 2], -1)
    channels = ordered.shape[-1]
    if not 0 <= channel < channels:
        raise ExternalModuleError(
            f"{path} has {channels} channel{'' if channels == 1 else 's'}, counted from 0; there is no channel "
            f"{channel}."
        )
    return Image(np.ascontiguousarray(ordered[..., channel]), others + "YX", channels)


def read_tczyx(path: Path, axes: str | None = None) -> TczyxImage:
    """Read a whole file; of a TIFF with several images the first. Colours of a pixel count as channels.

    Args:
        path: of a TIFF or PNG file.
        axes: what the axes of the file are, a letter of "TCZSYX" for each; None for what the file says.

    Raises:
        ExternalModuleError: it cannot be read, or its axes are not known or are others.
    """
    pixels, found = _read(path)
    if axes is not None:
        if len(axes) != pixels.ndim:
            raise ExternalModuleError(
                f"{path} has {pixels.ndim} axes ({found}, shape {pixels.shape}), and axes: {axes} names {len(axes)}."
            )
        found = axes
    unknown = [place for place, axis in enumerate(found) if axis not in _KNOWN_AXES]
    if any(pixels.shape[place] > 1 for place in unknown):
        raise ExternalModuleError(
            f"{path} does not say what its axes are (shape {pixels.shape}, axes {found}). Say it in the params of the "
            'step that loads it, such as "axes: ZYX".'
        )
    pixels = pixels.squeeze(tuple(unknown))
    found = "".join(axis for axis in found if axis in _KNOWN_AXES)
    absent = [axis for axis in "TCZS" if axis not in found]
    pixels, found = pixels[(None,) * len(absent)], "".join(absent) + found
    ordered = pixels.transpose([found.index(axis) for axis in "TCSZYX"])
    time, channels, colours, *rest = ordered.shape
    return TczyxImage(ordered.reshape(time, channels * colours, *rest))


def write_labels(path: Path, labels: NDArray[np.int32], axes: str) -> None:
    """Write labels, (..., H, W), as a TIFF file, at once and completely.

    Raises:
        OSError: it cannot be written.
    """
    import tifffile

    new = path.with_name(f"{path.name}.new")
    tifffile.imwrite(new, labels, photometric="minisblack", compression="zlib", metadata={"axes": axes})
    _put_in_place(new, path)


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
    _put_in_place(new, path)


def _put_in_place(new: Path, path: Path) -> None:
    with open(new, "r+b") as file:
        os.fsync(file.fileno())  # else the name may outlive a power failure, and the content not
    os.replace(new, path)


def _read(path: Path) -> tuple[NDArray[Any], str]:
    try:
        pixels, axes = _read_png(path) if path.suffix.lower() == ".png" else _read_tiff(path)
    except Exception as error:  # decoders raise whatever comes up in a damaged file
        raise ExternalModuleError(
            f"{path} cannot be read ({error}). See that it is a complete TIFF or PNG file."
        ) from error
    if "Y" not in axes or "X" not in axes or not pixels.size:
        raise ExternalModuleError(f"{path} holds no image: its axes are {axes!r}, its shape {pixels.shape}.")
    return pixels, axes


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
