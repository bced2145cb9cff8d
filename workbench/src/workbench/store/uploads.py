"""Uploads in progress: they live in memory and in partial files, so a restart forgets them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import InvalidDocumentError, RestError
from workbench.store.contents import Contents
from workbench.store.database import Database, new_id, now
from workbench.store.documents import Document
from workbench.store.files import DEFAULT_MIME_TYPE, Files, check_mime_type
from workbench.store.items import Items

_IDLE_SECONDS = 24 * 3600.0


@dataclass
class _Upload:
    document: Document
    partial: Path
    token: str | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    touched: float = field(default_factory=time.monotonic)


class Uploads:
    """Uploads into a folder, an item or an existing file.

    The file appears, or changes, in one step when the last byte has arrived and is on the disk. Until then the old
    bytes are served.
    """

    def __init__(self, database: Database, contents: Contents, items: Items, files: Files, creator_id: str) -> None:
        self._database = database
        self._contents = contents
        self._items = items
        self._files = files
        self._creator_id = creator_id
        self._uploads: dict[str, _Upload] = {}
        self._lock = threading.Lock()

    def start(
        self,
        *,
        parent_type: str,
        parent_id: str,
        name: str,
        size: int,
        mime_type: str | None = None,
        token: str | None = None,
    ) -> Document:
        """Begin to upload a new file of `size` bytes into a folder or an item.

        Args:
            token: of whoever uploads, to forget the upload by when it is accepted no longer.

        Returns:
            The upload document; the file document if the size is 0.

        Raises:
            InvalidDocumentError: the name is empty, the size negative, or the kind none.
        """
        if not name:
            raise InvalidDocumentError("File name must not be empty.")
        check_mime_type(mime_type)
        target = {"parentType": parent_type, "parentId": parent_id}
        return self._start(target, name, size, mime_type or DEFAULT_MIME_TYPE, token)

    def start_replacement(self, file_id: str, *, size: int, token: str | None = None) -> Document:
        """Begin to upload other bytes for an existing file; see `start`.

        Returns:
            The upload document; the file document if the size is 0.

        Raises:
            InvalidDocumentError: there is no such file.
        """
        file = self._files.load(file_id)
        return self._start({"fileId": file["_id"]}, file["name"], size, file["mimeType"], token)

    def find(self, upload_id: str) -> Document | None:
        """Give the document of an upload in progress, or None."""
        upload = self._uploads.get(upload_id.lower())
        return None if upload is None else dict(upload.document)

    def write(self, upload_id: str, offset: int, pieces: Iterable[bytes]) -> Document:
        """Append a chunk; the last one makes the file.

        A chunk counts as a whole: if its pieces end with an error, or are too many, nothing of it is kept.

        Returns:
            The upload document, or after the last chunk the file document.

        Raises:
            InvalidDocumentError: there is no such upload, or more bytes came than were announced.
            RestError: the chunk begins elsewhere than the last one ended.
        """
        upload = self._uploads.get(upload_id.lower())
        if upload is None:
            raise RestError(400, f"Invalid upload id ({upload_id}).")
        try:
            with upload.lock:
                return self._write(upload, offset, pieces)
        finally:
            if not self._is_known(upload):  # forgotten meanwhile
                self._contents.discard_partial(upload.partial)

    def cancel(self, upload_id: str) -> None:
        """Forget an upload and remove its bytes; one that is gone already is fine."""
        upload = self._uploads.get(upload_id.lower())
        if upload is not None:
            with upload.lock:
                self._forget(upload)

    def forget_begun_with(self, token: str) -> None:
        """Forget the uploads that were begun with a token; a chunk that is arriving is dropped when it breaks off."""
        for upload in list(self._uploads.values()):
            if upload.token == token:
                with self._lock:
                    self._uploads.pop(upload.document["_id"], None)
                # Whoever holds the lock removes the bytes afterwards, and may have to wait for a sender before.
                if upload.lock.acquire(blocking=False):
                    try:
                        self._contents.discard_partial(upload.partial)
                    finally:
                        upload.lock.release()

    def _is_known(self, upload: _Upload) -> bool:
        return self._uploads.get(upload.document["_id"]) is upload

    def _write(self, upload: _Upload, offset: int, pieces: Iterable[bytes]) -> Document:
        document = upload.document
        self._check_known(upload)  # finished or cancelled while this waited?
        if document["received"] != offset:
            raise RestError(400, f"Server has received {document['received']} bytes, but client sent offset {offset}.")
        received = self._append(upload, pieces)
        self._check_known(upload)
        document["received"] = received
        document["updated"] = now()
        upload.touched = time.monotonic()
        if received < document["size"]:
            return dict(document)
        try:
            return self._finish(upload)
        finally:
            self._forget(upload)

    def _check_known(self, upload: _Upload) -> None:
        if not self._is_known(upload):
            raise RestError(400, f"Invalid upload id ({upload.document['_id']}).")

    def _start(self, target: Document, name: str, size: int, mime_type: str, token: str | None) -> Document:
        if size < 0:
            raise InvalidDocumentError("File size must not be negative.")
        self._forget_idle()
        time_text = now()
        document: Document = {
            "_id": new_id(),
            "name": name,
            "size": size,
            "received": 0,
            "mimeType": mime_type,
            "userId": self._creator_id,
            "created": time_text,
            "updated": time_text,
            **target,
        }
        upload = _Upload(document, self._contents.new_partial(), token)
        if size == 0:
            try:
                return self._finish(upload)
            finally:
                self._contents.discard_partial(upload.partial)
        with self._lock:
            self._uploads[document["_id"]] = upload
        return dict(document)

    def _append(self, upload: _Upload, pieces: Iterable[bytes]) -> int:
        document = upload.document
        received: int = document["received"]
        with upload.partial.open("r+b", buffering=0) as handle:
            handle.seek(received)
            try:
                for piece in pieces:
                    received += len(piece)
                    if received > document["size"]:
                        raise InvalidDocumentError("Received too many bytes.")
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[handle.write(rest) :]
            except BaseException:
                # Also so that a full disk is not kept full by what does not count.
                with suppress(OSError):
                    handle.truncate(document["received"])
                raise
        return received

    def _finish(self, upload: _Upload) -> Document:
        document = upload.document
        content_id = self._contents.keep(upload.partial)
        try:
            if "fileId" in document:
                return self._files.replace_content(document["fileId"], content_id)
            with self._database.write():
                item_id = document["parentId"]
                if document["parentType"] == "folder":
                    item_id = self._items.create(item_id, document["name"])["_id"]
                return self._files.create(item_id, document["name"], content_id, mime_type=document["mimeType"])
        except BaseException:
            self._contents.remove([content_id])
            raise

    def _forget(self, upload: _Upload) -> None:
        with self._lock:
            self._uploads.pop(upload.document["_id"], None)
        self._contents.discard_partial(upload.partial)

    def _forget_idle(self) -> None:
        oldest = time.monotonic() - _IDLE_SECONDS
        for upload in list(self._uploads.values()):
            if upload.touched < oldest and upload.lock.acquire(blocking=False):
                try:
                    self._forget(upload)
                finally:
                    upload.lock.release()
