"""Routes of annotations."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.responses import Response, StreamingResponse

from workbench.errors import RestError
from workbench.server.endpoint import Call, route
from workbench.server.strict_json import text_response
from workbench.store.annotations import Selection
from workbench.store.documents import Document, check_id, is_id


def list_annotations(call: Call) -> Response:
    """The annotations of a dataset, by shape and tags (all of them), streamed."""
    selection = _selection(call)
    paging = call.paging("_id")
    after_id = call.text("afterId")
    count = call.store.annotations.count(selection)
    if after_id is not None:
        selection = Selection(selection.dataset_id, selection.shape, selection.tags, check_id(after_id))
        paging = paging.without_offset()
    pieces = call.store.annotations.stream(selection, paging)

    def generate() -> Iterator[bytes]:
        separator = b"["
        for piece in pieces:
            yield separator + b",".join(piece)
            separator = b","
        yield b"[]" if separator == b"[" else b"]"

    headers = {"Girder-Total-Count": str(count)}
    return StreamingResponse(generate(), headers=headers, media_type="application/json")


def count_annotations(call: Call) -> dict[str, int]:
    """How many there are of a dataset, by shape and tags."""
    return {"count": call.store.annotations.count(_selection(call))}


def get_annotation(call: Call) -> Response:
    """An annotation."""
    return text_response(_load(call))


def create_annotation(call: Call) -> Response:
    """Stores one annotation."""
    return text_response(call.store.annotations.create([call.json_body()])[0])


def create_annotations(call: Call) -> Response:
    """Stores a batch, all or nothing, and gives it back in its order with identifiers."""
    return text_response(f"[{','.join(call.store.annotations.create(call.json_list()))}]")


def update_annotation(call: Call) -> None:
    """Changes fields of an annotation."""
    _load(call)
    call.store.annotations.update({call.path["id"]: call.json_object()})


def update_annotations(call: Call) -> list[Document] | None:
    """Changes fields of several annotations, all or nothing."""
    updates = call.json_list()
    if not updates:
        return []
    changes: dict[str, Document] = {}
    for update in updates:
        if not isinstance(update, dict):
            raise RestError(400, "Each annotation update must be a JSON object.")
        annotation_id = update.get("id") or update.get("_id")
        if not annotation_id:
            raise RestError(400, "Each annotation must have an 'id' or '_id' field.")
        if not isinstance(annotation_id, str) or not is_id(annotation_id):
            raise RestError(400, f"Invalid annotation id: {annotation_id}")
        changes[annotation_id.lower()] = update
    call.store.annotations.update(changes)
    return None


def delete_annotation(call: Call) -> None:
    """Deletes an annotation with its connections."""
    _load(call)
    call.store.annotations.delete([call.path["id"]])


def delete_annotations(call: Call) -> None:
    """Deletes the annotations of a list of identifiers."""
    call.store.annotations.delete(call.id_list())


def _load(call: Call) -> str:
    text = call.store.annotations.find_text(check_id(call.path["id"]))
    if text is None:
        raise RestError(400, f"Invalid upenn_annotation id ({call.path['id']}).")
    return text


def _selection(call: Call) -> Selection:
    dataset_id = call.store.folders.load(call.required_text("datasetId"))["_id"]
    tags = call.json("tags")
    if tags is not None and not isinstance(tags, list):
        raise RestError(400, "Parameter tags must be a JSON array.")
    if not all(isinstance(tag, str) for tag in tags or []):
        raise RestError(400, "Parameter tags must hold texts only.")
    return Selection(dataset_id, call.text("shape"), tags or ())


ROUTES = [
    route("GET", "upenn_annotation", list_annotations),
    route("POST", "upenn_annotation", create_annotation),
    route("GET", "upenn_annotation/count", count_annotations),
    route("POST", "upenn_annotation/multiple", create_annotations),
    route("PUT", "upenn_annotation/multiple", update_annotations),
    route("DELETE", "upenn_annotation/multiple", delete_annotations),
    route("GET", "upenn_annotation/{id}", get_annotation),
    route("PUT", "upenn_annotation/{id}", update_annotation),
    route("DELETE", "upenn_annotation/{id}", delete_annotation),
]
