"""Planes of TIFF series, one at a time, so that memory holds one of them however long the series is."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

_PLANES_KEPT = 2  # crops of one plane come in a row


class SeriesPlanes:
    """The planes of one series.

    Where the pixels lie uncompressed in a row, nothing is read until it is looked at. Not for several threads at once.

    Args:
        series: of an open TIFF file.

    Attributes:
        axes: those that number the planes, such as ``"TZC"``; empty for a single plane.
        shape: their sizes.
        plane_axes: those of a plane, such as ``"YX"`` or ``"YXS"``.

    Raises:
        ValueError: the file does not hold the planes that it announces.
    """

    def __init__(self, series: TiffPageSeries) -> None:
        keyframe = series.keyframe
        assert keyframe.dtype is not None
        outer = len(series.axes) - len(keyframe.shape)
        if outer < 0 or tuple(series.shape[outer:]) != tuple(keyframe.shape):
            raise ValueError(f"pages of {keyframe.shape} do not fit a series of {series.axes} {series.shape}")
        self.axes: str = series.axes[:outer]
        self.shape: tuple[int, ...] = tuple(series.shape[:outer])
        self.plane_axes: str = series.axes[outer:]
        self._series = series
        self._decoded: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._mapped: NDArray[Any] | None = None
        count = math.prod(self.shape)
        if series.dataoffset is not None and keyframe.bitspersample == 8 * keyframe.dtype.itemsize:
            self._mapped = np.memmap(
                Path(keyframe.parent.filehandle.path),
                dtype=keyframe.dtype.newbyteorder(keyframe.parent.byteorder),
                mode="r",
                offset=series.dataoffset,
                shape=(count, *keyframe.shape),
            ).view(np.ndarray)
        elif len(series.pages) != count:
            raise ValueError(f"{count} planes are announced and {len(series.pages)} stored")

    def read(self, number: int) -> NDArray[Any]:
        """Give a plane, counted in the order of the axes, in the machine's byte order; to look at, not to change.

        Raises:
            ValueError: it is missing, damaged or compressed in an unknown way.
        """
        if self._mapped is not None:
            mapped: NDArray[Any] = self._mapped[number]
            return mapped.astype(mapped.dtype.newbyteorder("="), copy=False)
        if number not in self._decoded:
            page = self._series.pages[number]
            if page is None:
                raise ValueError(f"plane {number + 1} is missing; it may be in a file that lies elsewhere")
            plane = _decode(page, self._series.keyframe)
            while len(self._decoded) >= _PLANES_KEPT:
                self._decoded.popitem(last=False)
            self._decoded[number] = plane
        return self._decoded[number]


def check_page_chain(tiff: TiffFile) -> None:
    """Refuse a file that ends before its last page: tifffile logs that and goes on with the pages that are left.

    Raises:
        ValueError: the file is cut off.
    """
    position = tiff.pages.next_page_offset
    if position is None:
        return
    tiff.filehandle.seek(position)
    if any(tiff.filehandle.read(tiff.tiff.offsetsize)):
        raise ValueError(f"the file ends after page {len(tiff.pages)}, but more follow")


def _decode(page: TiffPage | TiffFrame, keyframe: TiffPage) -> NDArray[Any]:
    import tifffile

    try:
        return page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        # LZW is common, and GDAL reads it (and JPEG) without the package that tifffile needs for them.
        plane = _decode_with_gdal(page, keyframe)
        if plane is None:
            scheme = tifffile.COMPRESSION(keyframe.compression).name
            raise ValueError(
                f"its compression ({scheme}) is not known here; save it uncompressed or with LZW"
            ) from error
        return plane
    except (OSError, MemoryError):
        raise
    except Exception as error:  # each decoder has errors of its own
        raise ValueError(f"one of its planes is damaged ({error})") from error


def _decode_with_gdal(page: TiffPage | TiffFrame, keyframe: TiffPage) -> NDArray[Any] | None:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    if not isinstance(page.index, int):  # inside another page, where GDAL does not look
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(f"GTIFF_DIR:{page.index + 1}:{page.parent.filehandle.path}") as image:
                bands = image.read()
        except RasterioIOError:
            return None
    order = ["SYX".index(axis) for axis in keyframe.axes if axis in "SYX"]
    plane = bands[0] if "S" not in keyframe.axes else bands.transpose(order)
    fits = (
        plane.shape == keyframe.shape and keyframe.dtype is not None and plane.dtype == keyframe.dtype.newbyteorder("=")
    )
    return plane if fits else None
