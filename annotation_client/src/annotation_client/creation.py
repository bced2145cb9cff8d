"""Saving many annotations: in bounded requests, where one that the server refuses costs only itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import requests
from girder_client import HttpError

from annotation_client.connection import Connection, never_arrived
from annotation_client.errors import RejectedAnnotationsError, UnconfirmedWriteError, server_message
from annotation_client.schema import encode_annotation

MAX_ANNOTATIONS = 1000
MAX_BYTES = 4 * 2**20

_GIVE_UP_AFTER = 25  # refusals before anything was accepted: the reason lies not in single annotations


class Rejection(NamedTuple):
    """An annotation that was not saved: its position in the list that was given (from 0), and why."""

    position: int
    reason: str


class Created(NamedTuple):
    """The documents that were saved, in the order given and with their `_id`, and what was not saved."""

    annotations: list[dict[str, Any]]
    rejected: list[Rejection]


class _Encoded(NamedTuple):
    position: int
    body: bytes


def create_annotations(connection: Connection, annotations: Iterable[Mapping[str, Any]]) -> Created:
    """Save annotations with `POST upenn_annotation/multiple`.

    Each is checked against the platform's schema first. The server saves all of a request or nothing; a request that
    it refuses is halved until the annotations at fault are alone. No request that may have arrived is sent again.

    Raises:
        RejectedAnnotationsError: the server refuses one annotation after the other.
        UnconfirmedWriteError: the connection broke before the server confirmed a request.
        HttpError: the server refuses for another reason, such as missing rights.
    """
    rejected: list[Rejection] = []
    saver = _Saver(connection)
    for batch in _batches(_encoded(annotations, rejected)):
        saver.save(batch)
    return Created(saver.saved, sorted(rejected + saver.refused))


def describe_rejections(rejected: Sequence[Rejection], count: int) -> str:
    """Return a sentence that names the first few of the annotations that were not saved; they count from 1."""
    shown = "; ".join(f"number {rejection.position + 1}: {rejection.reason}" for rejection in rejected[:5])
    more = f"; and {len(rejected) - 5} more" if len(rejected) > 5 else ""
    return f"{len(rejected)} of {count} annotations were not saved ({shown}{more})."


def _encoded(annotations: Iterable[Mapping[str, Any]], rejected: list[Rejection]) -> Iterator[_Encoded]:
    for position, annotation in enumerate(annotations):
        try:
            yield _Encoded(position, encode_annotation(annotation))
        except ValueError as error:
            rejected.append(Rejection(position, str(error)))


def _batches(annotations: Iterable[_Encoded]) -> Iterator[list[_Encoded]]:
    batch: list[_Encoded] = []
    size = 0
    for annotation in annotations:
        if batch and (len(batch) == MAX_ANNOTATIONS or size + len(annotation.body) + 1 > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(annotation)
        size += len(annotation.body) + 1
    if batch:
        yield batch


class _Saver:
    """Sends batches, and keeps what the server saved and what it refused."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.saved: list[dict[str, Any]] = []
        self.refused: list[Rejection] = []

    def save(self, batch: list[_Encoded]) -> None:
        try:
            self.saved.extend(self._post(batch))
        except HttpError as error:
            if error.status not in (400, 413):
                raise
            if len(batch) > 1:
                middle = len(batch) // 2
                self.save(batch[:middle])
                self.save(batch[middle:])
                return
            self.refused.append(Rejection(batch[0].position, server_message(error)))
            if len(self.refused) >= _GIVE_UP_AFTER and not self.saved:
                raise RejectedAnnotationsError(
                    f"The server refuses the annotations: {server_message(error)}. Nothing was saved."
                ) from error

    def _post(self, batch: list[_Encoded]) -> list[dict[str, Any]]:
        try:
            answer = self._connection.sendRestRequest(
                "POST",
                "upenn_annotation/multiple",
                data=b"[" + b",".join(annotation.body for annotation in batch) + b"]",
                headers={"Content-Type": "application/json"},
            )
        except requests.RequestException as error:
            if _not_saved(error):
                raise
            raise self._unconfirmed(batch) from error
        if not isinstance(answer, list) or len(answer) != len(batch):
            raise self._unconfirmed(batch)
        return answer

    def _unconfirmed(self, batch: list[_Encoded]) -> UnconfirmedWriteError:
        return UnconfirmedWriteError(
            f"The connection to the server broke while annotations were being saved. {len(self.saved)} are saved; "
            f"whether the next {len(batch)} are, the server did not say. Look at the dataset, delete what this run has "
            "made, and rerun."
        )


def _not_saved(error: requests.RequestException) -> bool:
    """Return whether it is certain that nothing of a request was saved."""
    if isinstance(error, HttpError):
        return error.status not in (502, 504)  # a gateway that lost touch with the server
    return never_arrived(error) or isinstance(error, requests.exceptions.SSLError)
