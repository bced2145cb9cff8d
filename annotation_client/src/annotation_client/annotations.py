"""Annotations of a dataset, and the connections between them.

The names of the methods and their arguments are those of the platform's own client.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from annotation_client import creation
from annotation_client.connection import Connection
from annotation_client.creation import Created
from annotation_client.errors import ClientError, RejectedAnnotationsError
from annotation_client.property_values import PropertyMethods
from annotation_client.schema import encode_annotation
from annotation_client.utils import sendWarning

Document = dict[str, Any]

_PAGE = 10_000
_CONNECT_TIMEOUT_S = (10.0, 900.0)  # the server looks for the neighbours of one annotation after the other
_DELETE_AT_ONCE = 10_000


class UPennContrastAnnotationClient(PropertyMethods):
    """Reads and writes annotations, their connections and their property values on a NimbusImage server.

    Attributes:
        client: the connection, for any other request to the same server.
    """

    def __init__(self, apiUrl: str, token: str, *, connection: Connection | None = None) -> None:
        """Prepare the client; no request is made.

        Args:
            apiUrl: address of the API, such as `http://girder:8080/api/v1`.
            token: a Girder token.
            connection: use this one instead of a new one to `apiUrl`.
        """
        self.client = connection or Connection(apiUrl, token)

    def getAnnotationsByDatasetId(
        self,
        datasetId: str,
        shape: str | None = None,
        tags: Sequence[str] | str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Document]:
        """Return the annotations of a dataset, in the order in which they were made.

        Args:
            datasetId: id of the dataset's folder.
            shape: only `point`, `line`, `polygon` or `rectangle`.
            tags: only annotations that have all of these tags (a list, or the same as JSON text).
            limit: at most this many; all if not given.
            offset: leave out this many at the start.
        """
        if limit is None:
            return list(self.iter_annotations(datasetId, shape=shape, tags=tags, offset=offset))
        selection = _selection(datasetId, shape, tags)
        return self.client.get("upenn_annotation", {**selection, "limit": limit, "offset": offset, "sort": "_id"})

    def iter_annotations(
        self,
        datasetId: str,
        *,
        shape: str | None = None,
        tags: Sequence[str] | str | None = None,
        offset: int = 0,
        page_size: int = _PAGE,
    ) -> Iterator[Document]:
        """Yield the annotations of a dataset in the order in which they were made, fetched page by page.

        Annotations that others add or delete meanwhile do not make it skip or repeat any. Arguments as for
        `getAnnotationsByDatasetId`.

        Raises:
            ClientError: the server repeats a page, so that the list would never end.
        """
        parameters = {**_selection(datasetId, shape, tags), "limit": page_size, "offset": offset, "sort": "_id"}
        while True:
            page = self.client.get("upenn_annotation", parameters)
            yield from page
            if len(page) < page_size:
                return
            last = page[-1]["_id"]
            if last <= parameters.get("afterId", ""):
                raise ClientError("The server cannot list annotations page by page; it is too old for this client.")
            parameters = {**parameters, "afterId": last, "offset": 0}

    def getAnnotationById(self, annotationId: str) -> Document:
        """Return one annotation."""
        return self.client.get(f"upenn_annotation/{annotationId}")

    def createAnnotation(self, annotation: Mapping[str, Any]) -> Document:
        """Save one annotation and return it with its `_id`.

        Raises:
            RejectedAnnotationsError: the annotation does not follow the platform's schema.
        """
        try:
            body = encode_annotation(annotation)
        except ValueError as error:
            raise RejectedAnnotationsError(f"The annotation cannot be saved: {error}.") from error
        headers = {"Content-Type": "application/json"}
        return self.client.sendRestRequest("POST", "upenn_annotation", data=body, headers=headers)

    def createMultipleAnnotations(self, annotations: Iterable[Mapping[str, Any]]) -> list[Document]:
        """Save annotations and return those that were saved, in the order given, with their `_id`.

        Annotations that the platform refuses cost only themselves: one warning (`sendWarning`) names them. Use
        `create_annotations` to handle them yourself; what it raises, this raises.
        """
        created = self.create_annotations(annotations)
        if created.rejected:
            count = len(created.annotations) + len(created.rejected)
            sendWarning(creation.describe_rejections(created.rejected, count), "Some annotations were not saved")
        return created.annotations

    def create_annotations(self, annotations: Iterable[Mapping[str, Any]]) -> Created:
        """Save annotations in requests of bounded size; see `annotation_client.creation.create_annotations`."""
        return creation.create_annotations(self.client, annotations)

    def updateAnnotation(self, annotationId: str, annotation: Mapping[str, Any]) -> None:
        """Change an annotation. Keys that are not given keep their values."""
        return self.client.put(f"upenn_annotation/{annotationId}", json=dict(annotation))

    def deleteAnnotation(self, annotationId: str) -> None:
        """Delete an annotation."""
        return self.client.delete(f"upenn_annotation/{annotationId}")

    def deleteMultipleAnnotations(self, annotationIds: Sequence[str]) -> None:
        """Delete annotations."""
        self._delete_in_parts("upenn_annotation/multiple", annotationIds)

    def countAnnotationsByDatasetId(
        self, datasetId: str, shape: str | None = None, tags: Sequence[str] | str | None = None
    ) -> dict[str, int]:
        """Return `{"count": n}`; arguments as for `getAnnotationsByDatasetId`."""
        return self.client.get("upenn_annotation/count", _selection(datasetId, shape, tags))

    def getAnnotationConnections(
        self,
        datasetId: str | None = None,
        childId: str | None = None,
        parentId: str | None = None,
        nodeId: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Document]:
        """Return the connections of a dataset.

        Args:
            datasetId: id of the dataset's folder; servers require it.
            childId: only those that lead to this annotation.
            parentId: only those that start at this annotation.
            nodeId: only those that start at or lead to this annotation.
            limit: at most this many; all if not given.
            offset: leave out this many at the start.
        """
        filters = {"datasetId": datasetId, "childId": childId, "parentId": parentId, "nodeAnnotationId": nodeId}
        parameters = {key: value for key, value in filters.items() if value}
        return self.client.get("annotation_connection", {**parameters, "limit": limit or 0, "offset": offset})

    def getAnnotationConnectionById(self, connectionId: str) -> Document:
        """Return one connection."""
        return self.client.get(f"annotation_connection/{connectionId}")

    def createConnection(self, connection: Mapping[str, Any]) -> Document:
        """Save a connection (`parentId`, `childId`, `datasetId`, `tags`) and return it with its `_id`."""
        return self.client.post("annotation_connection", json=connection)

    def createMultipleConnections(self, connections: Sequence[Mapping[str, Any]]) -> list[Document]:
        """Save connections and return them with their `_id`."""
        return self.client.post("annotation_connection/multiple", json=connections)

    def updateConnection(self, connectionId: str, connection: Mapping[str, Any]) -> None:
        """Change a connection."""
        return self.client.put(f"annotation_connection/{connectionId}", json=connection)

    def deleteConnection(self, connectionId: str) -> None:
        """Delete a connection."""
        return self.client.delete(f"annotation_connection/{connectionId}")

    def deleteMultipleConnections(self, connectionIds: Sequence[str]) -> None:
        """Delete connections."""
        self._delete_in_parts("annotation_connection/multiple", connectionIds)

    def connectToNearest(self, connectTo: Mapping[str, Any], annotationsIds: Sequence[str]) -> list[Document]:
        """Connect annotations to the nearest others at the same position, and return the connections.

        Args:
            connectTo: `tags`, of which the others must have one (any annotation if there are none), and `channel`
                (any if null or missing).
            annotationsIds: the annotations to connect.
        """
        body = {
            "annotationsIds": list(annotationsIds),
            "tags": list(connectTo.get("tags") or []),
            "channelId": connectTo.get("channel"),
        }
        return self.client.sendRestRequest(
            "POST", "annotation_connection/connectTo", json=body, timeout=_CONNECT_TIMEOUT_S
        )

    def countConnectionsByDatasetId(self, datasetId: str) -> dict[str, int]:
        """Return `{"count": n}`."""
        return self.client.get("annotation_connection/count", {"datasetId": datasetId})

    def getItemById(self, itemId: str) -> Document:
        """Return an item of the server."""
        return self.client.get(f"item/{itemId}")

    def getDatasetViewsByDatasetId(self, datasetId: str) -> list[Document]:
        """Return the views of a dataset, each with the `configurationId` under which it is shown."""
        return self.client.get("dataset_view", {"datasetId": datasetId})

    def _delete_in_parts(self, path: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _DELETE_AT_ONCE):
            self.client.sendRestRequest("DELETE", path, json=list(ids[start : start + _DELETE_AT_ONCE]))


def _selection(datasetId: str, shape: str | None, tags: Sequence[str] | str | None) -> dict[str, Any]:
    parameters: dict[str, Any] = {"datasetId": datasetId}
    if shape:
        parameters["shape"] = shape
    if tags:
        parameters["tags"] = json.dumps(_tag_list(tags))
    return parameters


def _tag_list(tags: Sequence[str] | str) -> list[str]:
    if not isinstance(tags, str):
        return list(tags)
    try:
        parsed = json.loads(tags)
    except ValueError:
        return [tags]
    return parsed if isinstance(parsed, list) else [tags]
