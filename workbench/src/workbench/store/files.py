"""Files of items: a row each, its bytes in the contents."""

from __future__ import annotations

import mimetypes
import re
import sqlite3
from pathlib import Path

from workbench.errors import InvalidDocumentError
from workbench.store.contents import Contents
from workbench.store.database import Database, new_id, now
from workbench.store.documents import EVERYTHING, Document, Paging, check_id

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY,
    item_id TEXT NOT NULL REFERENCES items (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    content_id TEXT NOT NULL UNIQUE,
    creator_id TEXT NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS files_by_item ON files (item_id, name);
"""
DEFAULT_MIME_TYPE = "application/octet-stream"

# As a header of an answer can hold it.
_MIME_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.-]+)*", re.ASCII)
_COLUMNS = {"_id": "id", "name": "name", "size": "size", "created": "created", "updated": "updated"}


class Files:
    """The table of files."""

    def __init__(self, database: Database, contents: Contents, creator_id: str) -> None:
        self._database = database
        self._contents = contents
        self._creator_id = creator_id

    def create(self, item_id: str, name: str, content_id: str, *, mime_type: str | None = None) -> Document:
        """Add a kept content to an item as a file.

        Args:
            mime_type: guessed from the name if it is not given, or says only that it is bytes.

        Raises:
            InvalidDocumentError: the name is empty, the kind is none, or there is no such item.
        """
        check_mime_type(mime_type)
        if not name:
            raise InvalidDocumentError("File name must not be empty.")
        with self._database.write() as connection:
            item_id = check_id(item_id)
            if connection.execute("SELECT 1 FROM items WHERE id = ?", (item_id,)).fetchone() is None:
                raise InvalidDocumentError(f"No such item: {item_id}")
            time = now()
            file_id = new_id()
            connection.execute(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    file_id,
                    item_id,
                    name,
                    _mime_type(name) if mime_type in (None, DEFAULT_MIME_TYPE) else mime_type,
                    self._contents.path(content_id).stat().st_size,
                    content_id,
                    self._creator_id,
                    time,
                    time,
                ),
            )
            return self.load(file_id)

    def replace_content(self, file_id: str, content_id: str) -> Document:
        """Give a file other bytes; identifiers and names stay, the old bytes are removed.

        Raises:
            InvalidDocumentError: there is no such file (any more).
        """
        with self._database.write() as connection:
            file = self.load(file_id)
            (old,) = connection.execute("SELECT content_id FROM files WHERE id = ?", (file["_id"],)).fetchone()
            time = now()
            connection.execute(
                "UPDATE files SET content_id = ?, size = ?, created = ?, updated = ? WHERE id = ?",
                (content_id, self._contents.path(content_id).stat().st_size, time, time, file["_id"]),
            )
            self._database.after_commit(lambda: self._contents.remove([old]))
            return self.load(file["_id"])

    def find(self, file_id: str) -> Document | None:
        """Give a file, or None."""
        row = self._database.read_one("SELECT * FROM files WHERE id = ?", (file_id.lower(),))
        return None if row is None else _document(row)

    def load(self, file_id: str) -> Document:
        """Give a file.

        Raises:
            InvalidDocumentError: there is none.
        """
        file = self.find(check_id(file_id))
        if file is None:
            raise InvalidDocumentError(f"No such file: {file_id}")
        return file

    def path(self, file_id: str) -> Path:
        """Give the path of the bytes that a file has now; later bytes have another path.

        Raises:
            InvalidDocumentError: there is no such file.
        """
        row = self._database.read_one("SELECT content_id FROM files WHERE id = ?", (file_id.lower(),))
        if row is None:
            raise InvalidDocumentError(f"No such file: {file_id}")
        return self._contents.path(row["content_id"])

    def children(self, item_id: str, *, paging: Paging = EVERYTHING) -> list[Document]:
        """List the files of an item."""
        rows = self._database.read(
            f"SELECT * FROM files WHERE item_id = ?{paging.clause(_COLUMNS)}", (item_id.lower(),)
        )
        return [_document(row) for row in rows]

    def count_children(self, item_id: str) -> int:
        """Count the files of an item."""
        row = self._database.read_one("SELECT COUNT(*) FROM files WHERE item_id = ?", (item_id.lower(),))
        assert row is not None
        return int(row[0])

    def rename(self, file_id: str, *, name: str | None = None, mime_type: str | None = None) -> Document:
        """Change the name or the kind of a file.

        Raises:
            InvalidDocumentError: the name is empty, the kind is none, or there is no such file.
        """
        check_mime_type(mime_type)
        if name is not None and not name:
            raise InvalidDocumentError("File name must not be empty.")
        with self._database.write() as connection:
            file = self.load(file_id)
            connection.execute(
                "UPDATE files SET name = ?, mime_type = ?, updated = ? WHERE id = ?",
                (name or file["name"], mime_type or file["mimeType"], now(), file["_id"]),
            )
            return self.load(file["_id"])

    def delete(self, file_id: str) -> None:
        """Delete a file; its item stays."""
        with self._database.write() as connection:
            file_id = file_id.lower()
            rows = connection.execute("SELECT content_id FROM files WHERE id = ?", (file_id,)).fetchall()
            connection.execute("DELETE FROM files WHERE id = ?", (file_id,))
            self._database.after_commit(lambda: self._contents.remove([row[0] for row in rows]))


def check_mime_type(text: str | None) -> None:
    """Check the kind of a file, such as ``image/tiff``, if it is given.

    Raises:
        InvalidDocumentError: it has another form.
    """
    if text is not None and not _MIME_TYPE.fullmatch(text):
        raise InvalidDocumentError("Invalid value for mimeType. Give a kind of file such as image/tiff.")


def _mime_type(name: str) -> str:
    return mimetypes.guess_type(name, strict=False)[0] or DEFAULT_MIME_TYPE


def _document(row: sqlite3.Row) -> Document:
    document = {
        "_id": row["id"],
        "_modelType": "file",
        "name": row["name"],
        "itemId": row["item_id"],
        "size": row["size"],
        "mimeType": row["mime_type"],
        "exts": [extension.lower() for extension in row["name"].split(".")[1:]],
        "creatorId": row["creator_id"],
        "created": row["created"],
    }
    # The platform's files have no such date until they are renamed, so nothing that runs there may count on it.
    return document if row["updated"] == row["created"] else {**document, "updated": row["updated"]}
