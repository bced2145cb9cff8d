"""What a worker sends to the server about itself, and helpers of workers that measure properties."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.connection import Connection
from annotation_client.errors import ClientError
from annotation_client.tiles import UPennContrastDataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

Document = dict[str, Any]

_MAX_CACHE_BYTES = 512 * 2**20


class UPennContrastWorkerPreviewClient:
    """Sends a worker's interface, or its preview, to the server.

    Attributes:
        client: the connection.
    """

    def __init__(self, apiUrl: str, token: str, *, connection: Connection | None = None) -> None:
        """Prepare the client; no request is made.

        Args:
            apiUrl: address of the API, such as `http://girder:8080/api/v1`.
            token: a Girder token.
            connection: use this one instead of a new one to `apiUrl`.
        """
        self.client = connection or Connection(apiUrl, token)

    def setWorkerImageInterface(self, image: str, interface: Mapping[str, Any]) -> Document:
        """Set the fields that users see for a worker image, replacing earlier ones.

        Args:
            image: full name of the worker's image, such as `annotations/condensatenet_predict:latest`.
            interface: field name -> `{"type": ..., ...}`.
        """
        parameters = {"image": image}
        return self.client.sendRestRequest("POST", "worker_interface", parameters, json=interface, retry_post=True)

    def setWorkerImagePreview(self, image: str, preview: Mapping[str, Any]) -> Document:
        """Set the preview of a worker image (`text`, `image`). Most servers allow this to administrators only."""
        return self.client.sendRestRequest("POST", "worker_preview", {"image": image}, json=preview, retry_post=True)


class UPennContrastWorkerClient:
    """What a worker needs that measures a property of annotations.

    Attributes:
        annotationClient: annotations and property values.
        datasetClient: images.
        propertyId: the property that is computed.
    """

    def __init__(self, datasetId: str, apiUrl: str, token: str, params: Mapping[str, Any]) -> None:
        """Read the metadata of the dataset.

        Args:
            datasetId: id of the dataset's folder.
            apiUrl: address of the API.
            token: a Girder token.
            params: the worker's parameters, with `id` and optionally `annotationId`, `annotationIds`, `channel`,
                `workerInterface`.
        """
        self.datasetId = datasetId
        self.params = params
        self.propertyId: str = params.get("id", "unknown_property")
        connection = Connection(apiUrl, token)
        self.annotationClient = UPennContrastAnnotationClient(apiUrl, token, connection=connection)
        self.datasetClient = UPennContrastDataset(apiUrl, token, datasetId, connection=connection)
        self._frames: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def get_annotation_list_by_id(self) -> list[Document]:
        """Return the annotations that `params` names.

        Raises:
            ClientError: it names none.
        """
        ids = self.params.get("annotationIds") or self.params.get("annotationId")
        if not ids:
            raise ClientError("No annotation was named for this worker. Select some and rerun.")
        return [self.annotationClient.getAnnotationById(id) for id in ([ids] if isinstance(ids, str) else ids)]

    def get_annotation_list_by_shape(self, shape: str, limit: int | None = None, offset: int = 0) -> list[Document]:
        """Return the dataset's annotations of a shape; all of them if no limit, or 0, is given."""
        return self.annotationClient.getAnnotationsByDatasetId(
            self.datasetId, shape=shape, limit=limit or None, offset=offset
        )

    def get_image_for_annotation(self, annotation: Mapping[str, Any]) -> NDArray[Any]:
        """Return the frame on which an annotation lies, of shape (height, width).

        The channel is `Channel` of the worker's interface, else the one in `params`, else the annotation's own.
        Recent frames are kept in memory; do not change them.

        Raises:
            DatasetError: there is no such frame.
        """
        candidates = (
            (self.params.get("workerInterface") or {}).get("Channel"),
            self.params.get("channel"),
            annotation.get("channel"),
        )
        channel = next((int(value) for value in candidates if value is not None and value != ""), 0)
        location = annotation.get("location") or {}
        xy, z, time = (int(location.get(key) or 0) for key in ("XY", "Z", "Time"))
        number = self.datasetClient.coordinatesToFrameIndex(xy, z, time, channel)
        if number not in self._frames:
            self._frames[number] = self.datasetClient.frame(xy, z, time, channel)
        self._frames.move_to_end(number)
        while len(self._frames) > 1 and sum(frame.nbytes for frame in self._frames.values()) > _MAX_CACHE_BYTES:
            self._frames.popitem(last=False)
        return self._frames[number]

    def add_annotation_property_values(self, annotation: Mapping[str, Any], values: Any) -> Any:
        """Save the value (a number or nested objects of numbers) of the worker's property for an annotation.

        NaN is no value and is left out.
        """
        if _is_nan(values):
            return None
        return self.annotationClient.addAnnotationPropertyValues(
            self.datasetId, annotation["_id"], {self.propertyId: values}
        )

    def add_multiple_annotation_property_values(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Save values of the worker's property: dataset id -> annotation id -> value. NaN is left out."""
        self.annotationClient.addMultipleAnnotationPropertyValues(
            [
                {"datasetId": dataset_id, "annotationId": annotation_id, "values": {self.propertyId: value}}
                for dataset_id, by_annotation in values.items()
                for annotation_id, value in by_annotation.items()
                if not _is_nan(value)
            ]
        )


def _is_nan(value: Any) -> bool:
    return not isinstance(value, Mapping) and bool(value != value)
