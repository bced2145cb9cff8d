"""What the routes of folders and items share: documents with a name, a description and metadata."""

from __future__ import annotations

from workbench.errors import RestError
from workbench.server.endpoint import Call
from workbench.store.documents import Document
from workbench.store.tables import DescribedTable


def update(call: Call, table: DescribedTable) -> Document:
    """Change name, description and metadata of the document of the path's `id`."""
    document = call.document(table.kind, table.find)
    meta = metadata_parameter(call)
    with call.store.database.write():
        document = table.rename(
            document["_id"], name=call.parameters.get("name"), description=call.parameters.get("description")
        )
        return table.set_metadata(document["_id"], meta) if meta else document


def merge_metadata(call: Call, table: DescribedTable) -> Document:
    """Merge the body into the metadata of the document of the path's `id`."""
    document = call.document(table.kind, table.find)
    changes = call.metadata_body()
    return table.set_metadata(document["_id"], changes, allow_null=call.boolean("allowNull"))


def delete(call: Call, table: DescribedTable) -> dict[str, str]:
    """Delete the document of the path's `id`."""
    document = call.document(table.kind, table.find)
    table.delete(document["_id"])
    return {"message": f"Deleted {table.kind} {document['name']}."}


def metadata_parameter(call: Call) -> Document | None:
    """Give the `metadata` parameter, which must be a JSON object."""
    meta = call.json("metadata")
    if meta is not None and not isinstance(meta, dict):
        raise RestError(400, "Parameter metadata must be a JSON object.")
    return meta
