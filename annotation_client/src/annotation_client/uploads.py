"""Files of a server: uploaded in chunks that survive faults of the connection, downloaded completely or not at all.

An upload is one document on the server until its last chunk has arrived; then the file appears, or changes, at once.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import requests
from girder_client import HttpError

from annotation_client.connection import Connection
from annotation_client.errors import ClientError, DownloadError, UploadError, explain

CHUNK_BYTES = 8 * 2**20  # servers refuse less than 5 MiB; small enough to show progress and to stop soon

Document = dict[str, Any]
ProgressCallback = Callable[[int, int], object]

_CANCEL_TIMEOUT_S = (1.0, 3.0)
_STARTS = 3
_READ_BYTES = 2**20
_FAULTS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_TEMPORARY_STATUS = (408, 429, 500, 502, 503, 504)


def upload_file(
    connection: Connection,
    folder_id: str,
    path: str | os.PathLike[str],
    *,
    name: str,
    progress: ProgressCallback | None = None,
) -> Document:
    """Upload a file as a new item of a folder.

    If the folder has an item of that name already, the server calls the new item `name (1)`; the file keeps its name.
    Whatever ends this function early, `KeyboardInterrupt` included, cancels the upload on the server.

    Args:
        connection: the server.
        folder_id: the folder.
        path: the file to send. It must not change meanwhile.
        name: of the new item and file.
        progress: called with the numbers of bytes sent and to send. What it raises stops the upload.

    Returns:
        The file's document (`_id`, `itemId`, `size`, ...).

    Raises:
        UploadError: the connection failed for too long, or the file changed.
        HttpError: the server refuses.
    """
    source = Path(path)
    size = source.stat().st_size
    parameters = {"parentType": "folder", "parentId": folder_id, "name": name, "size": size}

    def start() -> Document:
        # harmless when repeated: an upload without bytes is nothing that anyone sees
        return connection.sendRestRequest("POST", "file", parameters, retry_post=True)

    def find() -> Document | None:
        return next((file for file in _files_named(connection, folder_id, name) if same(file)), None)

    def same(file: Document) -> bool:
        return _has_content(connection, file, source)

    return _Upload(connection, source, size, start, find, progress).run()


def replace_contents(
    connection: Connection, file_id: str, path: str | os.PathLike[str], *, progress: ProgressCallback | None = None
) -> Document:
    """Replace the contents of a file on the server; until the last byte has arrived it keeps the old ones.

    Whatever ends this function early, `KeyboardInterrupt` included, cancels the upload and leaves the old contents.

    Args:
        connection: the server.
        file_id: the file to change.
        path: the file to send. It must not change meanwhile.
        progress: called with the numbers of bytes sent and to send. What it raises stops the upload.

    Returns:
        The file's document.

    Raises:
        UploadError: the connection failed for too long, or the file changed.
        HttpError: the server refuses.
    """
    source = Path(path)
    size = source.stat().st_size

    def start() -> Document:
        return connection.sendRestRequest("PUT", f"file/{file_id}/contents", {"size": size})

    def find() -> Document | None:
        file = connection.get(f"file/{file_id}")
        return file if _has_content(connection, file, source) else None

    return _Upload(connection, source, size, start, find, progress).run()


def download_file(
    connection: Connection,
    file_id: str,
    path: str | os.PathLike[str],
    *,
    max_bytes: int,
    progress: ProgressCallback | None = None,
) -> Document:
    """Download a file; if that fails or is interrupted, nothing is left at `path`.

    Args:
        connection: the server.
        file_id: the file.
        path: where to write it; an existing file is overwritten.
        max_bytes: refuse a file that is larger.
        progress: called with the numbers of bytes received and to receive. What it raises stops the download.

    Returns:
        The file's document.

    Raises:
        DownloadError: the file is too large, or did not arrive completely.
        HttpError: the server refuses.
    """
    target = Path(path)
    try:
        for delay_s in (*connection.retry_delays_s, None):
            file: Document = connection.get(f"file/{file_id}")  # again each time: it may be replaced meanwhile
            try:
                _receive(connection, file, target, max_bytes, progress)
                return file
            except (*_FAULTS, _IncompleteError) as error:
                if delay_s is None:
                    raise DownloadError(f"{file['name']} could not be downloaded: {explain(error)}") from error
            time.sleep(delay_s)
        raise AssertionError("unreachable")
    except BaseException:
        target.unlink(missing_ok=True)
        raise


class _IncompleteError(ClientError):
    """Fewer or more bytes arrived than the file has."""


class _StartAgainError(Exception):
    """What the server has of an upload is not certain."""


class _Upload:
    """One upload.

    Args:
        connection: the server.
        source: the file to send.
        size: its size in bytes.
        start: begins the upload and returns its document.
        find: returns the finished file if it is on the server.
        progress: see `upload_file`.
    """

    def __init__(
        self,
        connection: Connection,
        source: Path,
        size: int,
        start: Callable[[], Document],
        find: Callable[[], Document | None],
        progress: ProgressCallback | None,
    ) -> None:
        self._connection = connection
        self._source = source
        self._size = size
        self._start = start
        self._find = find
        self._report = progress or (lambda done, total: None)

    def run(self) -> Document:
        for _ in range(_STARTS):
            upload = self._start()
            if self._size == 0:
                return upload
            try:
                with self._source.open("rb") as handle:
                    return self._send(handle, upload["_id"])
            except _StartAgainError:
                self._cancel(upload["_id"])
            except BaseException:
                self._cancel(upload["_id"])
                raise
        raise self._failure("the connection broke again and again")

    def _send(self, handle: BinaryIO, upload_id: str) -> Document:
        before = os.fstat(handle.fileno())
        offset = 0
        while True:
            handle.seek(offset)
            chunk = handle.read(CHUNK_BYTES)
            now = os.fstat(handle.fileno())
            if now.st_size != self._size or now.st_mtime_ns != before.st_mtime_ns:
                raise self._failure("the file changed while it was being read")
            end = offset + len(chunk)
            file = self._send_chunk(upload_id, offset, chunk)
            offset = end
            self._report(offset, self._size)
            if offset == self._size:
                if "itemId" not in file or file.get("size") != self._size:
                    raise self._failure("the server did not say that it has the whole file")
                return file

    def _send_chunk(self, upload_id: str, offset: int, chunk: bytes) -> Document:
        """Send a chunk until the server has it, and return its answer: the file's document after the last one."""
        end = offset + len(chunk)
        reason = ""
        sent = False
        for delay_s in (*self._connection.retry_delays_s, None):
            if not sent:
                try:
                    parameters = {"offset": offset, "uploadId": upload_id}
                    return self._connection.sendRestRequest("POST", "file/chunk", parameters, data=chunk, retry=False)
                except _FAULTS as error:
                    reason = explain(error)
                except HttpError as error:
                    if error.status not in _TEMPORARY_STATUS:
                        raise
                    reason = explain(error)
            if delay_s is None:
                break
            time.sleep(delay_s)
            received = self._received(upload_id)
            if received is None:  # finished, or given up by the server
                if end == self._size and (file := self._find()) is not None:
                    return file
                raise _StartAgainError
            if received == end < self._size:
                return {}
            if received not in (offset, end):  # a part of the chunk, of which the server may not have kept account
                raise _StartAgainError
            sent = received == end  # after the last chunk: the server is busy putting the file in its place
        raise self._failure(reason)

    def _received(self, upload_id: str) -> int | None:
        """Return how many bytes of an upload the server has, or None if it does not know the upload."""
        try:
            return int(self._connection.get("file/offset", {"uploadId": upload_id})["offset"])
        except HttpError as error:
            if error.status in (400, 404):
                return None
            raise
        except _FAULTS as error:
            raise self._failure(explain(error)) from error

    def _cancel(self, upload_id: str) -> None:
        with suppress(requests.RequestException, ClientError):
            self._connection.sendRestRequest(
                "DELETE", f"file/upload/{upload_id}", retry=False, timeout=_CANCEL_TIMEOUT_S
            )

    def _failure(self, reason: str) -> UploadError:
        return UploadError(f"{self._source.name} could not be uploaded: {reason.rstrip('.')}. Nothing was changed.")


def _receive(
    connection: Connection, file: Document, target: Path, max_bytes: int, progress: ProgressCallback | None
) -> None:
    size = int(file["size"])
    if size > max_bytes:
        raise DownloadError(
            f"{file['name']} has {size / 1e6:.1f} MB; at most {max_bytes / 1e6:.1f} MB are accepted here."
        )
    received = 0
    with target.open("wb") as handle:
        for part in _content(connection, file):
            received += len(part)
            if received > size:
                break
            handle.write(part)
            if progress is not None:
                progress(received, size)
    if received != size:
        raise _IncompleteError(f"{received} of {size} bytes arrived")


def _content(connection: Connection, file: Document) -> Iterator[bytes]:
    path = f"file/{file['_id']}/download"
    response: requests.Response = connection.sendRestRequest("GET", path, jsonResp=False, stream=True)
    with response:
        yield from response.iter_content(_READ_BYTES)


def _files_named(connection: Connection, folder_id: str, name: str) -> Iterator[Document]:
    """Yield the files of the items that an upload under this name may have made, the newest item first."""
    pattern = re.compile(re.escape(name) + r"( \(\d+\))?")
    parameters = {"folderId": folder_id, "limit": 0, "sort": "created", "sortdir": -1}
    for item in connection.get("item", parameters):
        if pattern.fullmatch(item["name"]):
            yield from connection.get(f"item/{item['_id']}/files", {"limit": 0})


def _has_content(connection: Connection, file: Document, source: Path) -> bool:
    """Return whether a file on the server holds the same bytes as a file here."""
    if file.get("size") != source.stat().st_size:
        return False
    theirs, ours = hashlib.sha256(), hashlib.sha256()
    for part in _content(connection, file):
        theirs.update(part)
    with source.open("rb") as handle:
        while part := handle.read(_READ_BYTES):
            ours.update(part)
    return theirs.digest() == ours.digest()
