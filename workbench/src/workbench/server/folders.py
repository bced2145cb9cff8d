"""Routes of folders."""

from __future__ import annotations

from starlette.responses import Response

from workbench.errors import RestError
from workbench.server.endpoint import Call, list_response, route
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


def get_folder(call: Call) -> Document:
    """A folder."""
    return call.folder()


def update_folder(call: Call) -> Document:
    """Changes name, description and metadata."""
    folder = call.folder()
    meta = metadata_parameter(call)
    with call.store.database.write():
        folder = call.store.folders.rename(
            folder["_id"], name=call.parameters.get("name"), description=call.parameters.get("description")
        )
        return call.store.folders.set_metadata(folder["_id"], meta) if meta else folder


def set_metadata(call: Call) -> Document:
    """Merges the body into the metadata; a null removes its key."""
    folder = call.folder()
    changes = call.metadata_body()
    return call.store.folders.set_metadata(folder["_id"], changes, allow_null=call.boolean("allowNull"))


def delete_folder(call: Call) -> dict[str, str]:
    """Deletes a folder with everything in it."""
    folder = call.folder()
    call.store.folders.delete(folder["_id"])
    return {"message": f"Deleted folder {folder['name']}."}


def metadata_parameter(call: Call) -> Document | None:
    """Give the `metadata` parameter, which must be a JSON object."""
    meta = call.json("metadata")
    if meta is not None and not isinstance(meta, dict):
        raise RestError(400, "Parameter metadata must be a JSON object.")
    return meta


ROUTES = [
    route("GET", "folder", list_folders),
    route("POST", "folder", create_folder),
    route("GET", "folder/{id}", get_folder),
    route("PUT", "folder/{id}", update_folder),
    route("DELETE", "folder/{id}", delete_folder),
    route("PUT", "folder/{id}/metadata", set_metadata),
]
