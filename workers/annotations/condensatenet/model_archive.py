"""A model as one file: `<name>.tar.gz`, written from a model directory and unpacked without trusting anything in it.

The archive starts with `manifest.json`, which repeats what the server knows about the model and names size and SHA-256
of each file. Where two trainings store a model of one name at the same time, content and description on the server are
written separately; the manifest always belongs to the files it lies beside.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from annotation_client.errors import ClientError

MANIFEST_FILE = "manifest.json"
CONFIG_FILE, WEIGHTS_FILE, REPORT_FILE = "config.json", "model.safetensors", "training_report.json"
FILE_LIMITS = {
    MANIFEST_FILE: 2**20,
    CONFIG_FILE: 2**20,
    WEIGHTS_FILE: 2**30,
    REPORT_FILE: 2**26,
    "README.md": 2**20,
    "training_curves.png": 2**26,
    "held_out_overlay.png": 2**26,
}
"""The files that an archive can hold, with the largest size of each in bytes."""

MAX_ARCHIVE_BYTES = 2**30
MAX_UNPACKED_BYTES = 2**30 + 2**28
MAX_ENTRIES = 1000

_REQUIRED = (CONFIG_FILE, WEIGHTS_FILE)
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 2**20
# Headers that tell more about the entry behind them, such as its time or its full name; nothing of that is used.
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_FORBIDDEN = {
    tarfile.SYMTYPE: "a link",
    tarfile.LNKTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
_DAMAGED = "The archive is damaged or incomplete"


class ModelStoreError(ClientError, ValueError):
    """A model cannot be named, found, stored or read; the text says what to do."""


@dataclass(frozen=True)
class _Content:
    size: int
    sha256: str


def write_archive(directory: Path, archive: Path, description: Mapping[str, Any]) -> None:
    """Pack a model directory; the same directory and description always give the same bytes.

    Args:
        directory: holds `config.json`, `model.safetensors` and perhaps the report files of a training; other files stay
            out.
        archive: file to write; must not exist.
        description: goes into the manifest; plain values for JSON.

    Raises:
        ModelStoreError: the directory is not a model, or one of its files is too large.
    """
    check_model(directory)
    files = {name: _measure(directory, name) for name in sorted(FILE_LIMITS) if (directory / name).is_file()}
    files.pop(MANIFEST_FILE, None)
    manifest = {**description, "files": {name: vars(content) for name, content in files.items()}}
    manifest_bytes = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False).encode()
    with (
        archive.open("xb") as raw,
        # Weights hardly get smaller with more effort. Neither a name nor a time goes into the header.
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        tar.addfile(_entry(MANIFEST_FILE, len(manifest_bytes)), BytesIO(manifest_bytes))
        for name, content in files.items():
            with (directory / name).open("rb") as file:
                tar.addfile(_entry(name, content.size), file)


def extract_archive(archive: Path, directory: Path) -> dict[str, Any] | None:
    """Unpack a model's files, each under its fixed name, and check them.

    Only regular files with the names of `FILE_LIMITS` are written, each once and up to its limit, at the top of the
    archive or in one folder; other regular files are passed over. Anything else refuses the whole archive.

    Args:
        archive: the file to read.
        directory: an existing empty directory.

    Returns:
        The manifest, which every file was compared with; None if the archive has none.

    Raises:
        ModelStoreError: the archive is damaged, is not an archive of a model, or tries to do something else.
    """
    found: dict[str, _Content] = {}
    manifest: bytes | None = None
    try:
        with archive.open("rb") as raw, gzip.GzipFile(fileobj=raw) as unpacked:
            stream = _TarStream(unpacked)
            for entry in stream:
                name = _file_name(entry.name)
                if name in found or (name == MANIFEST_FILE and manifest is not None):
                    raise ModelStoreError(f"The archive holds {name} twice")
                if name is None:
                    stream.skip(entry.size)
                elif entry.size > FILE_LIMITS[name]:
                    raise ModelStoreError(f"The archive holds a {name} that is too large ({entry.size:,} bytes)")
                elif name == MANIFEST_FILE:
                    manifest_file = BytesIO()
                    stream.copy(entry.size, manifest_file)
                    manifest = manifest_file.getvalue()
                else:
                    with (directory / name).open("xb") as file:
                        found[name] = stream.copy(entry.size, file)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ModelStoreError(f"{_DAMAGED} ({error})") from error
    for name in _REQUIRED:
        if name not in found:
            raise ModelStoreError(f"The archive is not one of a CondensateNet model: it holds no {name}")
    check_model(directory)
    return None if manifest is None else _check_manifest(manifest, found)


def check_model(directory: Path) -> None:
    """Check that a directory holds a network's description and weights of it, without building the network.

    Raises:
        ModelStoreError: one of the two files is missing, too large or not what its name says.
    """
    from condensatenet.errors import CondensateNetError
    from condensatenet.files.model_directory import read_config
    from condensatenet.files.safetensors_header import read_header

    for name in _REQUIRED:
        if not (directory / name).is_file():
            raise ModelStoreError(f"{directory.name} is not a model: it holds no {name}")
    try:
        read_config(directory)
        read_header(directory / WEIGHTS_FILE)
    except CondensateNetError as error:
        raise ModelStoreError(str(error).replace(f"{directory}{os.sep}", "")) from error


def is_model(directory: Path) -> bool:
    """Return whether a directory holds the two files of a model, without looking into them."""
    return all((directory / name).is_file() for name in _REQUIRED)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _measure(directory: Path, name: str) -> _Content:
    size = (directory / name).stat().st_size
    if size > FILE_LIMITS[name]:
        raise ModelStoreError(f"{name} of {directory.name} is too large to be stored ({size:,} bytes)")
    return _Content(size, file_sha256(directory / name))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)  # time 0, owner 0, mode 0o644
    entry.size = size
    return entry


def _file_name(path: str) -> str | None:
    """Return which of the expected files an entry is, or None for one that is not unpacked."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts:
        raise ModelStoreError("The archive wants to write files outside of its folder")
    # Whoever packs a model by hand usually packs its folder.
    return parts[-1] if parts and len(parts) <= 2 and parts[-1] in FILE_LIMITS else None


class _TarStream:
    """The regular files of an unpacked tar stream; each is to be copied or skipped before the next one is asked for.

    `tarfile` itself reads names and extension headers of any size into memory, and obeys them.
    """

    def __init__(self, stream: BinaryIO | gzip.GzipFile) -> None:
        self._stream = stream
        self._left = MAX_UNPACKED_BYTES
        self._entries = 0

    def __iter__(self) -> _TarStream:
        return self

    def __next__(self) -> tarfile.TarInfo:
        while (header := self._read(_BLOCK)) != bytes(_BLOCK):
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                raise ModelStoreError(f"The archive holds more than {MAX_ENTRIES:,} entries")
            entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            if entry.size < 0:
                raise ModelStoreError(_DAMAGED)
            if entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
                return entry
            if entry.type in _EXTENSIONS:
                self.skip(entry.size)
            elif entry.type != tarfile.DIRTYPE:
                kind = _FORBIDDEN.get(entry.type, "an entry of a kind that no model has")
                raise ModelStoreError(f"The archive holds {kind}, which is not allowed in a model")
        self._read_to_end()
        raise StopIteration

    def copy(self, size: int, target: BinaryIO) -> _Content:
        """Copy the content of the current entry."""
        digest = hashlib.sha256()
        for chunk in self._content(size):
            digest.update(chunk)
            target.write(chunk)
        return _Content(size, digest.hexdigest())

    def skip(self, size: int) -> None:
        """Pass over the content of the current entry."""
        for _ in self._content(size):
            pass

    def _content(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            chunk = self._read(min(left, _CHUNK))
            left -= len(chunk)
            yield chunk
        self._read(-size % _BLOCK)  # padding

    def _read(self, size: int) -> bytes:
        """Return exactly this many bytes."""
        self._left -= size
        if self._left < 0:
            raise ModelStoreError(f"The archive unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError("it ends too early")
        return data

    def _read_to_end(self) -> None:
        """Read the padding at the end, because the checksum of the whole stands behind it."""
        while chunk := self._stream.read(_CHUNK):
            self._left -= len(chunk)
            if any(chunk) or self._left < 0:
                raise ModelStoreError(f"{_DAMAGED}: something follows its end")


def _check_manifest(text: bytes, found: Mapping[str, _Content]) -> dict[str, Any]:
    manifest = _parse_manifest(text)
    listed = manifest.get("files")
    if not isinstance(listed, dict):
        raise ModelStoreError(f"{_DAMAGED}: its {MANIFEST_FILE} cannot be read")
    expected = {name: entry for name, entry in listed.items() if name in FILE_LIMITS}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or vars(found[name]) != expected.get(name):
            raise ModelStoreError(f"{_DAMAGED}: {name} is not the file that its {MANIFEST_FILE} describes")
    return manifest


def _parse_manifest(text: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
