"""Folders: they hold folders and items; a dataset is a folder whose metadata says so."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from workbench.errors import InvalidDocumentError
from workbench.store.documents import EVERYTHING, Document, Paging
from workbench.store.tables import DescribedTable, existing_id

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

_TREE = """WITH RECURSIVE tree(id) AS (
               SELECT ? UNION ALL SELECT folders.id FROM folders JOIN tree ON folders.parent_id = tree.id
               WHERE folders.parent_type = 'folder')"""


def is_dataset(folder: Document) -> bool:
    """Say whether a folder is a dataset."""
    return bool(folder["meta"].get("subtype") == DATASET_SUBTYPE)


class Folders(DescribedTable):
    """The table of folders."""

    kind = "folder"
    _expressions = """, (SELECT COALESCE(SUM(files.size), 0) FROM items JOIN files ON files.item_id = items.id
                         WHERE items.folder_id = folders.id) AS size"""

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
        name = self._checked_name(name)
        with self._database.write() as connection:
            parent_id = self._check_parent(connection, parent_type, parent_id)
            if reuse_existing and (existing := self.children(parent_id, parent_type=parent_type, name=name)):
                return self.set_metadata(existing[0]["_id"], meta) if meta else existing[0]
            if rename:
                name = free_name(name, names_taken(connection, parent_id, parent_type))
            else:
                self._refuse_taken(connection, parent_type, parent_id, name)
            parent = {"parent_type": parent_type, "parent_id": parent_id}
            return self._add(connection, name, description, meta, {**parent, "public": public})

    def children(
        self, parent_id: str, *, parent_type: str = "folder", name: str | None = None, paging: Paging = EVERYTHING
    ) -> list[Document]:
        """List the folders in a folder or a user, or the one of a name."""
        return self._select(_in_parent(parent_id, parent_type, name), paging)

    def count_children(self, parent_id: str, *, parent_type: str = "folder", name: str | None = None) -> int:
        """Count what :meth:`children` lists without paging."""
        return self._count(_in_parent(parent_id, parent_type, name))

    def datasets(self) -> list[Document]:
        """List every dataset, the newest last."""
        return self._select({"is_dataset": True})

    def delete(self, folder_id: str) -> None:
        """Delete a folder with all folders, items, files and annotations in it."""
        self._delete(
            folder_id,
            contents=f"""{_TREE} SELECT files.content_id FROM tree JOIN items ON items.folder_id = tree.id
                         JOIN files ON files.item_id = items.id""",
            rows=f"{_TREE} DELETE FROM folders WHERE id IN tree",
        )

    def _name_for(self, connection: sqlite3.Connection, document: Document, name: str) -> str:
        self._refuse_taken(connection, document["parentCollection"], document["parentId"], name)
        return name

    def _refuse_taken(self, connection: sqlite3.Connection, parent_type: str, parent_id: str, name: str) -> None:
        if names_taken(connection, parent_id, parent_type)(name):
            kind = "A folder" if self.count_children(parent_id, parent_type=parent_type, name=name) else "An item"
            raise InvalidDocumentError(f"{kind} with that name already exists here.")

    def _meta_columns(self, meta: Document) -> dict[str, Any]:
        return {**super()._meta_columns(meta), "is_dataset": is_dataset({"meta": meta})}

    def _check_parent(self, connection: sqlite3.Connection, parent_type: str, parent_id: str) -> str:
        if parent_type == "folder":
            return str(self.load(parent_id)["_id"])
        return existing_id(connection, "user", parent_id)

    @staticmethod
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


def _in_parent(parent_id: str, parent_type: str, name: str | None) -> dict[str, str | None]:
    return {"parent_type": parent_type, "parent_id": parent_id.lower(), "name": name}
