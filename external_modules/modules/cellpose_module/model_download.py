"""Downloads a file so that it is there as a whole, checked, or not at all."""

from __future__ import annotations

import http.client
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

_CHUNK = 2**16
_TIMEOUT_S = 30.0


class DownloadError(Exception):
    """A file could not be downloaded; the text says why."""


def download(
    address: str, target: Path, *, check: Callable[[Path], object], progress: Callable[[float, str], None]
) -> None:
    """Download a file and put it to its place in one step, replacing what is there.

    Args:
        address: https or http; certificates are checked.
        target: the file; the folders above it are made.
        check: is called with the downloaded file, and raises an error if it is not what it should be.
        progress: is called with a fraction and a text; what it raises stops the download.

    Raises:
        DownloadError: no connection, it broke off, or the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-", ignore_cleanup_errors=True) as folder:
            new = Path(folder, target.name)
            _fetch(address, new, progress)
            check(new)
            new.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(str(error) or type(error).__name__) from error


def _fetch(address: str, file: Path, progress: Callable[[float, str], None]) -> None:
    with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer, file.open("wb") as stream:
        expected = int(answer.headers.get("Content-Length") or 0)
        received = 0
        while chunk := answer.read(_CHUNK):
            stream.write(chunk)
            received += len(chunk)
            of_all = f" of {expected / 1e6:.0f}" if expected else ""
            progress(min(1.0, received / expected) if expected else 0.0, f"{received / 1e6:.0f}{of_all} MB")
    if expected and received != expected:  # a short answer is no error of urllib
        raise DownloadError(f"it broke off after {received:,} of {expected:,} bytes")
