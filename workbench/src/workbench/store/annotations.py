"""Annotations: kept as the JSON text that is sent, beside the columns that lists are filtered by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import InvalidDocumentError, RestError
from workbench.store.database import Database, new_ids
from workbench.store.documents import EVERYTHING, Document, Paging, check_id, json_text
from workbench.store.schemas import ANNOTATION_FIELDS, check_annotation, dataset_ids, mean_vertex

SCHEMA = """
CREATE TABLE IF NOT EXISTS annotations (
    id TEXT PRIMARY KEY,
    dataset_id TEXT NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
    shape TEXT NOT NULL,
    channel INTEGER NOT NULL,
    location TEXT NOT NULL,
    x REAL,
    y REAL,
    tags TEXT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS annotations_by_dataset ON annotations (dataset_id, id);
CREATE INDEX IF NOT EXISTS annotations_by_location ON annotations (dataset_id, location);
"""

_COLUMNS = {"_id": "id", "shape": "shape", "channel": "channel"}
_INSERT = "INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Selection:
    """Which annotations of a dataset are meant.

    Args:
        dataset_id: the dataset.
        shape: only this shape.
        tags: only those that have all of these tags.
        after_id: only those after this identifier.
    """

    dataset_id: str
    shape: str | None = None
    tags: Sequence[str] = ()
    after_id: str | None = None

    def where(self) -> tuple[str, list[Any]]:
        """Give the condition and its arguments."""
        terms, arguments = ["dataset_id = ?"], [self.dataset_id.lower()]
        if self.after_id is not None:
            terms.append("id > ?")
            arguments.append(self.after_id.lower())
        if self.shape is not None:
            terms.append("shape = ?")
            arguments.append(self.shape)
        for tag in self.tags:
            terms.append("EXISTS (SELECT 1 FROM json_each(annotations.tags) WHERE value = ?)")
            arguments.append(tag)
        return " AND ".join(terms), arguments


class Annotations:
    """The table of annotations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, annotations: Sequence[Any]) -> list[str]:
        """Store annotations, all or none, and give their JSON texts in the same order, with identifiers.

        Raises:
            RestError: a dataset does not exist.
            InvalidDocumentError: an annotation breaks the schema, or a folder is no dataset.
        """
        datasets = dataset_ids(annotations)
        check_datasets_exist(self._database, datasets)
        for annotation in annotations:
            check_annotation(annotation)
        rows = [
            _row(annotation, annotation_id)
            for annotation, annotation_id in zip(annotations, new_ids(len(annotations)), strict=True)
        ]
        with self._database.write() as connection:
            check_are_datasets(self._database, datasets, "Annotation")
            connection.executemany(_INSERT, rows)
        return [row[-1] for row in rows]

    def find(self, annotation_id: str) -> Document | None:
        """Give an annotation, or None."""
        text = self.find_text(annotation_id)
        return None if text is None else json.loads(text)

    def find_text(self, annotation_id: str) -> str | None:
        """Give an annotation as JSON text, or None."""
        row = self._database.read_one("SELECT document FROM annotations WHERE id = ?", (annotation_id.lower(),))
        return None if row is None else str(row["document"])

    def select(self, selection: Selection, paging: Paging = EVERYTHING) -> list[Document]:
        """List annotations."""
        return [json.loads(text) for piece in self.stream(selection, paging) for text in piece]

    def stream(self, selection: Selection, paging: Paging = EVERYTHING) -> Iterator[list[bytes]]:
        """Give the JSON texts of annotations, in pieces; all of one moment."""
        where, arguments = selection.where()
        # As a blob, because the bytes go to the network as they are.
        sql = f"SELECT CAST(document AS BLOB) FROM annotations WHERE {where}{paging.clause(_COLUMNS)}"
        for rows in self._database.stream(sql, arguments):
            yield [row[0] for row in rows]

    def count(self, selection: Selection) -> int:
        """Count annotations."""
        where, arguments = selection.where()
        return self._database.count(f"SELECT COUNT(*) FROM annotations WHERE {where}", arguments)

    def update(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change annotations, all or none; fields that the schema does not name are left out.

        Args:
            changes: for each identifier the fields that change.

        Raises:
            RestError: an annotation or a dataset does not exist.
            InvalidDocumentError: an annotation would break the schema, or a folder is no dataset.
        """
        kept = {
            check_id(annotation_id): {key: value for key, value in fields.items() if key in ANNOTATION_FIELDS}
            for annotation_id, fields in changes.items()
        }
        datasets = dataset_ids(kept.values())
        with self._database.write() as connection:
            check_datasets_exist(self._database, datasets)
            rows = []
            for annotation_id, fields in kept.items():
                annotation = self.find(annotation_id)
                if annotation is None:
                    raise RestError(403, "Write access was denied for one or more annotations.", "access")
                annotation |= fields
                check_annotation(annotation)
                rows.append(_row(annotation, annotation_id))
            check_are_datasets(self._database, datasets, "Annotation")
            connection.executemany(
                """UPDATE annotations SET dataset_id = ?2, shape = ?3, channel = ?4, location = ?5, x = ?6, y = ?7,
                   tags = ?8, document = ?9 WHERE id = ?1""",
                rows,
            )

    def delete(self, annotation_ids: Sequence[str]) -> None:
        """Delete annotations with their connections; identifiers that stand for none are fine.

        Raises:
            InvalidDocumentError: a text is no identifier.
        """
        checked = [(check_id(annotation_id),) for annotation_id in annotation_ids]
        with self._database.write() as connection:
            connection.executemany("DELETE FROM annotations WHERE id = ?", checked)


def check_datasets_exist(database: Database, ids: set[str]) -> None:
    """Refuse a write into folders that do not exist.

    Raises:
        RestError: the platform's answer for them.
    """
    missing = [
        dataset_id
        for dataset_id in sorted(ids)
        if database.read_one("SELECT 1 FROM folders WHERE id = ?", (dataset_id,)) is None
    ]
    if missing:
        names = ", ".join(f"ObjectId('{dataset_id}')" for dataset_id in missing)
        raise RestError(403, f"Dataset(s) not found: [{names}]", "access")


def check_are_datasets(database: Database, ids: set[str], kind: str) -> None:
    """Refuse folders that are no datasets.

    Raises:
        InvalidDocumentError: the platform's answer for them.
    """
    for dataset_id in ids:
        if database.read_one("SELECT 1 FROM folders WHERE id = ? AND is_dataset", (dataset_id,)) is None:
            raise InvalidDocumentError(f"{kind} dataset ID is invalid")


def _row(annotation: Document, annotation_id: str) -> tuple[Any, ...]:
    dataset_id = annotation["datasetId"].lower()
    document = {**annotation, "_id": annotation_id, "datasetId": dataset_id}
    x, y = mean_vertex(annotation)
    return (
        annotation_id,
        dataset_id,
        annotation["shape"],
        annotation["channel"],
        location_text(annotation["location"]),
        x,
        y,
        json_text(annotation["tags"]),
        json_text(document),
    )


def location_text(location: Document) -> str:
    """Write a location so that equal ones give equal texts."""
    return json_text(dict(sorted(location.items())))
