"""Routes of folders."""

from __future__ import annotations

from starlette.responses import Response

from workbench.errors import RestError
from workbench.server.described import described_routes, metadata_parameter
from workbench.server.endpoint import Call, route
from workbench.server.strict_json import list_response
from workbench.store.documents import Document

_PARENT_TYPES = ("folder", "user")


def list_folders(call: Call) -> Response:
    """The folders in a folder or a user, or the one of a name."""
    parent_id, name, paging = call.text("parentId"), call.text("name"), call.paging("lowerName")
    if parent_id is None or call.text("parentType") is None:
        raise RestError(400, "Invalid search mode.")
    parent_type = call.choice("parentType", _PARENT_TYPES)
    if parent_type == "folder":
        call.store.folders.load(parent_id)
    elif call.store.users.find(parent_id) is None:
        raise RestError(400, f"No such user: {parent_id}", "validation")
    folders = call.store.folders
    return list_response(
        folders.children(parent_id, parent_type=parent_type, name=name, paging=paging),
        folders.count_children(parent_id, parent_type=parent_type, name=name),
    )


def create_folder(call: Call) -> Document:
    """Makes a folder, or gives the one of that name."""
    return call.store.folders.create(
        call.required_text("parentId"),
        call.required_text("name"),
        parent_type=call.choice("parentType", _PARENT_TYPES, "folder"),
        description=call.text("description") or "",
        public=call.boolean("public"),
        meta=metadata_parameter(call),
        reuse_existing=call.boolean("reuseExisting"),
    )


ROUTES = [
    route("GET", "folder", list_folders),
    route("POST", "folder", create_folder),
    *described_routes("folder", lambda store: store.folders),
]
