"""Files of items: a row each, its bytes in the contents."""

from __future__ import annotations

import mimetypes
import re
import sqlite3
from pathlib import Path
from typing import ClassVar

from workbench.errors import InvalidDocumentError
from workbench.store.database import now
from workbench.store.documents import EVERYTHING, Document, Paging
from workbench.store.tables import Table, existing_id

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


class Files(Table):
    """The table of files."""

    kind = "file"
    _sortable: ClassVar = {"_id": "id", "name": "name", "size": "size", "created": "created", "updated": "updated"}

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
            columns = {
                "item_id": existing_id(connection, "item", item_id),
                "name": name,
                "mime_type": _mime_type(name) if mime_type in (None, DEFAULT_MIME_TYPE) else mime_type,
                "size": self._contents.path(content_id).stat().st_size,
                "content_id": content_id,
            }
            return self._insert(connection, columns)

    def replace_content(self, file_id: str, content_id: str) -> Document:
        """Give a file other bytes; identifiers and names stay, the old bytes are removed.

        Raises:
            InvalidDocumentError: there is no such file (any more).
        """
        with self._database.write() as connection:
            file = self.load(file_id)
            (old,) = connection.execute("SELECT content_id FROM files WHERE id = ?", (file["_id"],)).fetchone()
            self._database.after_commit(lambda: self._contents.remove([old]))
            time = now()
            size = self._contents.path(content_id).stat().st_size
            columns = {"content_id": content_id, "size": size, "created": time, "updated": time}
            return self._update(connection, file["_id"], columns)

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
        return self._select({"item_id": item_id.lower()}, paging)

    def count_children(self, item_id: str) -> int:
        """Count the files of an item."""
        return self._count({"item_id": item_id.lower()})

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
            columns = {"name": name or file["name"], "mime_type": mime_type or file["mimeType"]}
            return self._update(connection, file["_id"], columns)

    def delete(self, file_id: str) -> None:
        """Delete a file; its item stays."""
        self._delete(
            file_id, contents="SELECT content_id FROM files WHERE id = ?", rows="DELETE FROM files WHERE id = ?"
        )

    @staticmethod
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


def check_mime_type(text: str | None) -> None:
    """Check the kind of a file, such as ``image/tiff``, if it is given.

    Raises:
        InvalidDocumentError: it has another form.
    """
    if text is not None and not _MIME_TYPE.fullmatch(text):
        raise InvalidDocumentError("Invalid value for mimeType. Give a kind of file such as image/tiff.")


def _mime_type(name: str) -> str:
    return mimetypes.guess_type(name, strict=False)[0] or DEFAULT_MIME_TYPE
