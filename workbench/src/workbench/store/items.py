"""Items: a name in a folder with metadata and files; an image is an item with a large-image record."""

from __future__ import annotations

import json
import sqlite3

from workbench.store.documents import EVERYTHING, Document, Paging, json_text
from workbench.store.folders import free_name, names_taken
from workbench.store.tables import DescribedTable, existing_id

SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    id TEXT PRIMARY KEY,
    folder_id TEXT NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    lower_name TEXT NOT NULL,
    description TEXT NOT NULL,
    meta TEXT NOT NULL,
    large_image TEXT,
    creator_id TEXT NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    UNIQUE (folder_id, name)
);
"""


class Items(DescribedTable):
    """The table of items."""

    kind = "item"
    _expressions = ", (SELECT COALESCE(SUM(files.size), 0) FROM files WHERE files.item_id = items.id) AS size"

    def create(
        self,
        folder_id: str,
        name: str,
        *,
        description: str = "",
        meta: Document | None = None,
        reuse_existing: bool = False,
    ) -> Document:
        """Make an item in a folder; if its name is taken there, it is called "name (1)", "name (2)" ...

        Args:
            reuse_existing: give the item of that name if there is one already; `meta` is then merged into its own.

        Raises:
            InvalidDocumentError: the name is empty, or there is no such folder.
        """
        name = self._checked_name(name)
        with self._database.write() as connection:
            folder_id = existing_id(connection, "folder", folder_id)
            if reuse_existing and (existing := self.children(folder_id, name=name)):
                return self.set_metadata(existing[0]["_id"], meta) if meta else existing[0]
            name = free_name(name, names_taken(connection, folder_id))
            return self._add(connection, name, description, meta, {"folder_id": folder_id})

    def children(self, folder_id: str, *, name: str | None = None, paging: Paging = EVERYTHING) -> list[Document]:
        """List the items of a folder, or the one of a name."""
        return self._select({"folder_id": folder_id.lower(), "name": name}, paging)

    def count_children(self, folder_id: str, *, name: str | None = None) -> int:
        """Count what :meth:`children` lists without paging."""
        return self._count({"folder_id": folder_id.lower(), "name": name})

    def set_large_image(self, item_id: str, large_image: Document | None) -> Document:
        """Say which file of an item is its image, such as ``{"fileId": ...}``, or that it is none.

        Raises:
            InvalidDocumentError: there is no such item.
        """
        with self._database.write() as connection:
            item = self.load(item_id)
            text = None if large_image is None else json_text(large_image)
            return self._update(connection, item["_id"], {"large_image": text})

    def delete(self, item_id: str) -> None:
        """Delete an item with its files."""
        self._delete(
            item_id,
            contents="SELECT content_id FROM files WHERE item_id = ?",
            rows="DELETE FROM items WHERE id = ?",
        )

    def _name_for(self, connection: sqlite3.Connection, document: Document, name: str) -> str:
        return free_name(name, names_taken(connection, document["folderId"]))

    @staticmethod
    def _document(row: sqlite3.Row) -> Document:
        item = {
            "_id": row["id"],
            "_modelType": "item",
            "name": row["name"],
            "description": row["description"],
            "folderId": row["folder_id"],
            "baseParentId": row["creator_id"],
            "baseParentType": "user",
            "creatorId": row["creator_id"],
            "size": row["size"],
            "created": row["created"],
            "updated": row["updated"],
            "meta": json.loads(row["meta"]),
        }
        if row["large_image"] is not None:
            item["largeImage"] = json.loads(row["large_image"])
        return item
