"""The one person who uses this workbench."""

from __future__ import annotations

from workbench.store.database import Database, new_id, now
from workbench.store.documents import Document

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY,
    login TEXT NOT NULL UNIQUE,
    created TEXT NOT NULL
);
"""
LOGIN = "user"


class Users:
    """The table of users.

    Attributes:
        user: the document of the only one; made on first use.
    """

    def __init__(self, database: Database) -> None:
        with database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO users VALUES (?, ?, ?)", (new_id(), LOGIN, now()))
            row = connection.execute("SELECT * FROM users WHERE login = ?", (LOGIN,)).fetchone()
        self.user: Document = {
            "_id": row["id"],
            "_modelType": "user",
            "_accessLevel": 2,
            "login": row["login"],
            "firstName": "Workbench",
            "lastName": "User",
            "email": "user@localhost",
            "admin": True,
            "public": False,
            "status": "enabled",
            "emailVerified": True,
            "groups": [],
            "groupInvites": [],
            "created": row["created"],
        }

    def find(self, user_id: str) -> Document | None:
        """Give the user of an identifier, or None."""
        return self.user if self.user["_id"] == user_id.lower() else None
