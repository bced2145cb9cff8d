"""Takes the two files of a model out of the .tar.gz that a training stored, without trusting anything in it.

Nothing is extracted by the name that it has in the archive: the contents of `config.json` and `model.safetensors` are
copied under these names, and an archive that tries anything else is refused as a whole.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
FILE_LIMITS = {CONFIG_FILE: 2**20, WEIGHTS_FILE: 2**30}
MAX_ARCHIVE_BYTES = 2**30
MAX_UNPACKED_BYTES = 2**30 + 2**28
MAX_ENTRIES = 1000
KEPT_MODELS = 8

_CHUNK = 2**20


class ModelArchiveError(ValueError):
    """An archive holds no model that can be used; the text says why."""


def unpack_model(archive: Path, store: Path | None = None) -> Path:
    """Return a folder with the `config.json` and `model.safetensors` of an archive.

    Args:
        archive: a .tar.gz that holds the two at its top or in one folder; whatever else is in it is passed over.
        store: where unpacked models lie, each in a folder named by its archive's SHA-256; the last used ones stay
            there. None for one in the environment, with which it goes.

    Raises:
        ModelArchiveError: it is damaged, too large, no archive of a model, or tries to do something else.
    """
    store = store or Path(sys.prefix, "models")
    store.mkdir(exist_ok=True)
    with archive.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_ARCHIVE_BYTES:
            raise _error(archive, "it is too large")
        folder = store / _sha256(file)
        if not folder.is_dir():
            file.seek(0)
            with tempfile.TemporaryDirectory(dir=store, prefix=".new-", ignore_cleanup_errors=True) as new:
                unpacked = Path(new, "model")
                unpacked.mkdir()
                _unpack(archive, file, unpacked)
                try:
                    unpacked.rename(folder)  # at once and complete
                except OSError:
                    if not folder.is_dir():  # else another worker was faster
                        raise
    os.utime(folder)
    _forget_old(store)
    return folder


def _unpack(archive: Path, file: BinaryIO, folder: Path) -> None:
    found: set[str] = set()
    total = 0
    try:
        with _BoundedGzip(fileobj=file, mode="rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for number, entry in enumerate(tar):
                total += entry.size
                if number >= MAX_ENTRIES or not 0 <= entry.size <= total <= MAX_UNPACKED_BYTES:
                    raise _error(archive, "it holds too much")
                name = _file_name(archive, entry)
                if name is None:
                    continue
                if name in found:
                    raise _error(archive, f"it holds {name} twice")
                if entry.size > FILE_LIMITS[name]:
                    raise _error(archive, f"its {name} is too large ({entry.size:,} bytes)")
                found.add(name)
                content = tar.extractfile(entry)
                assert content is not None  # a regular file
                with (folder / name).open("xb") as target:
                    shutil.copyfileobj(content, target, _CHUNK)
            stream.read_to_end(archive)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise _error(
            archive, f"it is damaged or incomplete, or no archive of a model ({error}); copy it again"
        ) from error
    for name in FILE_LIMITS:
        if name not in found:
            raise _error(archive, f"it holds no {name}")


def _file_name(archive: Path, entry: tarfile.TarInfo) -> str | None:
    """Return which of the two files an entry is, or None for one that is passed over."""
    path = PurePosixPath(entry.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise _error(archive, "it wants to write files outside of its folder")
    if entry.isdir():
        return None
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise _error(archive, "it holds a link, a device or another entry that no model has")
    return path.name if len(path.parts) <= 2 and path.name in FILE_LIMITS else None


class _BoundedGzip(gzip.GzipFile):
    """Refuses to give much at once: `tarfile` asks for headers as large as the archive says they are."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _CHUNK:
            raise tarfile.ReadError("a header is too large")
        return super().read(size)

    def read_to_end(self, archive: Path) -> None:
        """Read the padding at the end, because the checksum of the whole stands behind it."""
        while chunk := self.read(_CHUNK):
            if any(chunk) or self.tell() > MAX_UNPACKED_BYTES + 2**20:
                raise _error(archive, "something follows its end")


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _forget_old(store: Path) -> None:
    with suppress(OSError):  # another worker does the same
        models = sorted(store.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in models[:-KEPT_MODELS]:
            shutil.rmtree(path, ignore_errors=True)


def _error(archive: Path, problem: str) -> ModelArchiveError:
    return ModelArchiveError(f"The model {archive} cannot be used: {problem}.")
