"""large_image's sources for files, which hold no more than they need and can be closed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from large_image.exceptions import TileSourceError
from large_image_source_multi import MultiFileTileSource
from large_image_source_pil import PILFileTileSource
from large_image_source_tifffile import TifffileFileTileSource
from numpy.typing import NDArray
from PIL import Image

from workbench.images.ome import ome_channel_names
from workbench.images.specification import LARGEST_SIDE, MOST_FRAMES
from workbench.images.tiff_planes import SeriesPlanes

_LARGEST_PICTURE_SIDE = 4096  # pixels; a picture is decoded as a whole


class ComposedSource(MultiFileTileSource):  # type: ignore[misc]
    """An image that is made of several files, of a size that can be listed."""

    cacheName = "tilesource"  # noqa: N815 (demanded of every source, cached or not)
    name = "multi"

    def _collectFrames(self) -> None:  # noqa: N802 (the library's name)
        super()._collectFrames()
        if max(self.sizeX, self.sizeY) > LARGEST_SIDE:
            raise TileSourceError(f"It would be larger than {LARGEST_SIDE} pixels per side.")

    def _frameDictToFrames(self, frameDict: dict[str, Any]) -> Any:  # noqa: N802, N803 (the library's names)
        places = frameDict["byAxes"] if frameDict["axesAllowed"] else [(number,) for number in frameDict["byFrame"]]
        if math.prod(max(numbers) + 1 for numbers in zip(*places, strict=True)) > MOST_FRAMES:
            raise TileSourceError(f"It would have more than {MOST_FRAMES} frames.")
        return super()._frameDictToFrames(frameDict)


class PictureSource(PILFileTileSource):  # type: ignore[misc]
    """A PNG or JPEG file; large_image reduces what has more than 8 bits to 8."""

    cacheName = "tilesource"  # noqa: N815 (demanded of every source, cached or not)
    name = "pil"  # under which images that are made of several files refer to it

    def __init__(self, path: str, **options: Any) -> None:
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as picture:  # reads the header only
                width, height = picture.size
        except (OSError, ValueError) as error:
            raise TileSourceError("It is damaged, or no PNG or JPEG file.") from error
        if max(width, height) > _LARGEST_PICTURE_SIDE:
            raise TileSourceError(
                f"It has {width} x {height} pixels; a PNG or JPEG file may have {_LARGEST_PICTURE_SIDE} per side. "
                "Save it as TIFF."
            )
        super().__init__(path, **options)
        # Now, so that a damaged file is no image: Pillow complains only once, and then gives black pixels.
        self._pilImage.load()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the source cannot be read any more."""
        if getattr(self, "_pilImage", None) is not None:
            self._pilImage.close()

    def _checkForFrames(self) -> None:  # noqa: N802 (the library's name)
        """Show the first picture of a file, whatever else is in it."""
        self._frames = None
        self._frameCount = 1

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

    def _checkForOmeBinaryonly(self) -> None:  # noqa: N802 (the library's name)
        """Do not read the companion that an OME-TIFF may name: it could be any file of this machine."""

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
