"""The images of a dataset.

The names of the methods and their arguments are those of the platform's own client, where it has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from girder_client import HttpError

from annotation_client.connection import Connection
from annotation_client.errors import DatasetError
from annotation_client.percentiles import count_values, percentiles_of_counts
from annotation_client.pixels import load_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Document = dict[str, Any]
Box = tuple[int, int, int, int]

_AXES = ("IndexXY", "IndexZ", "IndexT", "IndexC")
_COUNTABLE = {"uint8": (0, 256), "uint16": (0, 65536), "int8": (-128, 256), "int16": (-32768, 65536)}
_REQUEST_BYTES = 64 * 2**20  # a larger frame arrives in strips, so that server and client need little memory beside it
_STRIP_BYTES = 16 * 2**20
_PICKLE_PROTOCOL = 5


class UPennContrastDataset:
    """The image of one dataset: frames at positions XY, Z and Time, in one or more channels. All indices start at 0.

    Attributes:
        client: the connection.
        folderId: id of the dataset (a folder).
        dataset: the item that holds the image.
        datasetId: id of that item, not of the dataset.
        tiles: metadata of the image, as `GET item/{id}/tiles` returns them.
        map: frame number by `map[channel][Time][Z][XY]`.
    """

    def __init__(self, apiUrl: str, token: str, datasetId: str, *, connection: Connection | None = None) -> None:
        """Read the metadata of a dataset.

        Args:
            apiUrl: address of the API, such as `http://girder:8080/api/v1`.
            token: a Girder token.
            datasetId: id of the dataset's folder.
            connection: use this one instead of a new one to `apiUrl`.

        Raises:
            DatasetError: the dataset has no image.
        """
        self.client = connection or Connection(apiUrl, token)
        self._load(datasetId)

    def _load(self, dataset_id: str) -> None:
        folder = self.client.get(f"folder/{dataset_id}")
        items = self.client.get("item", {"folderId": dataset_id, "limit": 0})
        self.dataset: Document = _choose_image(folder, items)
        self.folderId = dataset_id
        self.datasetId: str = self.dataset["_id"]
        self.tiles: Document = self.client.get(f"item/{self.datasetId}/tiles")
        if not all(isinstance(self.tiles.get(key), int) for key in ("sizeX", "sizeY")):
            raise DatasetError(f"The server cannot read the image {self.dataset.get('name')!r}. Import it again.")
        self.map = _frame_map(self.tiles)
        self._internal: Any = None
        self._server_counts = True

    @property
    def tilesInternal(self) -> Any:
        """Metadata that the file format of the image has of its own, or None."""
        if self._internal is None:
            self._internal = self.client.get(f"item/{self.datasetId}/tiles/internal_metadata")
        return self._internal

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of each frame in pixels."""
        return self.tiles["sizeY"], self.tiles["sizeX"]

    @property
    def index_range(self) -> dict[str, int]:
        """Number of indices on each axis: `IndexXY`, `IndexZ`, `IndexT`, `IndexC`, each at least 1."""
        stated = self.tiles.get("IndexRange") or {}
        frames = self.tiles.get("frames") or []
        return {
            axis: max([int(stated.get(axis) or 1), *(int(frame.get(axis) or 0) + 1 for frame in frames)])
            for axis in _AXES
        }

    @property
    def channel_count(self) -> int:
        """Number of channels, at least 1."""
        return self.index_range["IndexC"]

    @property
    def channel_names(self) -> list[str]:
        """Names of the channels; 'Channel 1' and so on where the image has none."""
        names = [f"Channel {number + 1}" for number in range(self.channel_count)]
        stated = dict(enumerate(self.tiles.get("channels") or []))
        stated |= {
            frame.get("IndexC") or 0: frame["Channel"]
            for frame in self.tiles.get("frames") or []
            if frame.get("Channel")
        }
        return [str(stated.get(number) or name) for number, name in enumerate(names)]

    def position_count(self) -> int:
        """Return the number of positions (XY, Z, Time) that have a frame in any channel."""
        return len(
            {
                (xy, z, time)
                for times in self.map.values()
                for time, zs in times.items()
                for z, xys in zs.items()
                for xy in xys
            }
        )

    def coordinatesToFrameIndex(self, XY: int, Z: int = 0, T: int = 0, channel: int = 0) -> int:
        """Return the number of the frame at a position.

        Raises:
            DatasetError: the dataset has no such frame.
        """
        try:
            return self.map[channel][T][Z][XY]
        except KeyError:
            counts = self.index_range
            raise DatasetError(
                f"The dataset has no image at XY {XY + 1}, Z {Z + 1}, Time {T + 1}, channel {channel + 1}. It has "
                f"{counts['IndexXY']} XY positions, {counts['IndexZ']} Z planes, {counts['IndexT']} time points and "
                f"{counts['IndexC']} channels, and may lack some combinations of them."
            ) from None

    def getRawImage(self, XY: int, Z: int = 0, T: int = 0, channel: int = 0) -> bytes:
        """Return an encoded picture (JPEG or PNG) of a whole frame, scaled down to one tile; for display only."""
        frame = self.coordinatesToFrameIndex(XY, Z, T, channel)
        return self.client.get(f"item/{self.datasetId}/tiles/fzxy/{frame}/0/0/0", jsonResp=False).content

    def getRegion(
        self,
        datasetId: str | None = None,
        refreshImage: bool = False,
        protocol: int = _PICKLE_PROTOCOL,
        use_tiff: bool = False,
        **kwargs: Any,
    ) -> NDArray[Any]:
        """Return the pixels of a region exactly as they are stored.

        Args:
            datasetId: id of a dataset; the one of this object if not given.
            refreshImage: read the metadata again.
            protocol: of the transfer, 3 to 5.
            use_tiff: accepted for compatibility; pixels are never sent as TIFF, which holds 8 bits only.
            **kwargs: of the server's region request: `frame`; `left`, `top`, `right`, `bottom` in pixels (the last two
                exclusive); `regionWidth`, `regionHeight`, the size of the region; `width`, `height`, the largest size
                of the result, to which it is scaled down; `units`, `style`, `resample`.

        Returns:
            Array of shape (height, width, 1).

        Raises:
            DatasetError: the image has several values per pixel.
        """
        if refreshImage or datasetId not in (None, self.folderId, self.datasetId):
            self._load(self.folderId if datasetId in (None, self.datasetId) else datasetId)
        protocol = min(max(protocol, 3), _PICKLE_PROTOCOL)
        return self._fetch({**kwargs, "encoding": f"pickle:{protocol}"})

    def frame(self, xy: int, z: int, time: int, channel: int) -> NDArray[Any]:
        """Return the whole frame at a position.

        Returns:
            Array of shape (height, width), in the type in which the image is stored.

        Raises:
            DatasetError: there is no such frame, or it has several values per pixel.
        """
        height, width = self.shape
        return self.crop(xy, z, time, channel, (0, 0, width, height))

    def crop(self, xy: int, z: int, time: int, channel: int, box: Box) -> NDArray[Any]:
        """Return a part of the frame at a position.

        Args:
            xy: position XY.
            z: plane.
            time: time point.
            channel: channel.
            box: left, top, right, bottom in pixels, the last two exclusive, inside the frame.

        Returns:
            Array of shape (bottom - top, right - left), in the type in which the image is stored.

        Raises:
            DatasetError: there is no such frame or box, or the frame has several values per pixel.
        """
        import numpy as np

        left, top, right, bottom = (int(edge) for edge in box)
        height, width = self.shape
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise DatasetError(f"The box {(left, top, right, bottom)} does not lie in a frame of {width} x {height}.")
        frame = self.coordinatesToFrameIndex(xy, z, time, channel)
        rows = _rows_per_request(right - left, _REQUEST_BYTES)
        if bottom - top <= rows:
            return self._strip(frame, (left, top, right, bottom))
        first = self._strip(frame, (left, top, right, top + rows))
        result = np.empty((bottom - top, right - left), first.dtype)
        result[:rows] = first
        for start in range(top + rows, bottom, rows):
            end = min(start + rows, bottom)
            result[start - top : end - top] = self._strip(frame, (left, start, right, end))
        return result

    def intensity_percentiles(
        self, xy: int, z: int, time: int, channel: int, low: float, high: float
    ) -> tuple[float, float]:
        """Return two percentiles of a whole frame, equal to `numpy.percentile` of its pixels.

        Frames of 8 or 16 bit integers are not fetched: the server counts their values; one that cannot sends them in
        strips, of which one is kept at a time. Other frames are fetched whole.

        Args:
            xy: position XY.
            z: plane.
            time: time point.
            channel: channel.
            low: first percentage, 0 to 100.
            high: second percentage, 0 to 100.

        Raises:
            DatasetError: there is no such frame, or it has several values per pixel.
        """
        import numpy as np

        values = _COUNTABLE.get(str(self.tiles.get("dtype")))
        if values is None:
            first, second = np.percentile(self.frame(xy, z, time, channel), (low, high))
            return float(first), float(second)
        self.check_grey()
        frame = self.coordinatesToFrameIndex(xy, z, time, channel)
        counts = self._counts_of_server(frame, *values)
        if counts is None:
            counts = self._counts_of_strips(frame, *values)
        first, second = percentiles_of_counts(counts, values[0], (low, high))
        return first, second

    def _counts_of_server(self, frame: int, first_value: int, length: int) -> NDArray[np.int64] | None:
        """Return how often each value occurs in a frame, or None if the server cannot count every pixel."""
        import numpy as np

        if not self._server_counts:
            return None
        height, width = self.shape
        parameters = {
            "frame": frame,
            "bins": length,
            "rangeMin": first_value,
            "rangeMax": first_value + length,
            "width": width,  # the server scales larger frames down by default
            "height": height,
            "resample": "false",
        }
        try:
            histograms = self.client.get(f"item/{self.datasetId}/tiles/histogram", parameters)
            counts = np.asarray(histograms[0]["hist"], np.float64)
        except HttpError as error:
            if error.status not in (400, 404, 500, 501):
                raise
            counts = np.zeros(0)
        except (TypeError, ValueError, LookupError):
            counts = np.zeros(0)
        if counts.shape == (length,) and counts.sum() == height * width and counts.min() >= 0:
            return counts.astype(np.int64)
        self._server_counts = False
        return None

    def _counts_of_strips(self, frame: int, first_value: int, length: int) -> NDArray[np.int64]:
        import numpy as np

        height, width = self.shape
        rows = _rows_per_request(width, _STRIP_BYTES)
        counts = np.zeros(length, np.int64)
        for top in range(0, height, rows):
            strip = self._strip(frame, (0, top, width, min(top + rows, height)))
            counts += count_values(strip, first_value, length)
        return counts

    def _strip(self, frame: int, box: Box) -> NDArray[Any]:
        left, top, right, bottom = box
        parameters = {"left": left, "top": top, "right": right, "bottom": bottom, "frame": frame}
        pixels = self._fetch({**parameters, "encoding": f"pickle:{_PICKLE_PROTOCOL}"})[:, :, 0]
        if pixels.shape != (bottom - top, right - left):
            raise DatasetError(
                f"The server sent {pixels.shape[1]} x {pixels.shape[0]} pixels instead of {right - left} x "
                f"{bottom - top}. The image may have been replaced meanwhile; rerun."
            )
        return pixels

    def _fetch(self, parameters: Document) -> NDArray[Any]:
        self.check_grey()
        path = f"item/{self.datasetId}/tiles/region"
        response = self.client.sendRestRequest("GET", path, parameters, jsonResp=False)
        array = load_array(response.content)
        if array.ndim == 2:
            array = array[:, :, None]
        if array.ndim != 3 or array.shape[2] != 1:
            raise DatasetError(_COLOUR_IMAGE)
        return array

    def check_grey(self) -> None:
        """Raise `DatasetError` if the image has several values per pixel, such as RGB."""
        if (self.tiles.get("bandCount") or 1) != 1:
            raise DatasetError(_COLOUR_IMAGE)


_COLOUR_IMAGE = (
    "The dataset holds a colour image with several values per pixel (such as RGB). Split it into one grey image per "
    "channel, for example in Fiji, and import these."
)


def _choose_image(folder: Document, items: Sequence[Document]) -> Document:
    """Return the item that the dataset names as its image, else the first that is one."""
    images = [item for item in items if item.get("largeImage") and not item["largeImage"].get("expected")]
    selected = (folder.get("meta") or {}).get("selectedLargeImageId")
    for item in images:
        if item["_id"] == selected:
            return item
    if not images:
        raise DatasetError(
            f"The dataset {folder.get('name') or folder.get('_id')!r} has no image. Add one, wait until the server "
            "has prepared it, and rerun."
        )
    return images[0]


def _frame_map(tiles: Document) -> dict[int, dict[int, dict[int, dict[int, int]]]]:
    """Return the frame number by `[channel][Time][Z][XY]`; an index that a frame does not state is 0."""
    result: dict[int, dict[int, dict[int, dict[int, int]]]] = {}
    for number, frame in enumerate(tiles.get("frames") or [{}]):
        xy, z, time, channel = (int(frame.get(axis) or 0) for axis in _AXES)
        positions = result.setdefault(channel, {}).setdefault(time, {}).setdefault(z, {})
        positions.setdefault(xy, int(frame.get("Frame", number)))
    return result


def _rows_per_request(width: int, byte_count: int) -> int:
    return max(1, byte_count // (8 * width))  # no pixel has more than 8 bytes
