"""What the tables of folders, items and files share."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from workbench.errors import InvalidDocumentError
from workbench.store.contents import Contents
from workbench.store.database import Database, new_id, now
from workbench.store.documents import EVERYTHING, Document, Paging, check_id, json_text, merge_metadata


class Table(ABC):
    """One table, of which each row is a document.

    Attributes:
        kind: what the platform calls such a document; with an s it is the table's name.
    """

    kind: ClassVar[str]
    _expressions: ClassVar[str] = ""  # SQL of what a document has beside the columns
    _sortable: ClassVar[dict[str, str]]  # column of every field that lists are sorted by

    def __init__(self, database: Database, contents: Contents, creator_id: str) -> None:
        self._database = database
        self._contents = contents
        self._creator_id = creator_id
        self._table = f"{self.kind}s"

    def find(self, identifier: str) -> Document | None:
        """Give a document, or None."""
        found = self._select({"id": identifier.lower()})
        return found[0] if found else None

    def load(self, identifier: str) -> Document:
        """Give a document.

        Raises:
            InvalidDocumentError: there is none.
        """
        document = self.find(check_id(identifier))
        if document is None:
            raise InvalidDocumentError(f"No such {self.kind}: {identifier}")
        return document

    @abstractmethod
    def delete(self, identifier: str) -> None:
        """Delete a document with everything in it."""

    @staticmethod
    @abstractmethod
    def _document(row: sqlite3.Row) -> Document:
        """Give the document of a row."""

    def _select(self, where: Mapping[str, Any], paging: Paging = EVERYTHING) -> list[Document]:
        """List the documents whose columns have these values; a None asks for nothing."""
        terms, arguments = _condition(where)
        rows = self._database.read(
            f"SELECT *{self._expressions} FROM {self._table}{terms}{paging.clause(self._sortable)}", arguments
        )
        return [self._document(row) for row in rows]

    def _count(self, where: Mapping[str, Any]) -> int:
        """Count what :meth:`_select` lists without paging."""
        terms, arguments = _condition(where)
        return self._database.count(f"SELECT COUNT(*) FROM {self._table}{terms}", arguments)

    def _insert(self, connection: sqlite3.Connection, columns: Mapping[str, Any]) -> Document:
        """Add a row, with an identifier, a creator and dates beside these columns."""
        time = now()
        row = {"id": new_id(), **columns, "creator_id": self._creator_id, "created": time, "updated": time}
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO {self._table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        return self.load(row["id"])

    def _update(self, connection: sqlite3.Connection, identifier: str, columns: Mapping[str, Any]) -> Document:
        """Change columns of a row, and the date of its last change."""
        changes = {"updated": now(), **columns}
        assignments = ", ".join(f"{column} = ?" for column in changes)
        connection.execute(f"UPDATE {self._table} SET {assignments} WHERE id = ?", [*changes.values(), identifier])
        return self.load(identifier)

    def _delete(self, identifier: str, *, contents: str, rows: str) -> None:
        """Delete rows by an SQL statement, then the contents that another one lists; both take the identifier.

        What belongs to the rows goes with them (ON DELETE CASCADE).
        """
        arguments = (identifier.lower(),)
        with self._database.write() as connection:
            old = [row[0] for row in connection.execute(contents, arguments)]
            connection.execute(rows, arguments)
            self._database.after_commit(lambda: self._contents.remove(old))


class DescribedTable(Table):
    """A table of documents that have a description and metadata."""

    _sortable: ClassVar = {
        "_id": "id",
        "name": "name",
        "lowerName": "lower_name",
        "created": "created",
        "updated": "updated",
    }

    def rename(self, identifier: str, *, name: str | None = None, description: str | None = None) -> Document:
        """Change the name or the description.

        Raises:
            InvalidDocumentError: the name is empty or cannot be given, or there is no such document.
        """
        with self._database.write() as connection:
            document = self.load(identifier)
            new_name = document["name"] if name is None else self._checked_name(name)
            if new_name != document["name"]:
                new_name = self._name_for(connection, document, new_name)
            columns = self._columns(new_name, document["description"] if description is None else description)
            return self._update(connection, document["_id"], columns)

    def set_metadata(self, identifier: str, changes: Document, *, allow_null: bool = False) -> Document:
        """Merge changes into the metadata; a null removes its key, unless nulls are allowed as values.

        Raises:
            InvalidDocumentError: a key is not allowed, or there is no such document.
        """
        with self._database.write() as connection:
            document = self.load(identifier)
            meta = merge_metadata(document["meta"], changes, allow_null=allow_null)
            return self._update(connection, document["_id"], self._meta_columns(meta))

    def _add(
        self,
        connection: sqlite3.Connection,
        name: str,
        description: str,
        meta: Document | None,
        columns: Mapping[str, Any],
    ) -> Document:
        """Add a row with a description and metadata beside these columns."""
        described = {**self._columns(name, description), **self._meta_columns(merge_metadata({}, meta or {}))}
        return self._insert(connection, {**described, **columns})

    def _checked_name(self, name: str) -> str:
        name = name.strip()
        if not name:
            raise InvalidDocumentError(f"{self.kind.capitalize()} name must not be empty.")
        return name

    @abstractmethod
    def _name_for(self, connection: sqlite3.Connection, document: Document, name: str) -> str:
        """Give the name that a document gets when it is to have another one."""

    def _meta_columns(self, meta: Document) -> dict[str, Any]:
        return {"meta": json_text(meta)}

    def _columns(self, name: str, description: str) -> dict[str, str]:
        return {"name": name, "lower_name": name.lower(), "description": description.strip()}


def existing_id(connection: sqlite3.Connection, kind: str, identifier: str) -> str:
    """Give the identifier of a document that must exist, in lower case.

    Raises:
        InvalidDocumentError: it does not.
    """
    identifier = check_id(identifier)
    if connection.execute(f"SELECT 1 FROM {kind}s WHERE id = ?", (identifier,)).fetchone() is None:
        raise InvalidDocumentError(f"No such {kind}: {identifier}")
    return identifier


def _condition(where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    given = {column: value for column, value in where.items() if value is not None}
    return " WHERE " + " AND ".join(f"{column} = ?" for column in given), list(given.values())
