"""Connections between annotations: a parent and a child each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from workbench.errors import InvalidDocumentError
from workbench.store.annotations import check_are_datasets, check_datasets_exist
from workbench.store.database import Database, new_ids
from workbench.store.documents import EVERYTHING, Document, Paging, check_id, json_text
from workbench.store.schemas import CONNECTION_FIELDS, check_connection, dataset_ids

SCHEMA = """
CREATE TABLE IF NOT EXISTS connections (
    id TEXT PRIMARY KEY,
    dataset_id TEXT NOT NULL REFERENCES folders (id) ON DELETE CASCADE,
    parent_id TEXT NOT NULL REFERENCES annotations (id) ON DELETE CASCADE,
    child_id TEXT NOT NULL REFERENCES annotations (id) ON DELETE CASCADE,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS connections_by_dataset ON connections (dataset_id, id);
CREATE INDEX IF NOT EXISTS connections_by_parent ON connections (parent_id);
CREATE INDEX IF NOT EXISTS connections_by_child ON connections (child_id);
"""

_COLUMNS = {"_id": "id", "parentId": "parent_id", "childId": "child_id"}


class Connections:
    """The table of connections."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, connections: Sequence[Any]) -> list[Document]:
        """Store connections, all or none, and give their documents.

        Raises:
            RestError: a dataset does not exist.
            InvalidDocumentError: a connection breaks the schema, a folder is no dataset, or an annotation is missing.
        """
        datasets = dataset_ids(connections)
        with self._database.write() as connection:
            check_datasets_exist(self._database, datasets)
            for document in connections:
                check_connection(document)
            check_are_datasets(self._database, datasets, "Connection")
            documents = [
                _normal(document, connection_id)
                for document, connection_id in zip(connections, new_ids(len(connections)), strict=True)
            ]
            self._check_annotations(documents)
            connection.executemany(
                "INSERT INTO connections VALUES (?, ?, ?, ?, ?)", [_row(document) for document in documents]
            )
        return documents

    def find(self, connection_id: str) -> Document | None:
        """Give a connection, or None."""
        row = self._database.read_one("SELECT document FROM connections WHERE id = ?", (connection_id.lower(),))
        return None if row is None else json.loads(row["document"])

    def select(
        self,
        dataset_id: str,
        *,
        parent_id: str | None = None,
        child_id: str | None = None,
        node_id: str | None = None,
        after_id: str | None = None,
        paging: Paging = EVERYTHING,
    ) -> list[Document]:
        """List connections of a dataset.

        Args:
            parent_id: only those from this annotation.
            child_id: only those to this annotation.
            node_id: only those from or to this annotation.
            after_id: only those after this identifier.
        """
        terms, arguments = ["dataset_id = ?"], [dataset_id.lower()]
        for term, value in (("parent_id = ?", parent_id), ("child_id = ?", child_id), ("id > ?", after_id)):
            if value is not None:
                terms.append(term)
                arguments.append(value.lower())
        if node_id is not None:
            terms.append("? IN (parent_id, child_id)")
            arguments.append(node_id.lower())
        sql = f"SELECT document FROM connections WHERE {' AND '.join(terms)}{paging.clause(_COLUMNS)}"
        return [json.loads(row["document"]) for row in self._database.read(sql, arguments)]

    def count(self, dataset_id: str) -> int:
        """Count the connections of a dataset."""
        return self._database.count("SELECT COUNT(*) FROM connections WHERE dataset_id = ?", (dataset_id.lower(),))

    def update(self, connection_id: str, changes: Document) -> None:
        """Change a connection; fields that the schema does not name are left out.

        Raises:
            InvalidDocumentError: it does not exist or would break the rules of :meth:`create`.
        """
        with self._database.write() as connection:
            document = self.find(connection_id)
            if document is None:
                raise InvalidDocumentError(f"No such annotation_connection: {connection_id}")
            document |= {key: value for key, value in changes.items() if key in CONNECTION_FIELDS}
            check_connection(document)
            document = _normal(document, document["_id"])
            check_datasets_exist(self._database, {document["datasetId"]})
            check_are_datasets(self._database, {document["datasetId"]}, "Connection")
            self._check_annotations([document])
            connection.execute(
                "UPDATE connections SET dataset_id = ?2, parent_id = ?3, child_id = ?4, document = ?5 WHERE id = ?1",
                _row(document),
            )

    def delete(self, connection_ids: Sequence[str]) -> None:
        """Delete connections; identifiers that stand for none are fine.

        Raises:
            InvalidDocumentError: a text is no identifier.
        """
        checked = [(check_id(connection_id),) for connection_id in connection_ids]
        with self._database.write() as connection:
            connection.executemany("DELETE FROM connections WHERE id = ?", checked)

    def _check_annotations(self, documents: Sequence[Document]) -> None:
        for key, kind in (("childId", "child"), ("parentId", "parent")):
            for annotation_id in {document[key] for document in documents}:
                if self._database.read_one("SELECT 1 FROM annotations WHERE id = ?", (annotation_id,)) is None:
                    raise InvalidDocumentError(f"A {kind} annotation does not exist")


def _normal(document: Document, connection_id: str) -> Document:
    ids = {key: document[key].lower() for key in ("parentId", "childId", "datasetId")}
    return {**document, **ids, "_id": connection_id}


def _row(document: Document) -> tuple[str, ...]:
    return (
        document["_id"],
        document["datasetId"],
        document["parentId"],
        document["childId"],
        json_text(document),
    )
