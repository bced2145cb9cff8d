"""large_image's sources for files, which hold no more than they need and can be closed."""

from __future__ import annotations

from typing import Any

import numpy as np
from large_image.exceptions import TileSourceError
from large_image_source_pil import PILFileTileSource
from large_image_source_tifffile import TifffileFileTileSource
from numpy.typing import NDArray

from workbench.images.ome import ome_channel_names
from workbench.images.tiff_planes import SeriesPlanes


class PictureSource(PILFileTileSource):  # type: ignore[misc]
    """A PNG or JPEG file, or another that Pillow reads; large_image reduces what has more than 8 bits to 8."""

    cacheName = "tilesource"  # noqa: N815 (demanded of every source, cached or not)
    name = "pil"  # under which images that are made of several files refer to it

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the source cannot be read any more."""
        if getattr(self, "_pilImage", None) is not None:
            self._pilImage.close()

    def _fromRawpy(self, largeImagePath: str) -> None:  # noqa: N802, N803 (the library's names)
        """Do not try raw files of cameras; that would open every file twice."""


class PlaneTiffSource(TifffileFileTileSource):  # type: ignore[misc]
    """A TIFF file, with the metadata and the regions of large_image's own source.

    That one loads a series of less than 256 million pixels into memory as a whole, and of a longer one all planes of
    the first time. Here a plane is read when it is asked for. Smaller versions that the file may hold are not used.
    """

    cacheName = "tilesource"  # noqa: N815 (demanded of every source, cached or not)
    name = "tifffile"  # under which images that are made of several files refer to it

    def __init__(self, path: str, **options: Any) -> None:
        self._planes: dict[int, _SlicedPlanes] = {}
        try:
            super().__init__(path, **options)
        except BaseException:
            self.close()
            raise

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the source cannot be read any more."""
        self._planes = {}
        if hasattr(self, "_tf"):
            self._tf.close()

    def _getZarrArray(self, series: Any, sidx: int) -> tuple[_SlicedPlanes, bool]:  # noqa: N802 (the library's name)
        if sidx not in self._planes:
            try:
                # One series at a time: its memory map and its decoded planes are all that is held.
                self._planes = {sidx: _SlicedPlanes(SeriesPlanes(series))}
            except ValueError as error:
                raise TileSourceError(f"The TIFF file cannot be read: {error}.") from error
        return self._planes[sidx], False

    def _nonemptyLevelsList(self, frame: int | None = 0) -> list[bool | None]:  # noqa: N802 (the library's name)
        return [None] * (self.levels - 1) + [True]

    def _handle_ome(self) -> None:
        super()._handle_ome()
        names = ome_channel_names(self._tf.ome_metadata)
        if names:
            self._channels = names


class _SlicedPlanes:
    """What large_image indexes as it would a zarr array: numbers for the planes, slices within them."""

    def __init__(self, planes: SeriesPlanes) -> None:
        self._planes = planes

    def __getitem__(self, selection: tuple[int | slice, ...]) -> NDArray[Any]:
        outer = len(self._planes.axes)
        place = [int(number) for number in selection[:outer] if not isinstance(number, slice)]
        number = int(np.ravel_multi_index(place, self._planes.shape)) if outer else 0
        try:
            # A copy: the plane may be a view of the file.
            return np.array(self._planes.read(number)[selection[outer:]])
        except ValueError as error:
            raise TileSourceError(f"The TIFF file cannot be read: {error}.") from error
