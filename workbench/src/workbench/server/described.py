"""Routes that folders and items share: they have a name, a description and metadata."""

from __future__ import annotations

from collections.abc import Callable

from workbench.errors import RestError
from workbench.server.endpoint import Call, RouteSpec, route
from workbench.store.documents import Document
from workbench.store.store import Store
from workbench.store.tables import DescribedTable


def described_routes(kind: str, table_of: Callable[[Store], DescribedTable]) -> list[RouteSpec]:
    """Describe the routes that read, change and delete one document.

    Args:
        kind: first part of the routes' paths, such as ``folder``.
        table_of: gives the table of these documents.
    """

    def load(call: Call) -> Document:
        return call.document(kind, table_of(call.store).find)

    def update(call: Call) -> Document:
        document, meta = load(call), metadata_parameter(call)
        table, given = table_of(call.store), call.parameters
        with call.store.database.write():
            document = table.rename(document["_id"], name=given.get("name"), description=given.get("description"))
            return table.set_metadata(document["_id"], meta) if meta else document

    def merge_metadata(call: Call) -> Document:
        document, changes = load(call), call.metadata_body()
        return table_of(call.store).set_metadata(document["_id"], changes, allow_null=call.boolean("allowNull"))

    def delete(call: Call) -> dict[str, str]:
        document = load(call)
        table_of(call.store).delete(document["_id"])
        return {"message": f"Deleted {kind} {document['name']}."}

    return [
        route("GET", f"{kind}/{{id}}", load),
        route("PUT", f"{kind}/{{id}}", update),
        route("DELETE", f"{kind}/{{id}}", delete),
        route("PUT", f"{kind}/{{id}}/metadata", merge_metadata),
    ]


def metadata_parameter(call: Call) -> Document | None:
    """Give the `metadata` parameter, which must be a JSON object."""
    meta = call.json("metadata")
    if meta is not None and not isinstance(meta, dict):
        raise RestError(400, "Parameter metadata must be a JSON object.")
    return meta
