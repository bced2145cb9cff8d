"""What the documents of all tables share: JSON text, metadata, paging."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from workbench.errors import InvalidDocumentError

Document = dict[str, Any]
MAX_INTEGER = 2**63 - 1  # of SQLite, as of the platform's database
MAX_DEPTH = 100  # of the platform's database

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class Paging:
    """Which part of a list is wanted.

    Args:
        limit: how many; 0 means all.
        offset: how many to leave out at the start.
        sort: name of the field to sort by; an unknown one sorts by the identifier.
        descending: whether the largest comes first.
    """

    limit: int = 0
    offset: int = 0
    sort: str = "_id"
    descending: bool = False

    def without_offset(self) -> Paging:
        """Give the same from the start."""
        return replace(self, offset=0)

    def clause(self, columns: Mapping[str, str]) -> str:
        """Give the end of a SELECT: the order (always complete, so that pages never overlap) and the part.

        Args:
            columns: SQL expression of every field that can be sorted by, ``_id`` among them.
        """
        direction = "DESC" if self.descending else "ASC"
        identifier = columns["_id"]
        column = columns.get(self.sort, identifier)
        order = f"{column} {direction}" + ("" if column == identifier else f", {identifier} {direction}")
        return f" ORDER BY {order} LIMIT {self.limit or -1} OFFSET {self.offset}"


EVERYTHING = Paging()


def json_text(value: Any) -> str:
    """Write a value as compact JSON in ASCII.

    Raises:
        InvalidDocumentError: it holds a number that JSON cannot hold, or is nested too deeply.
    """
    try:
        return _encode(value)
    except ValueError as error:
        raise InvalidDocumentError("The data holds a number that is not finite, which is not valid JSON.") from error
    except RecursionError as error:
        raise InvalidDocumentError("The data is nested too deeply.") from error


def check_storable(value: Any, levels: int = MAX_DEPTH) -> None:
    """Refuse what is nested so deeply that it could not be read again, and integers that no database holds.

    Raises:
        InvalidDocumentError: there are more levels of arrays and objects, or an integer has more than 64 bits.
    """
    if isinstance(value, (dict, list)):
        if levels == 0:
            raise InvalidDocumentError("The data is nested too deeply.")
        for part in value.values() if isinstance(value, dict) else value:
            check_storable(part, levels - 1)
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise InvalidDocumentError("The data holds an integer that does not fit into 64 bits.")


def is_id(text: str) -> bool:
    """Say whether a text has the form of an identifier."""
    return re.fullmatch("[0-9a-fA-F]{24}", text) is not None


def check_id(text: str) -> str:
    """Give an identifier in lower case.

    Raises:
        InvalidDocumentError: the text has another form.
    """
    if not is_id(text):
        raise InvalidDocumentError(f"Invalid ObjectId: {text}")
    return text.lower()


def merge_metadata(meta: Document, changes: Document, *, allow_null: bool = False) -> Document:
    """Give metadata with changes: a null removes its key, unless nulls are allowed as values.

    Raises:
        InvalidDocumentError: a key or a value is one that the platform's database cannot hold.
    """
    check_storable(changes)
    for key in changes:
        if not key:
            raise InvalidDocumentError("Key names must not be empty.")
        if "." in key:
            raise InvalidDocumentError(f'Invalid key {key}: keys must not contain the "." character.')
        if key[0] == "$":
            raise InvalidDocumentError(f'Invalid key {key}: keys must not start with the "$" character.')
        if "\0" in key:
            raise InvalidDocumentError(f"Invalid key {key!r}: keys must not contain null characters.")
    merged = {**meta, **changes}
    return merged if allow_null else {key: value for key, value in merged.items() if changes.get(key, 0) is not None}
