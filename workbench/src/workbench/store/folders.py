"""Folders: they hold folders and items; a dataset is a folder whose metadata says so."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable

from workbench.errors import InvalidDocumentError
from workbench.store.contents import Contents
from workbench.store.database import Database, new_id, now
from workbench.store.documents import EVERYTHING, Document, Paging, check_id, json_text, merge_metadata

SCHEMA = """
CREATE TABLE IF NOT EXISTS folders (
    id TEXT PRIMARY KEY,
    parent_type TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    name TEXT NOT NULL,
    lower_name TEXT NOT NULL,
    description TEXT NOT NULL,
    public INTEGER NOT NULL,
    meta TEXT NOT NULL,
    is_dataset INTEGER NOT NULL,
    creator_id TEXT NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    UNIQUE (parent_id, parent_type, name)
);
"""
DATASET_SUBTYPE = "contrastDataset"

_COLUMNS = {"_id": "id", "name": "name", "lowerName": "lower_name", "created": "created", "updated": "updated"}
_SIZE = """(SELECT COALESCE(SUM(files.size), 0) FROM items JOIN files ON files.item_id = items.id
            WHERE items.folder_id = folders.id) AS size"""
_TREE = """WITH RECURSIVE tree(id) AS (
               SELECT ? UNION ALL SELECT folders.id FROM folders JOIN tree ON folders.parent_id = tree.id
               WHERE folders.parent_type = 'folder')"""


def is_dataset(folder: Document) -> bool:
    """Say whether a folder is a dataset."""
    return bool(folder["meta"].get("subtype") == DATASET_SUBTYPE)


class Folders:
    """The table of folders."""

    def __init__(self, database: Database, contents: Contents, creator_id: str) -> None:
        self._database = database
        self._contents = contents
        self._creator_id = creator_id

    def create(
        self,
        parent_id: str,
        name: str,
        *,
        parent_type: str = "folder",
        description: str = "",
        public: bool = False,
        meta: Document | None = None,
        reuse_existing: bool = False,
        rename: bool = False,
    ) -> Document:
        """Make a folder in a folder or a user.

        Args:
            reuse_existing: give the folder of that name if there is one already; `meta` is then merged into its own.
            rename: take the first free of "name", "name (1)", "name (2)" ... instead of refusing a name that is taken.

        Raises:
            InvalidDocumentError: the name is empty or taken, or there is no such parent.
        """
        name = name.strip()
        if not name:
            raise InvalidDocumentError("Folder name must not be empty.")
        with self._database.write() as connection:
            parent_id = self._check_parent(connection, parent_type, parent_id)
            existing = self._by_name(parent_type, parent_id, name)
            if existing is not None and reuse_existing:
                return self.set_metadata(existing["_id"], meta) if meta else existing
            taken = names_taken(connection, parent_id, parent_type)
            if existing is not None and not rename:
                raise InvalidDocumentError("A folder with that name already exists here.")
            if taken(name) and not rename:
                raise InvalidDocumentError("An item with that name already exists here.")
            name = free_name(name, taken)
            time = now()
            folder_id = new_id()
            connection.execute(
                "INSERT INTO folders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    folder_id,
                    parent_type,
                    parent_id,
                    name,
                    name.lower(),
                    description.strip(),
                    public,
                    *_meta_columns(merge_metadata({}, meta or {})),
                    self._creator_id,
                    time,
                    time,
                ),
            )
            return self.load(folder_id)

    def find(self, folder_id: str) -> Document | None:
        """Give a folder, or None."""
        row = self._database.read_one(f"SELECT *, {_SIZE} FROM folders WHERE id = ?", (folder_id.lower(),))
        return None if row is None else _document(row)

    def load(self, folder_id: str) -> Document:
        """Give a folder.

        Raises:
            InvalidDocumentError: there is none.
        """
        folder = self.find(check_id(folder_id))
        if folder is None:
            raise InvalidDocumentError(f"No such folder: {folder_id}")
        return folder

    def children(
        self, parent_id: str, *, parent_type: str = "folder", name: str | None = None, paging: Paging = EVERYTHING
    ) -> list[Document]:
        """List the folders in a folder or a user, or the one of a name."""
        where, arguments = _children_of(parent_id, parent_type, name)
        rows = self._database.read(f"SELECT *, {_SIZE} FROM folders WHERE {where}{paging.clause(_COLUMNS)}", arguments)
        return [_document(row) for row in rows]

    def count_children(self, parent_id: str, *, parent_type: str = "folder", name: str | None = None) -> int:
        """Count what :meth:`children` lists without paging."""
        where, arguments = _children_of(parent_id, parent_type, name)
        row = self._database.read_one(f"SELECT COUNT(*) FROM folders WHERE {where}", arguments)
        assert row is not None
        return int(row[0])

    def datasets(self) -> list[Document]:
        """List every dataset, the newest last."""
        rows = self._database.read(f"SELECT *, {_SIZE} FROM folders WHERE is_dataset ORDER BY id")
        return [_document(row) for row in rows]

    def rename(self, folder_id: str, *, name: str | None = None, description: str | None = None) -> Document:
        """Change the name or the description of a folder.

        Raises:
            InvalidDocumentError: the name is empty or taken, or there is no such folder.
        """
        with self._database.write() as connection:
            folder = self.load(folder_id)
            new_name = folder["name"] if name is None else name.strip()
            if not new_name:
                raise InvalidDocumentError("Folder name must not be empty.")
            if new_name != folder["name"]:
                if self._by_name(folder["parentCollection"], folder["parentId"], new_name):
                    raise InvalidDocumentError("A folder with that name already exists here.")
                if names_taken(connection, folder["parentId"], folder["parentCollection"])(new_name):
                    raise InvalidDocumentError("An item with that name already exists here.")
            connection.execute(
                "UPDATE folders SET name = ?, lower_name = ?, description = ?, updated = ? WHERE id = ?",
                (
                    new_name,
                    new_name.lower(),
                    folder["description"] if description is None else description.strip(),
                    now(),
                    folder["_id"],
                ),
            )
            return self.load(folder["_id"])

    def set_metadata(self, folder_id: str, changes: Document, *, allow_null: bool = False) -> Document:
        """Merge changes into the metadata; a null removes its key, unless nulls are allowed as values.

        Raises:
            InvalidDocumentError: a key is not allowed, or there is no such folder.
        """
        with self._database.write() as connection:
            folder = self.load(folder_id)
            meta = merge_metadata(folder["meta"], changes, allow_null=allow_null)
            connection.execute(
                "UPDATE folders SET meta = ?, is_dataset = ?, updated = ? WHERE id = ?",
                (*_meta_columns(meta), now(), folder["_id"]),
            )
            return self.load(folder["_id"])

    def delete(self, folder_id: str) -> None:
        """Delete a folder with all folders, items, files and annotations in it."""
        with self._database.write() as connection:
            folder_id = folder_id.lower()
            contents = connection.execute(
                f"""{_TREE} SELECT files.content_id FROM tree JOIN items ON items.folder_id = tree.id
                    JOIN files ON files.item_id = items.id""",
                (folder_id,),
            ).fetchall()
            # Items, files, annotations and connections go with their folder (ON DELETE CASCADE).
            connection.execute(f"{_TREE} DELETE FROM folders WHERE id IN tree", (folder_id,))
            self._database.after_commit(lambda: self._contents.remove([row[0] for row in contents]))

    def _by_name(self, parent_type: str, parent_id: str, name: str) -> Document | None:
        found = self.children(parent_id, parent_type=parent_type, name=name)
        return found[0] if found else None

    def _check_parent(self, connection: sqlite3.Connection, parent_type: str, parent_id: str) -> str:
        if parent_type == "folder":
            return str(self.load(parent_id)["_id"])
        parent_id = check_id(parent_id)
        if connection.execute("SELECT 1 FROM users WHERE id = ?", (parent_id,)).fetchone() is None:
            raise InvalidDocumentError(f"No such user: {parent_id}")
        return parent_id


def names_taken(connection: sqlite3.Connection, parent_id: str, parent_type: str = "folder") -> Callable[[str], bool]:
    """Give a test of whether a folder or an item of a name stands in a parent; one name serves only one of them."""

    def taken(name: str) -> bool:
        return (
            connection.execute(
                """SELECT 1 FROM folders WHERE parent_type = ? AND parent_id = ? AND name = ?
                   UNION ALL SELECT 1 FROM items WHERE ? = 'folder' AND folder_id = ? AND name = ?""",
                (parent_type, parent_id, name, parent_type, parent_id, name),
            ).fetchone()
            is not None
        )

    return taken


def free_name(name: str, taken: Callable[[str], bool]) -> str:
    """Give the first of "name", "name (1)", "name (2)" ... that is not taken."""
    candidate, number = name, 0
    while taken(candidate):
        number += 1
        candidate = f"{name} ({number})"
    return candidate


def _meta_columns(meta: Document) -> tuple[str, bool]:
    return json_text(meta), is_dataset({"meta": meta})


def _children_of(parent_id: str, parent_type: str, name: str | None) -> tuple[str, list[str]]:
    if name is None:
        return "parent_type = ? AND parent_id = ?", [parent_type, parent_id.lower()]
    return "parent_type = ? AND parent_id = ? AND name = ?", [parent_type, parent_id.lower(), name]


def _document(row: sqlite3.Row) -> Document:
    return {
        "_id": row["id"],
        "_modelType": "folder",
        "_accessLevel": 2,
        "name": row["name"],
        "description": row["description"],
        "parentId": row["parent_id"],
        "parentCollection": row["parent_type"],
        "baseParentId": row["creator_id"],
        "baseParentType": "user",
        "creatorId": row["creator_id"],
        "public": bool(row["public"]),
        "size": row["size"],
        "created": row["created"],
        "updated": row["updated"],
        "meta": json.loads(row["meta"]),
    }
