"""Fetching one file over HTTP: resumed where it broke off, tried again when the connection fails, checked at the end.

The Hugging Face hub answers `/<repo_id>/resolve/<revision>/<file>` with the file or with redirects to it. On the way
it says what the file is: `X-Linked-Size` and `X-Linked-ETag` (the sha256 of a large file), or `ETag` (the git blob sha1
of a small one), and `X-Repo-Commit`.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit
from urllib.request import Request

from condensatenet.errors import DownloadError

RETRY_DELAYS_S = (0.5, 2.0, 8.0)  # waits before the second, third and fourth attempt
TIMEOUT_S = 30.0  # without any answer or any further byte

ProgressCallback = Callable[[float, str], object]

_CHUNK_BYTES = 2**20
_TEMPORARY_STATUS = (408, 425, 429, 500, 502, 503, 504)


@dataclass
class Remote:
    """What the server says about a file, collected over its redirects."""

    size: int | None = None
    checksum: str | None = None
    commit: str | None = None

    def read_headers(self, headers: Message) -> None:
        self.size = self.size if self.size is not None else _whole_number(headers.get("X-Linked-Size"))
        self.checksum = self.checksum or _hex_digest(headers.get("X-Linked-ETag"))
        self.commit = self.commit or headers.get("X-Repo-Commit")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects like its base class, and reads the headers of each."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        self._remote.read_headers(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # not in Python 3.10


class _TransferError(Exception):
    """The connection failed in a way that may pass."""


def fetch_file(url: str, partial: Path, report: ProgressCallback) -> Remote:
    """Download into `partial`, from where it ends, until size and checksum are right.

    `report` gets a fraction from 0 to 1 and a message; what it raises stops the download.

    Raises:
        DownloadError: there is no such file, access is refused, the content is wrong, or all attempts failed; then
            `partial` keeps what has arrived.
    """
    fraction, reason = 0.0, ""

    def remember(new_fraction: float, message: str) -> None:
        nonlocal fraction
        fraction = new_fraction
        report(fraction, message)

    for delay in (0.0, *RETRY_DELAYS_S):
        if delay:
            report(fraction, f"Trying again in {delay:g} s ({reason})")
            time.sleep(delay)
        resumed = partial.exists() and partial.stat().st_size > 0
        try:
            remote = _receive(url, partial, remember)
        except _TransferError as error:
            reason = str(error)
            continue
        if remote.checksum is None or _file_digest(partial, len(remote.checksum)) == remote.checksum:
            return remote
        partial.unlink()
        reason = "the file is not the one that the server announced: its checksum differs"
        if not resumed:  # else the first part may be of an older version of the file
            raise DownloadError(f"{url}: {reason}. A proxy may change it; try again later or from another network.")
    arrived = partial.stat().st_size if partial.exists() else 0
    kept = f" {arrived / 1e6:.1f} MB are kept; the next call goes on from there." if arrived else ""
    raise DownloadError(
        f"Could not download {url} in {len(RETRY_DELAYS_S) + 1} attempts ({reason}).{kept} Check the internet "
        "connection, the proxy settings and HF_ENDPOINT, then try again. Without internet use the model that comes "
        "with this package, or copy the model directory from another machine."
    )


def _receive(url: str, partial: Path, report: ProgressCallback) -> Remote:
    """Append what is missing to `partial`, in one request."""
    start = partial.stat().st_size if partial.exists() else 0
    remote = Remote()
    request = Request(url, headers={"User-Agent": "condensatenet"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    opener = urllib.request.build_opener(_Redirects(remote))
    try:
        response = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # nothing lies beyond the part that is here: it is all, or of another file
                remote.read_headers(error.headers)
                if remote.size == start and remote.checksum:
                    return remote
                partial.unlink()
                raise _TransferError("the part that was kept did not fit") from error
            raise _http_failure(url, error.code) from error
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise _TransferError(_reason(error)) from error
    with response:
        remote.read_headers(response.headers)
        if urlsplit(response.url).hostname == urlsplit(url).hostname:  # what another storage calls ETag is no checksum
            remote.checksum = remote.checksum or _hex_digest(response.headers.get("ETag"))
        if response.status != 206 or not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            if response.status == 206:
                partial.unlink(missing_ok=True)
                raise _TransferError("the server sent another part than asked for")
            start = 0  # the server sends the whole file
        length = _whole_number(response.headers.get("Content-Length"))
        if remote.size is None and length is not None:
            remote.size = start + length
        received = start
        name = partial.name.removesuffix(".incomplete")
        of_all = f" of {remote.size / 1e6:.1f}" if remote.size else ""
        with partial.open("ab" if start else "wb") as handle:
            while chunk := _read_chunk(response):
                handle.write(chunk)
                received += len(chunk)
                fraction = min(received / remote.size, 1.0) if remote.size else 0.0
                report(fraction, f"Downloading {name}: {received / 1e6:.1f}{of_all} MB")
            handle.flush()
            os.fsync(handle.fileno())
    if remote.size is not None and received != remote.size:
        if received > remote.size:
            partial.unlink()
        raise _TransferError(f"{received} of {remote.size} bytes arrived")
    return remote


def _read_chunk(response: HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(_reason(error)) from error


def _http_failure(url: str, code: int) -> Exception:
    if code in _TEMPORARY_STATUS:
        return _TransferError(f"the server answered {code} {http.client.responses.get(code, '')}".rstrip())
    if code in (401, 403):
        return DownloadError(
            f"{url}: the server refuses access ({code}). The model does not exist, is private, or its terms must be "
            "accepted. Check the name; if you have access, download the files with a browser and give their folder as "
            "the model."
        )
    if code == 404:
        return DownloadError(f"{url}: there is no such file (404). Check the name of the model and HF_ENDPOINT.")
    return DownloadError(f"{url}: the server answered {code} {http.client.responses.get(code, '')}. Check HF_ENDPOINT.")


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    return str(cause) or type(cause).__name__


def _hex_digest(etag: str | None) -> str | None:
    """Return the sha1 or sha256 that an ETag is on the hub, or None if it is something else."""
    match = re.fullmatch(r'(?:W/)?"?([0-9a-f]{64}|[0-9a-f]{40})"?', etag or "")
    return match[1] if match else None


def _whole_number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,15}", text) else None


def _file_digest(path: Path, hex_length: int) -> str:
    """Return the sha256 (64 digits) or the git blob sha1 (40 digits) of a file."""
    digest = hashlib.sha256()
    if hex_length == 40:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
