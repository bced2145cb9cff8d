"""Routes of items."""

from __future__ import annotations

from starlette.responses import Response

from workbench.errors import RestError
from workbench.server.described import described_routes, metadata_parameter
from workbench.server.endpoint import Call, load, route
from workbench.server.files import send_file
from workbench.server.strict_json import list_response
from workbench.store.documents import Document


def list_items(call: Call) -> Response:
    """The items of a folder, or the one of a name."""
    folder_id, name, paging = call.text("folderId"), call.text("name"), call.paging("lowerName")
    if folder_id is None:
        raise RestError(400, "Invalid search mode.")
    call.store.folders.load(folder_id)
    return list_response(
        call.store.items.children(folder_id, name=name, paging=paging),
        call.store.items.count_children(folder_id, name=name),
    )


def create_item(call: Call) -> Document:
    """Makes an item without files."""
    folder = load("folder", call.required_text("folderId"), call.store.folders.find)
    return call.store.items.create(
        folder["_id"],
        call.required_text("name"),
        description=call.text("description") or "",
        meta=metadata_parameter(call),
        reuse_existing=call.boolean("reuseExisting"),
    )


def list_files(call: Call) -> Response:
    """The files of an item."""
    item = call.item()
    files = call.store.files.children(item["_id"], paging=call.paging("name"))
    return list_response(files, call.store.files.count_children(item["_id"]))


def download_item(call: Call) -> Response:
    """The bytes of an item's only file."""
    item = call.item()
    files = call.store.files.children(item["_id"])
    if len(files) != 1:
        raise RestError(400, f"Item {item['name']} has {len(files)} files. Download them one by one.")
    return send_file(call, files[0])


ROUTES = [
    route("GET", "item", list_items),
    route("POST", "item", create_item),
    *described_routes("item", lambda store: store.items),
    route("GET", "item/{id}/files", list_files),
    route("GET", "item/{id}/download", download_item),
]
