"""The dataset that a tool works on: its positions, its images, and the annotations that it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.connection import Connection
from annotation_client.creation import describe_rejections
from annotation_client.tiles import UPennContrastDataset
from annotation_client.utils import sendWarning
from annotation_utilities.batch_argument_parser import get_batch_ranges
from annotation_utilities.interface_values import get_channel, get_tags
from worker_client.errors import WorkerError
from worker_client.locations import AXES, Location, Stack, check_position, read_location, stacked_positions
from worker_client.outlines import outline_coordinates
from worker_client.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from worker_client.outlines import Outline

_REQUIRED = ("channel", "connectTo", "tags", "tile", "workerInterface")
_ANY_CHANNEL = 2**31


class WorkerClient:
    """Reads the images at a tool's positions and uploads what the tool finds there.

    Attributes:
        datasetId: id of the dataset's folder.
        annotationClient, datasetClient: clients for what this class does not do.
        tile: position at which the tool was started, {"XY": 0, "Z": 0, "Time": 0}.
        channel: of the tool, counted from 0; annotations carry it.
        tags: of the annotations.
        connectTo: what new annotations are connected to; nothing if its "tags" are empty.
        workerInterface: the values of the tool's fields.
    """

    def __init__(self, datasetId: str, apiUrl: str, token: str, params: Mapping[str, Any]) -> None:
        """Read what the dataset has (three requests).

        Args:
            datasetId: id of the dataset's folder.
            apiUrl: the server's address, ending in /api/v1.
            token: the user's session.
            params: the platform's parameters of a compute request.

        Raises:
            WorkerError: the parameters are incomplete.
            DatasetError: the dataset has no image that can be read.
        """
        check_parameters(params)
        self.datasetId = datasetId
        self.tile: Mapping[str, Any] = params["tile"]
        self.channel = get_channel({"Channel": params["channel"]}, "Channel", channel_count=_ANY_CHANNEL)
        self.tags = get_tags(params, "tags", required=False)
        self.connectTo: Mapping[str, Any] = params["connectTo"] or {}
        self.workerInterface: Mapping[str, Any] = params["workerInterface"]
        self.annotationClient = UPennContrastAnnotationClient(apiUrl=apiUrl, token=token)
        self.datasetClient = UPennContrastDataset(apiUrl, token, datasetId, connection=self.connection)
        self._index_range = self.datasetClient.index_range
        self._has_warned = False

    @property
    def connection(self) -> Connection:
        """The connection to the server, for requests of other kinds."""
        return self.annotationClient.client

    @property
    def batch_xy(self) -> list[int]:
        """XY positions that "Batch XY" names, counted from 0. Raises as `positions` does."""
        return self._batch_ranges()[0]

    @property
    def batch_z(self) -> list[int]:
        """Z slices that "Batch Z" names, counted from 0. Raises as `positions` does."""
        return self._batch_ranges()[1]

    @property
    def batch_time(self) -> list[int]:
        """Time points that "Batch Time" names, counted from 0. Raises as `positions` does."""
        return self._batch_ranges()[2]

    def positions(
        self, *, stack_xys: Stack = None, stack_zs: Stack = None, stack_times: Stack = None
    ) -> list[dict[str, int]]:
        """Return the locations {"XY": 0, "Z": 0, "Time": 0} that the batch fields name, time running fastest.

        Args:
            stack_xys, stack_zs, stack_times: along a stacked axis there is one position, the tool's own.

        Raises:
            BatchRangeError: a batch field is not understood, or names a position that the dataset does not have.
        """
        stacked = [
            axis for axis, stack in zip(AXES, (stack_xys, stack_zs, stack_times), strict=False) if stack is not None
        ]
        ranges = self._batch_ranges(stacked)
        return [{"XY": xy, "Z": z, "Time": time} for xy, z, time in product(*ranges)]

    def validate_coordinates(
        self,
        stack_xys: Stack = None,
        stack_zs: Stack = None,
        stack_times: Stack = None,
        stack_channels: Stack = None,
    ) -> None:
        """Make sure that the dataset has every position and channel that `process` would ask for.

        Raises:
            BatchRangeError: see `positions`.
            WorkerError: a stacked position or a channel is not in the dataset.
        """
        self.positions(stack_xys=stack_xys, stack_zs=stack_zs, stack_times=stack_times)
        for axis, stack in zip(AXES, (stack_xys, stack_zs, stack_times, stack_channels), strict=True):
            stacked_positions(axis, stack, self._index_range)
        if stack_channels is None:
            check_position("Channel", self.channel, self._index_range)

    def get_image(
        self, xy: int | None = None, z: int | None = None, time: int | None = None, channel: int | None = None
    ) -> NDArray[np.generic]:
        """Return one frame (H, W) with the intensities as they were recorded.

        Args:
            xy, z, time, channel: counted from 0; those that are None are the tool's own.

        Raises:
            WorkerError: the dataset does not have the position or the channel.
        """
        given = (xy, z, time, channel)
        own = (self._tile_position("XY"), self._tile_position("Z"), self._tile_position("Time"), self.channel)
        place = [position if position is not None else default for position, default in zip(given, own, strict=True)]
        for axis, position in zip(AXES, place, strict=True):
            check_position(axis, position, self._index_range)
        return self.datasetClient.frame(*place)

    def get_image_stack(
        self,
        location: Location,
        stack_xys: Stack = None,
        stack_zs: Stack = None,
        stack_times: Stack = None,
        stack_channels: Stack = None,
    ) -> NDArray[np.generic]:
        """Return the frames along the stacked axes as one array.

        Args:
            location: where the axes that are not stacked are read; without a channel the tool's own.
            stack_xys, stack_zs, stack_times, stack_channels: "all", or positions counted from 0.

        Returns:
            (H, W) preceded by the stacked axes in the order XY, Z, time, channel: (H, W) if none is stacked, (1, H, W)
            with `stack_channels=[0]`, (Z, 2, H, W) with `stack_zs="all", stack_channels=[0, 1]`.

        Raises:
            WorkerError: the dataset does not have one of the positions.
        """
        import numpy as np

        stacks = (stack_xys, stack_zs, stack_times, stack_channels)
        stacked = [stacked_positions(axis, stack, self._index_range) for axis, stack in zip(AXES, stacks, strict=True)]
        places = list(
            product(
                *(
                    [position] if positions is None else positions
                    for position, positions in zip(read_location(location), stacked, strict=True)
                )
            )
        )
        first = self.get_image(*places[0])
        frames = np.empty((len(places), *first.shape), first.dtype)
        frames[0] = first
        for number, place in enumerate(places[1:], start=1):
            frames[number] = self.get_image(*place)
        return frames.reshape(*(len(positions) for positions in stacked if positions is not None), *first.shape)

    def create_point_annotations(self, location: Location, coords: ArrayLike) -> int:
        """Upload points.

        Args:
            location: where they were found.
            coords: (N, 2) as y, x or (N, 3) as z, y, x, in pixels; the centre of the first pixel is at 0.5. With z each
                point gets the Z slice int(z) instead of the location's. Points that are not finite are left out.

        Returns:
            How many points are now annotations.
        """
        import numpy as np

        points = np.asarray(coords, dtype=float)
        if points.size == 0:
            return 0
        if points.ndim != 2 or points.shape[1] not in (2, 3):
            raise ValueError(f"points are (N, 2) as y, x or (N, 3) as z, y, x, not {points.shape}")
        xy, z, time, _ = read_location(location)
        annotations = []
        for *depth, y, x in points[np.isfinite(points).all(axis=1)].tolist():
            place = {"XY": xy, "Z": int(depth[0]) if depth else z, "Time": time}
            vertex = {"x": x, "y": y, "z": depth[0] if depth else float(z)}
            annotations.append(self._annotation("point", place, [vertex]))
        return len(annotations) - len(self._upload(annotations))

    def create_polygon_annotations(self, location: Location, polygons: Iterable[Outline]) -> int:
        """Upload outlines.

        Args:
            location: where they were found.
            polygons: rings of (x, y) vertices, or shapely geometries; pixels, the origin is the corner of the
                first pixel. A geometry in several parts becomes several annotations, holes are filled, and what has
                no area is left out.

        Returns:
            How many of the polygons are now annotations.
        """
        xy, z, time, _ = read_location(location)
        place = {"XY": xy, "Z": z, "Time": time}
        owners: list[int] = []

        def annotations() -> Iterator[dict[str, Any]]:
            for number, coordinates in outline_coordinates(polygons, float(z)):
                owners.append(number)
                yield self._annotation("polygon", place, coordinates)

        rejected = self._upload(annotations())
        return len({number for index, number in enumerate(owners) if index not in rejected})

    def process(
        self,
        f_process: Callable[[NDArray[np.generic]], Any],
        f_annotation: str | Callable[[dict[str, int], Any], int | None],
        stack_xys: Stack = None,
        stack_zs: Stack = None,
        stack_times: Stack = None,
        stack_channels: Stack = None,
        progress_text: str = "Running Worker",
    ) -> int:
        """Call a function with the image of every position, and upload what it finds before the next one.

        Args:
            f_process: called with what `get_image_stack` returns.
            f_annotation: "point" or "polygon" for the methods of this class, or a function that is called with the
                location and what `f_process` returned, and may return how many annotations it made.
            stack_xys, stack_zs, stack_times, stack_channels: see `get_image_stack`; positions along a stacked axis
                are not iterated over.
            progress_text: title of the progress bar.

        Returns:
            How many annotations were made.

        Raises:
            BatchRangeError, WorkerError: see `validate_coordinates`; nothing was called then.
        """
        uploaders = {"point": self.create_point_annotations, "polygon": self.create_polygon_annotations}
        upload = uploaders[f_annotation] if isinstance(f_annotation, str) else f_annotation
        self.validate_coordinates(stack_xys, stack_zs, stack_times, stack_channels)
        locations = self.positions(stack_xys=stack_xys, stack_zs=stack_zs, stack_times=stack_times)
        progress = Progress(progress_text)
        progress(0, f"0/{len(locations)}")
        count = 0
        for number, location in enumerate(locations, start=1):
            image = self.get_image_stack(location, stack_xys, stack_zs, stack_times, stack_channels)
            count += upload(location, f_process(image)) or 0
            progress(number / len(locations), f"{number}/{len(locations)}")
        return count

    def _batch_ranges(self, stacked: Sequence[str] = ()) -> tuple[list[int], list[int], list[int]]:
        # What stands in the field of a stacked axis does not matter.
        ignored = {f"Batch {axis}" for axis in stacked}
        values = {field: value for field, value in self.workerInterface.items() if field not in ignored}
        return get_batch_ranges(self.tile, values, self._index_range)

    def _tile_position(self, axis: str) -> int:
        return int(self.tile.get(axis) or 0)

    def _annotation(self, shape: str, location: dict[str, int], coordinates: list[dict[str, float]]) -> dict[str, Any]:
        return {
            "tags": self.tags,
            "shape": shape,
            "channel": self.channel,
            "location": location,
            "datasetId": self.datasetId,
            "coordinates": coordinates,
        }

    def _upload(self, annotations: Iterable[dict[str, Any]]) -> set[int]:
        """Upload and connect; return the numbers of those that the server refused."""
        result = self.annotationClient.create_annotations(annotations)
        if result.rejected and not self._has_warned:
            self._has_warned = True
            count = len(result.annotations) + len(result.rejected)
            sendWarning(describe_rejections(result.rejected, count), title="Some annotations were not saved")
        if self.connectTo.get("tags") and result.annotations:
            target = {**self.connectTo, "channel": self.connectTo.get("channel")}
            self.annotationClient.connectToNearest(target, [annotation["_id"] for annotation in result.annotations])
        return {index for index, _ in result.rejected}


def check_parameters(params: Mapping[str, Any]) -> None:
    """Raise `WorkerError` unless the parameters hold all that the platform sends with a tool."""
    missing = [name for name in _REQUIRED if name not in params]
    wrong = [name for name in ("tile", "workerInterface") if not isinstance(params.get(name, {}), Mapping)]
    if missing or wrong:
        raise WorkerError(
            "The server started the tool with incomplete settings. Delete the tool, create it again, and run that one.",
            info=f"missing or not understood: {', '.join([*missing, *wrong])}",
        )
