"""TIFF files for import: one image, an ImageJ hyperstack, or an OME-TIFF with any axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import InvalidImageError
from workbench.images import ome
from workbench.images.input_files import AXES, Description, InputFile
from workbench.images.tiff_planes import SeriesPlanes, check_page_chain

if TYPE_CHECKING:
    from pathlib import Path

    from tifffile import TiffFile, TiffPageSeries

_AXIS_OF_LETTER = {"T": "t", "Z": "z", "C": "c", "S": "c", "P": "xy", "R": "xy", "M": "xy"}
_UNLABELLED = "IQ"  # tifffile's letters for an axis without a meaning, which is taken for Z
_PALETTE, _COLOURS = 3, (2, 6)  # TIFF PhotometricInterpretation; RGB and YCbCr
_ALPHA = (1, 2)  # TIFF ExtraSamples


class TiffInput(InputFile):
    """A TIFF file. Its series of equal images are positions; its reduced versions and previews are left out."""

    def __init__(self, path: Path) -> None:
        self._tiff: TiffFile | None = None
        self._planes: dict[int, SeriesPlanes] = {}
        super().__init__(path)

    def close(self) -> None:
        """Close the file until it is read again."""
        self._planes = {}
        if self._tiff is not None:
            self._tiff.close()
            self._tiff = None

    def _series(self) -> list[TiffPageSeries]:
        import tifffile

        if self._tiff is None:
            self._tiff = tifffile.TiffFile(self.path)
        # The first image may be marked reduced by odd writers; any other that is, is a preview.
        return [series for i, series in enumerate(self._tiff.series) if i == 0 or not series.keyframe.is_reduced]

    def _series_planes(self, number: int) -> SeriesPlanes:
        if number not in self._planes:
            # Positions are read one after the other.
            self._planes = {number: SeriesPlanes(self._series()[number])}
        return self._planes[number]

    def _describe(self) -> Description:
        series = self._series()
        self._check_series(series)
        first, page = series[0], series[0].keyframe
        tiff, planes = page.parent, self._series_planes(0)
        check_page_chain(tiff)

        # ImageJ's palettes are only for display.
        has_palette = page.photometric == _PALETTE and page.colormap is not None and not tiff.is_imagej
        self._palette = _Palette(np.asarray(page.colormap)) if has_palette else None
        length = dict(zip(planes.plane_axes, first.shape[len(planes.axes) :], strict=True))
        self._has_alpha = "S" in length and any(extra in _ALPHA for extra in page.extrasamples)
        samples = length.pop("S", 1) - self._has_alpha
        colour = samples == 3 and page.photometric in _COLOURS
        letters = [*zip(planes.axes, planes.shape, strict=True), *length.items()]
        self._letters = self._sort_letters([("series", len(series)), *letters, ("S", 1 if colour else samples)])
        self._samples = slice(0, 3) if colour else None

        dtype = self._stored_dtype(first.dtype)
        if self._palette is not None:
            dtype, colour = self._palette.dtype(dtype), self._palette.colour
        sizes = {axis: math.prod(size for _, size in parts) for axis, parts in self._letters.items()}
        return Description(
            sizes=sizes,
            shape=(length["Y"], length["X"]),
            dtype=dtype,
            colour=colour,
            channel_names=ome.channel_names(tiff, sizes["c"]),
            pixel_size=ome.pixel_size(tiff),
        )

    def _check_series(self, series: Sequence[TiffPageSeries]) -> None:
        if not series or not {"X", "Y"} <= set(series[0].axes) or not series[0].size:
            raise InvalidImageError(f"{self.path}: holds no image.")
        first = series[0]
        for other in series[1:]:
            if (other.axes, other.shape, other.dtype) != (first.axes, first.shape, first.dtype):
                raise InvalidImageError(
                    f"{self.path}: holds images of different kinds ({_kind(first)} and {_kind(other)}). Save those "
                    "that belong together as a file of their own."
                )

    def _sort_letters(self, letters: Sequence[tuple[str, int]]) -> dict[str, list[tuple[str, int]]]:
        """Tell which of tifffile's axes make up each of ours."""
        parts: dict[str, list[tuple[str, int]]] = {axis: [] for axis in AXES}
        unlabelled = [size for letter, size in letters if letter in _UNLABELLED and size > 1]
        if len(unlabelled) > 1 or (unlabelled and any(letter == "Z" and size > 1 for letter, size in letters)):
            raise InvalidImageError(
                f"{self.path}: does not say what its axes (of {', '.join(map(str, unlabelled))} planes) mean. Save it "
                "as an ImageJ hyperstack or as OME-TIFF."
            )
        for letter, size in letters:
            if letter == "series":
                parts["xy"].append((letter, size))
            elif letter in _AXIS_OF_LETTER or letter in _UNLABELLED:
                parts[_AXIS_OF_LETTER.get(letter, "z")].append((letter, size))
            elif letter not in "YX" and size > 1:
                raise InvalidImageError(
                    f"{self.path}: has an axis ({letter}, of {size} planes) besides position, time, Z and channel. "
                    "Save each part of it as a file of its own."
                )
        return parts

    def _read(self, index: Mapping[str, int]) -> NDArray[Any]:
        at: dict[str, int] = {}
        for axis, parts in self._letters.items():
            if parts:
                places = np.unravel_index(index[axis], [size for _, size in parts])
                for (letter, size), place in zip(parts, places, strict=True):
                    if size > 1:
                        at[letter] = int(place)
        planes = self._series_planes(at.get("series", 0))
        outer = [at.get(letter, 0) for letter in planes.axes]
        page = planes.read(int(np.ravel_multi_index(outer, planes.shape)) if outer else 0)
        if self._has_alpha:
            self._check_opaque(page.take(-1, axis=planes.plane_axes.index("S")))
        wanted = {"Y": slice(None), "X": slice(None), "S": at.get("S", 0) if self._samples is None else self._samples}
        page = page[tuple(wanted.get(letter, at.get(letter, 0)) for letter in planes.plane_axes)]
        left = [letter for letter in planes.plane_axes if isinstance(wanted.get(letter), slice)]
        page = page.transpose([left.index(letter) for letter in "SYX" if letter in left])
        samples = page if page.ndim == 3 else page[None]
        return samples if self._palette is None else self._palette.look_up(samples[0])


class _Palette:
    """The colours of a palette image, (3, K) of 16 bits.

    A palette of greys gives the greys. One that gets brighter with every value is how a program displays intensities
    (green for GFP), which are then the values themselves. Any other makes a colour image.
    """

    def __init__(self, colours: NDArray[Any]) -> None:
        grey = bool((colours == colours[0]).all())
        self._is_display = not grey and bool((np.diff(colours.sum(axis=0, dtype=np.int64)) > 0).all())
        self.colour = not grey and not self._is_display
        self._table = colours[:1] if grey else colours
        if not (self._table % 257).any():  # TIFF writes 8-bit palettes in 16 bits
            self._table = (self._table // 257).astype(np.uint8)

    def dtype(self, of_values: str) -> str:
        return of_values if self._is_display else str(self._table.dtype)

    def look_up(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn values (H, W) into samples (1, H, W) or (3, H, W)."""
        return values[None] if self._is_display else self._table[:, values]


def _kind(series: TiffPageSeries) -> str:
    return f"{series.axes} {'x'.join(map(str, series.shape))} {series.dtype}"
