"""The interfaces of workers: one document per image, for every user of the server."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from workbench.store.database import Database, new_id
from workbench.store.documents import Document, check_storable, json_text

SCHEMA = """
CREATE TABLE IF NOT EXISTS interfaces (
    id TEXT PRIMARY KEY,
    image TEXT NOT NULL UNIQUE,
    interface TEXT NOT NULL
);
"""


class Interfaces:
    """The table of worker interfaces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, image: str) -> Any:
        """Give the interface that a worker stored for its image, or None."""
        row = self._database.read_one("SELECT interface FROM interfaces WHERE image = ?", (image,))
        return None if row is None else json.loads(row["interface"])

    def store(self, image: str, interface: Any) -> Document:
        """Keep an interface in place of the one before, and give its document.

        Raises:
            InvalidDocumentError: it holds what could not be read again.
        """
        check_storable(interface)
        text = json_text(interface)
        with self._database.write() as connection:
            row: sqlite3.Row = connection.execute(
                """INSERT INTO interfaces VALUES (?, ?, ?)
                   ON CONFLICT (image) DO UPDATE SET interface = excluded.interface RETURNING id""",
                (new_id(), image, text),
            ).fetchone()
        return {"_id": row["id"], "image": image, "interface": interface}
