"""Moving a model between its directory and an item on the server, so that a whole one is there at every moment."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from girder_client import HttpError

from annotation_client.connection import Connection
from annotation_client.errors import DownloadError
from annotation_client.uploads import ProgressCallback, download_file, replace_contents, upload_file
from condensatenet import __version__
from model_archive import (
    MAX_ARCHIVE_BYTES,
    REPORT_FILE,
    ModelStoreError,
    extract_archive,
    file_sha256,
    is_model,
    write_archive,
)

_ATTEMPTS = 5
_PAUSE_S = 0.5
_DAYS_KEPT = 30
_METRICS = ("ap50_before", "ap50_after", "improved", "held_out", "best_epoch", "epochs_run", "counts")
_DESCRIPTION = ("base_model", "metrics", "package_version")


class _ChangedError(DownloadError):
    """A file on the server was exchanged while it was being read."""


@dataclass(frozen=True)
class _Stored:
    """What a file on the server is: its state (see `_state`) and what its content says of itself."""

    state: str
    description: dict[str, Any]


# ---- from the server


def download_model(
    gc: Connection, find: Callable[[], dict[str, Any]], cache: Path, *, progress: ProgressCallback | None
) -> Path:
    """Return the directory of a model; see `utils.download_girder_model`.

    Args:
        gc: connection to the server.
        find: gives the model's item as it is now, or raises.
        cache: directory in which fetched models are kept, one folder for each content.
        progress: called with the bytes done and in total.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _download(gc, find(), cache, progress)
        except (HttpError, _ChangedError) as error:
            if attempt == _ATTEMPTS - 1 or not _was_changed(error):
                raise
            time.sleep(_PAUSE_S)
    raise AssertionError("unreachable")


def _download(gc: Connection, item: dict[str, Any], cache: Path, progress: ProgressCallback | None) -> Path:
    name, meta = item["model_name"], item.get("meta") or {}
    file = _archive_file(gc, item["_id"])
    if file is None:
        raise ModelStoreError(f"The model {name!r} is empty: its item in your folder holds no file. Train it again.")
    if file["size"] > MAX_ARCHIVE_BYTES:
        raise ModelStoreError(f"The model {name!r} is too large to be one ({file['size']:,} bytes).")
    # Only if the metadata belong to this content: the two are written one after the other.
    sha256 = str(meta.get("sha256")) if meta.get("describes") == _state(file) else None
    folder_name = re.sub(r"[^\w .-]", "_", name).strip(" .")[:60] or "model"
    if sha256 and (directory := _kept(cache, sha256, folder_name)):
        return directory
    cache.mkdir(parents=True, exist_ok=True)
    _forget_unused(cache)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache) as partial:
        archive, directory = Path(partial) / "archive", Path(partial) / folder_name
        download_file(gc, file["_id"], archive, max_bytes=MAX_ARCHIVE_BYTES, progress=progress)
        found = file_sha256(archive)
        if sha256 and found != sha256:
            raise _ChangedError(
                f"The model {name!r} did not arrive as it was stored. Try again; if this stays, train it again."
            )
        directory.mkdir()
        try:
            manifest = extract_archive(archive, directory)
        except ModelStoreError as error:
            raise ModelStoreError(
                f"The model {name!r} in your folder cannot be used. {error}. Choose another model or train it again."
            ) from error
        if manifest is None and meta.get("sha256") not in (None, found):
            raise ModelStoreError(
                f"The model {name!r} is not the one that was stored under this name: its checksum differs. Choose "
                "another model or train it again."
            )
        return _keep(directory, _place(cache, found, folder_name))


def _place(cache: Path, sha256: str, name: str) -> Path:
    return cache / sha256[:16] / name


def _kept(cache: Path, sha256: str, name: str) -> Path | None:
    directory = _place(cache, sha256, name)
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not is_model(directory):
        return None
    os.utime(directory.parent)  # see _forget_unused
    return directory


def _keep(directory: Path, place: Path) -> Path:
    place.parent.mkdir(exist_ok=True)
    try:
        directory.rename(place)
    except OSError:  # there is one already
        if not is_model(place):  # something was removed from it
            shutil.rmtree(place)
            directory.rename(place)
    return place


def _forget_unused(cache: Path) -> None:
    """Remove models that no job has used for a month, and what a killed job left."""
    for folder in cache.iterdir():
        with suppress(FileNotFoundError):  # another job does the same, or has just finished
            if time.time() - folder.stat().st_mtime > _DAYS_KEPT * 86400:
                shutil.rmtree(folder, ignore_errors=True)


# ---- to the server


def upload_model(
    gc: Connection,
    model_directory: Path,
    name: str,
    find: Callable[[], list[dict[str, Any]]],
    make_folder: Callable[[], str],
    base_model: str,
    progress: ProgressCallback | None,
) -> dict[str, Any]:
    """Store a model and return its item; see `utils.upload_girder_model`.

    Args:
        gc: connection to the server.
        model_directory: the model.
        name: a valid name.
        find: gives the items that have this model's name now, oldest first.
        make_folder: gives the id of the folder in which a new item is made.
        base_model: name of the model from which it was trained.
        progress: called with the bytes done and in total.
    """
    description: dict[str, Any] = {
        "base_model": base_model,
        "metrics": _read_metrics(model_directory / REPORT_FILE),
        "package_version": __version__,
    }
    with tempfile.TemporaryDirectory(prefix="condensatenet-") as folder:
        archive = Path(folder) / f"{name}.tar.gz"
        write_archive(model_directory, archive, {"name": name, **description})
        description |= {"sha256": file_sha256(archive), "size": archive.stat().st_size}
        for attempt in range(_ATTEMPTS):
            item, file = _store(gc, archive, find, make_folder, progress)
            try:
                return _describe(gc, item["_id"], file["_id"], description, Path(folder))
            except HttpError as error:  # the item was removed
                if attempt == _ATTEMPTS - 1 or not _was_changed(error):
                    raise
    raise AssertionError("unreachable")


def _read_metrics(report_file: Path) -> dict[str, Any]:
    """Return what a list of models shows of a training report; a model without one has none."""
    try:
        report = json.loads(report_file.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError):
        return {}
    return {name: report[name] for name in _METRICS if name in report}


def _store(
    gc: Connection,
    archive: Path,
    find: Callable[[], list[dict[str, Any]]],
    make_folder: Callable[[], str],
    progress: ProgressCallback | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bring the archive into the oldest item of the name, or into a new one, and return that item and its file."""
    written_item = None
    for attempt in range(_ATTEMPTS):
        stored = [(item, file) for item in find() if (file := _archive_file(gc, item["_id"]))]
        if stored and stored[0][0]["_id"] == written_item:
            for duplicate, _ in stored[1:]:
                _delete_item(gc, duplicate["_id"])
            return stored[0]
        try:
            if stored:
                file = replace_contents(gc, stored[0][1]["_id"], archive, progress=progress)
            else:
                file = _upload_new(gc, make_folder(), archive, progress)
            # Another training may have made an item in the meantime: if that one is older, the model moves into it.
            written_item = file["itemId"]
        except HttpError as error:
            if attempt == _ATTEMPTS - 1 or not _was_changed(error):
                raise
            time.sleep(_PAUSE_S)
    raise ModelStoreError("Other jobs keep changing the models of this name. Store the model under another name.")


def _upload_new(gc: Connection, folder_id: str, archive: Path, progress: ProgressCallback | None) -> dict[str, Any]:
    """Make a new item, and give its file a name that Girder can send: it fails for letters such as ß and ø."""
    file = upload_file(gc, folder_id, archive, name=archive.name, progress=progress)
    if not archive.name.isascii():
        gc.put(f"file/{file['_id']}", {"name": "model.tar.gz"})
    return file


def _describe(gc: Connection, item_id: str, file_id: str, own: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the metadata of whatever the file holds, until file and metadata agree, and return the item.

    Whoever writes metadata last looks at the file after that. So where two trainings end at once, the metadata that
    stay belong to the content that stays.
    """
    for _ in range(_ATTEMPTS):
        stored = _read_back(gc, file_id, own, folder)
        item: dict[str, Any] = gc.addMetadataToItem(item_id, {**stored.description, "describes": stored.state})
        if _state(gc.getFile(file_id)) == stored.state:
            return item
    raise ModelStoreError("Other jobs keep changing this model. Look whether it is the one that you want.")


def _read_back(gc: Connection, file_id: str, own: dict[str, Any], folder: Path) -> _Stored:
    """Fetch the file and check that it is whole."""
    archive = folder / "read_back"
    for _ in range(_ATTEMPTS):
        archive.unlink(missing_ok=True)
        state = _state(gc.getFile(file_id))
        try:
            download_file(gc, file_id, archive, max_bytes=MAX_ARCHIVE_BYTES)
        except HttpError as error:
            if not _was_changed(error):
                raise
            time.sleep(_PAUSE_S)
            continue
        if _state(gc.getFile(file_id)) != state:
            continue
        sha256 = file_sha256(archive)
        if sha256 == own["sha256"]:
            return _Stored(state, own)
        # Another training has stored its model after this one.
        try:
            with tempfile.TemporaryDirectory(dir=folder) as unpacked:
                manifest = extract_archive(archive, Path(unpacked)) or {}
        except ModelStoreError as error:
            raise ModelStoreError(f"The server did not keep the model as it was sent. {error}. Try again.") from error
        description = {key: manifest.get(key) for key in _DESCRIPTION}
        return _Stored(state, {**description, "sha256": sha256, "size": archive.stat().st_size})
    raise ModelStoreError("The stored model cannot be read back. Look whether it works; otherwise train it again.")


# ---- items and files


def _archive_file(gc: Connection, item_id: str) -> dict[str, Any] | None:
    """Return the file of a model's item, or None; an item that another job has just removed has none."""
    try:
        files = list(gc.listFile(item_id))
    except HttpError as error:
        if not _was_changed(error):
            raise
        return None
    return max(files, key=lambda file: (file["name"].endswith(".tar.gz"), file["created"], file["_id"]), default=None)


def _delete_item(gc: Connection, item_id: str) -> None:
    try:
        gc.delete(f"item/{item_id}")
    except HttpError as error:
        if not _was_changed(error):
            raise


def _was_changed(error: Exception) -> bool:
    """Whether an error can come from another job that replaced or removed a file in this moment.

    Girder answers 400 for what does not exist, and 500 for a file whose bytes are being exchanged.
    """
    return isinstance(error, _ChangedError) or (isinstance(error, HttpError) and error.status in (400, 404, 500))


def _state(file: dict[str, Any]) -> str:
    """Return what changes whenever a file gets other contents."""
    return f"{file['_id']} {file['created']} {file['size']}"
