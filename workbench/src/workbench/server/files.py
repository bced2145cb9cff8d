"""Routes of files: upload in chunks, replacement in place, download with ranges."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from workbench.errors import RestError
from workbench.server.endpoint import Call, load, route
from workbench.store.documents import Document

_PIECE_BYTES = 2**20


def get_file(call: Call) -> Document:
    """A file's document."""
    return call.file()


def update_file(call: Call) -> Document:
    """Changes name and kind."""
    file = call.file()
    return call.store.files.rename(file["_id"], name=call.parameters.get("name"), mime_type=call.text("mimeType"))


def delete_file(call: Call) -> None:
    """Deletes a file."""
    call.store.files.delete(call.file()["_id"])


def start_upload(call: Call) -> Document:
    """Begins a new file; a body is its first chunk."""
    parent_type, parent_id = call.choice("parentType", ("folder", "item")), call.required_text("parentId")
    name, size = call.required_text("name"), call.required_integer("size")
    store = call.store
    parent = (store.folders if parent_type == "folder" else store.items).load(parent_id)
    upload = store.uploads.start(
        parent_type=parent_type,
        parent_id=parent["_id"],
        name=name,
        size=size,
        mime_type=call.text("mimeType"),
        token=call.token,
    )
    if size == 0 or not call.has_body():
        return upload
    try:
        return store.uploads.write(upload["_id"], 0, call.pieces())
    except BaseException:
        # Whoever sent the body does not know the upload yet, and could neither resume nor cancel it.
        store.uploads.cancel(upload["_id"])
        raise


def start_replacement(call: Call) -> Document:
    """Begins to replace the bytes of a file."""
    size = call.required_integer("size")
    return call.store.uploads.start_replacement(call.file()["_id"], size=size, token=call.token)


def upload_chunk(call: Call) -> Document:
    """Takes a chunk; the last one makes the file."""
    offset = call.integer("offset", 0)
    assert offset is not None
    return call.store.uploads.write(call.required_text("uploadId"), offset, call.pieces())


def get_offset(call: Call) -> dict[str, int]:
    """Where an upload that broke off goes on."""
    return {"offset": load("upload", call.required_text("uploadId"), call.store.uploads.find)["received"]}


def cancel_upload(call: Call) -> dict[str, str]:
    """Forgets an upload."""
    call.store.uploads.cancel(call.document("upload", call.store.uploads.find)["_id"])
    return {"message": "Upload canceled."}


def download_file(call: Call) -> Response:
    """The bytes of a file."""
    return send_file(call, call.file())


def send_file(call: Call, file: Document) -> Response:
    """Answer with the bytes of a file, or the part that a Range header or `offset` and `endByte` name."""
    span = _Span(_open(call, file))
    size = span.left
    part = _parse_range(call.header("range"), size)
    start, end = part or (call.integer("offset") or 0, call.integer("endByte"))
    end = size if end is None else min(end, size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file['name'], safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
    if size == 0:
        start = end = 0
    elif not 0 <= start < end:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    elif part is not None or (start, end) != (0, size):
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    span.select(start, end - start)
    headers["Content-Length"] = str(span.left)
    return StreamingResponse(span, 206 if "Content-Range" in headers else 200, headers, media_type=file["mimeType"])


class _Span:
    """Gives part of an open file piece by piece; open, the file keeps its bytes even when it is replaced.

    Attributes:
        left: how many bytes are still to come.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.left = os.fstat(descriptor).st_size

    def select(self, start: int, length: int) -> None:
        """Say which part; the whole file if this is not called."""
        os.lseek(self._descriptor, start, os.SEEK_SET)
        self.left = length

    def __iter__(self) -> _Span:
        return self

    def __next__(self) -> bytes:
        piece = os.read(self._descriptor, min(self.left, _PIECE_BYTES))
        if not piece:
            raise StopIteration
        self.left -= len(piece)
        return piece

    def __del__(self) -> None:
        # Here, because it must happen also when the client has gone before the first piece.
        os.close(self._descriptor)


def _open(call: Call, file: Document) -> int:
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    while True:
        path = call.store.files.path(file["_id"])
        try:
            return os.open(path, flags)
        except FileNotFoundError as error:
            # Replaced between the two lines above: the next try finds the new bytes.
            if call.store.files.path(file["_id"]) == path:
                raise RestError(
                    500, f"The bytes of {file['name']} are missing from the data folder.", "internal"
                ) from error


def _parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Give start and end (exclusive) of a Range header; None if there is none, or one to be ignored."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size
    start, end = int(first), int(last) + 1 if last else size
    return (start, end) if start < end or not last else None


ROUTES = [
    route("POST", "file", start_upload),
    route("POST", "file/chunk", upload_chunk),
    route("GET", "file/offset", get_offset),
    route("DELETE", "file/upload/{id}", cancel_upload),
    route("GET", "file/{id}", get_file),
    route("PUT", "file/{id}", update_file),
    route("DELETE", "file/{id}", delete_file),
    route("GET", "file/{id}/download", download_file),
    route("GET", "file/{id}/download/{name}", download_file),
    route("PUT", "file/{id}/contents", start_replacement),
]
