"""Jobs: what was asked of which worker, how far it is and how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import IntEnum

from workbench.store.database import Database, new_id, now
from workbench.store.documents import Document, Paging, json_text

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    status INTEGER NOT NULL,
    document TEXT NOT NULL,
    parameters TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status);
"""

_NEWEST_FIRST = Paging(descending=True)
_COLUMNS = {"_id": "id", "created": "id", "status": "status"}


class JobStatus(IntEnum):
    """The platform's numbers."""

    INACTIVE = 0
    QUEUED = 1
    RUNNING = 2
    SUCCESS = 3
    ERROR = 4
    CANCELLED = 5
    CANCELLING = 824


ENDED = frozenset({JobStatus.SUCCESS, JobStatus.ERROR, JobStatus.CANCELLED})


class Jobs:
    """The table of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, *, image: str, request: str, title: str, dataset_id: str | None, queue: str, parameters: str
    ) -> Document:
        """Store a new job that is queued, and return its document.

        Args:
            image: name of the worker.
            request: `interface` or `compute`.
            title: what a list of jobs shows.
            dataset_id: the dataset, if the request has one.
            queue: the queue that it waits in.
            parameters: the JSON text that the worker gets.
        """
        created = now()
        document: Document = {
            "_id": new_id(),
            "title": title,
            "type": "worker",
            "status": int(JobStatus.QUEUED),
            "created": created,
            "updated": created,
            "image": image,
            "datasetId": dataset_id,
            "request": request,
            "queue": queue,
            "progress": None,
            "messages": [],
            "exitCode": None,
        }
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?)",
                (document["_id"], document["status"], json_text(document), parameters),
            )
        return document

    def get(self, job_id: str) -> Document | None:
        """Return a job's document, or None."""
        row = self._database.read_one("SELECT document FROM jobs WHERE id = ?", (job_id.lower(),))
        if row is None:
            return None
        document: Document = json.loads(row["document"])
        return document

    def parameters(self, job_id: str) -> str:
        """Return the JSON text that a job's worker gets; the job must exist."""
        row = self._database.read_one("SELECT parameters FROM jobs WHERE id = ?", (job_id,))
        assert row is not None
        text: str = row["parameters"]
        return text

    def update(self, job_id: str, **changes: object) -> Document:
        """Change fields of a job's document, and return it; the job must exist."""
        with self._database.write() as connection:
            document = self.get(job_id)
            assert document is not None
            document |= {**changes, "updated": now()}
            connection.execute(
                "UPDATE jobs SET status = ?, document = ? WHERE id = ?",
                (document["status"], json_text(document), job_id),
            )
        return document

    def list(self, paging: Paging = _NEWEST_FIRST, *, statuses: Iterable[int] = JobStatus) -> list[Document]:
        """Return the documents of jobs in some states."""
        wanted = [int(status) for status in statuses]
        sql = f"SELECT document FROM jobs WHERE status IN ({', '.join('?' * len(wanted))})"
        return [json.loads(row["document"]) for row in self._database.read(sql + paging.clause(_COLUMNS), wanted)]

    def count(self) -> int:
        """Return how many jobs there are."""
        return self._database.count("SELECT COUNT(*) FROM jobs")
