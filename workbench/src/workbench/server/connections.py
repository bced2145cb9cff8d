"""Routes of connections between annotations."""

from __future__ import annotations

from workbench.errors import RestError
from workbench.server.endpoint import Call, route
from workbench.store.documents import MAX_INTEGER, Document, check_id
from workbench.store.nearest import connect_to_nearest


def list_connections(call: Call) -> list[Document]:
    """The connections of a dataset, by parent, child or either."""
    dataset_id = call.required_text("datasetId")
    if call.store.folders.find(check_id(dataset_id)) is None:
        raise RestError(403, "Access denied to dataset")
    paging = call.paging("_id")
    ids = {
        name: None if (value := call.text(parameter)) is None else check_id(value)
        for name, parameter in (
            ("parent_id", "parentId"),
            ("child_id", "childId"),
            ("node_id", "nodeAnnotationId"),
            ("after_id", "afterId"),
        )
    }
    if ids["after_id"] is not None:
        paging = paging.without_offset()
    return call.store.connections.select(dataset_id, **ids, paging=paging)


def count_connections(call: Call) -> dict[str, int]:
    """How many there are in a dataset."""
    folder = call.store.folders.load(call.required_text("datasetId"))
    return {"count": call.store.connections.count(folder["_id"])}


def get_connection(call: Call) -> Document:
    """A connection."""
    return _load(call)


def create_connection(call: Call) -> Document:
    """Stores one connection."""
    return call.store.connections.create([call.json_body()])[0]


def create_connections(call: Call) -> list[Document]:
    """Stores a batch, all or nothing."""
    return call.store.connections.create(call.json_list())


def connect_nearest(call: Call) -> list[Document]:
    """Connects annotations to the nearest ones at their location."""
    info = call.json_object()
    annotation_ids, tags, channel = (info.get(key) for key in ("annotationsIds", "tags", "channelId"))
    if not isinstance(annotation_ids, list) or not all(isinstance(value, str) for value in annotation_ids):
        raise RestError(400, "annotationsIds must be a list of annotation ids.")
    if tags is not None and (not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags)):
        raise RestError(400, "tags must be a list of texts.")
    if channel is not None and (type(channel) is not int or abs(channel) > MAX_INTEGER):
        raise RestError(400, "channelId must be an integer or null.")
    return connect_to_nearest(
        call.store.database, call.store.connections, annotation_ids, tags=tags or (), channel=channel
    )


def update_connection(call: Call) -> None:
    """Changes fields of a connection."""
    call.store.connections.update(_load(call)["_id"], call.json_object())


def delete_connection(call: Call) -> None:
    """Deletes a connection."""
    call.store.connections.delete([_load(call)["_id"]])


def delete_connections(call: Call) -> None:
    """Deletes the connections of a list of identifiers."""
    call.store.connections.delete(call.id_list())


def _load(call: Call) -> Document:
    return call.document("annotation_connection", call.store.connections.find)


ROUTES = [
    route("GET", "annotation_connection", list_connections),
    route("POST", "annotation_connection", create_connection),
    route("GET", "annotation_connection/count", count_connections),
    route("POST", "annotation_connection/multiple", create_connections),
    route("DELETE", "annotation_connection/multiple", delete_connections),
    route("POST", "annotation_connection/connectTo", connect_nearest),
    route("GET", "annotation_connection/{id}", get_connection),
    route("PUT", "annotation_connection/{id}", update_connection),
    route("DELETE", "annotation_connection/{id}", delete_connection),
]
