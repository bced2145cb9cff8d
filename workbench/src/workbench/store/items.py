"""Items: a name in a folder with metadata and files; an image is an item with a large-image record."""

from __future__ import annotations

import json
import sqlite3

from workbench.errors import InvalidDocumentError
from workbench.store.contents import Contents
from workbench.store.database import Database, new_id, now
from workbench.store.documents import EVERYTHING, Document, Paging, check_id, json_text, merge_metadata
from workbench.store.folders import free_name, names_taken

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

_COLUMNS = {"_id": "id", "name": "name", "lowerName": "lower_name", "created": "created", "updated": "updated"}
_SIZE = "(SELECT COALESCE(SUM(files.size), 0) FROM files WHERE files.item_id = items.id) AS size"


class Items:
    """The table of items."""

    def __init__(self, database: Database, contents: Contents, creator_id: str) -> None:
        self._database = database
        self._contents = contents
        self._creator_id = creator_id

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
        name = name.strip()
        if not name:
            raise InvalidDocumentError("Item name must not be empty.")
        with self._database.write() as connection:
            folder_id = check_id(folder_id)
            if connection.execute("SELECT 1 FROM folders WHERE id = ?", (folder_id,)).fetchone() is None:
                raise InvalidDocumentError(f"No such folder: {folder_id}")
            if reuse_existing and (existing := self.children(folder_id, name=name)):
                return self.set_metadata(existing[0]["_id"], meta) if meta else existing[0]
            name = free_name(name, names_taken(connection, folder_id))
            time = now()
            item_id = new_id()
            connection.execute(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?, ?)",
                (
                    item_id,
                    folder_id,
                    name,
                    name.lower(),
                    description.strip(),
                    json_text(merge_metadata({}, meta or {})),
                    self._creator_id,
                    time,
                    time,
                ),
            )
            return self.load(item_id)

    def find(self, item_id: str) -> Document | None:
        """Give an item, or None."""
        row = self._database.read_one(f"SELECT *, {_SIZE} FROM items WHERE id = ?", (item_id.lower(),))
        return None if row is None else _document(row)

    def load(self, item_id: str) -> Document:
        """Give an item.

        Raises:
            InvalidDocumentError: there is none.
        """
        item = self.find(check_id(item_id))
        if item is None:
            raise InvalidDocumentError(f"No such item: {item_id}")
        return item

    def children(self, folder_id: str, *, name: str | None = None, paging: Paging = EVERYTHING) -> list[Document]:
        """List the items of a folder, or the one of a name."""
        where, arguments = _children_of(folder_id, name)
        rows = self._database.read(f"SELECT *, {_SIZE} FROM items WHERE {where}{paging.clause(_COLUMNS)}", arguments)
        return [_document(row) for row in rows]

    def count_children(self, folder_id: str, *, name: str | None = None) -> int:
        """Count what :meth:`children` lists without paging."""
        where, arguments = _children_of(folder_id, name)
        row = self._database.read_one(f"SELECT COUNT(*) FROM items WHERE {where}", arguments)
        assert row is not None
        return int(row[0])

    def rename(self, item_id: str, *, name: str | None = None, description: str | None = None) -> Document:
        """Change the name or the description of an item; a name that is taken gets a number.

        Raises:
            InvalidDocumentError: the name is empty, or there is no such item.
        """
        with self._database.write() as connection:
            item = self.load(item_id)
            new_name = item["name"] if name is None else name.strip()
            if not new_name:
                raise InvalidDocumentError("Item name must not be empty.")
            if new_name != item["name"]:
                new_name = free_name(new_name, names_taken(connection, item["folderId"]))
            connection.execute(
                "UPDATE items SET name = ?, lower_name = ?, description = ?, updated = ? WHERE id = ?",
                (
                    new_name,
                    new_name.lower(),
                    item["description"] if description is None else description.strip(),
                    now(),
                    item["_id"],
                ),
            )
            return self.load(item["_id"])

    def set_metadata(self, item_id: str, changes: Document, *, allow_null: bool = False) -> Document:
        """Merge changes into the metadata; a null removes its key, unless nulls are allowed as values.

        Raises:
            InvalidDocumentError: a key is not allowed, or there is no such item.
        """
        with self._database.write() as connection:
            item = self.load(item_id)
            meta = json_text(merge_metadata(item["meta"], changes, allow_null=allow_null))
            connection.execute("UPDATE items SET meta = ?, updated = ? WHERE id = ?", (meta, now(), item["_id"]))
            return self.load(item["_id"])

    def set_large_image(self, item_id: str, large_image: Document | None) -> Document:
        """Say which file of an item is its image, such as ``{"fileId": ...}``, or that it is none.

        Raises:
            InvalidDocumentError: there is no such item.
        """
        with self._database.write() as connection:
            item = self.load(item_id)
            text = None if large_image is None else json_text(large_image)
            connection.execute("UPDATE items SET large_image = ?, updated = ? WHERE id = ?", (text, now(), item["_id"]))
            return self.load(item["_id"])

    def delete(self, item_id: str) -> None:
        """Delete an item with its files."""
        with self._database.write() as connection:
            item_id = item_id.lower()
            rows = connection.execute("SELECT content_id FROM files WHERE item_id = ?", (item_id,)).fetchall()
            connection.execute("DELETE FROM items WHERE id = ?", (item_id,))
            self._database.after_commit(lambda: self._contents.remove([row[0] for row in rows]))


def _children_of(folder_id: str, name: str | None) -> tuple[str, list[str]]:
    if name is None:
        return "folder_id = ?", [folder_id.lower()]
    return "folder_id = ? AND name = ?", [folder_id.lower(), name]


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
