"""Importing image files as a dataset: checked, rewritten as one OME-TIFF, and stored whole or not at all."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.errors import InvalidDocumentError, InvalidImageError
from workbench.images.arrangement import Arrangement, arrange
from workbench.images.file_names import file_stem
from workbench.images.input_files import KNOWN_TYPES
from workbench.images.writing import write_dataset
from workbench.store.documents import Document
from workbench.store.folders import DATASET_SUBTYPE
from workbench.store.store import Store

_SPARE_BYTES = 64 * 2**20


def import_dataset(
    store: Store,
    paths: str | Path | Iterable[str | Path],
    *,
    name: str | None = None,
    folder: str | None = None,
    pixel_size: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Document:
    """Make a dataset of image files.

    The files are TIFF (also ImageJ hyperstacks and OME-TIFF), PNG and JPEG; a folder stands for those in it, without
    its subfolders. Several files become positions or, by their names, places on the axes: see
    :mod:`workbench.images.file_names`. Whatever they were, they become one OME-TIFF of the same values, for three
    reasons: large_image shows its axes and channel names as they are meant (of other files it shows some axes not at
    all, and reduces 16-bit PNG to 8 bits); a crop of it can be read without decompressing planes; and the dataset does
    not depend on files that may be moved. No more than a few planes are in memory at a time.

    Args:
        paths: files and folders.
        name: of the dataset; else that of the file, or of the folder of several files.
        folder: identifier of the folder to put it in; else the user's Private folder.
        pixel_size: width and height of a pixel in µm, if the files do not say or are wrong.
        progress: called with the number of planes that are written and of all.

    Returns:
        The dataset's folder.

    Raises:
        InvalidImageError: a file cannot be imported, or the files do not fit together; nothing was stored.
        RestError: the name is taken, or there is no such folder.
    """
    given = [Path(path).expanduser() for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    files = _list_files(given)
    if pixel_size is not None and not 0 < pixel_size < math.inf:
        raise InvalidImageError(f"A pixel size of {pixel_size} µm is not possible. Give a number above 0.")
    name = (name if name is not None else _default_name(given, files)).strip()
    parent = folder or _private_folder(store)
    _check_name(store, parent, name)
    dataset = arrange(files)
    if pixel_size is not None:
        dataset = replace(dataset, pixel_size=(pixel_size, pixel_size))
    _check_space(store, dataset)
    partial = store.contents.new_partial()
    try:
        try:
            write_dataset(partial, dataset, progress=progress)
        finally:
            dataset.close()
        _check_written(partial, dataset)
        content = store.contents.keep(partial)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise InvalidImageError(_no_space(store)) from error
        raise
    try:
        return _store_dataset(store, parent, name, content)
    except BaseException:
        store.contents.remove([content])
        raise


def _list_files(given: list[Path]) -> list[Path]:
    files: dict[Path, Path] = {}
    for path in given:
        if path.is_dir():
            # Hidden files are none: macOS puts a `._name.tif` beside every file on foreign disks.
            inside = [p for p in path.iterdir() if p.suffix.lower() in KNOWN_TYPES and not p.name.startswith(".")]
            if not any(p.is_file() for p in inside):
                raise InvalidImageError(
                    f"{path}: has no images in it (TIFF, PNG or JPEG; subfolders are not searched)."
                )
            found = [p for p in inside if p.is_file()]
        else:
            found = [path]
        files.update({p.resolve(): p for p in found})
    if not files:
        raise InvalidImageError("No images were named. Give TIFF, PNG or JPEG files, or a folder that holds some.")
    return list(files.values())


def _default_name(given: list[Path], files: list[Path]) -> str:
    if len(files) == 1:
        return file_stem(files[0])
    return given[0].resolve().name if given[0].is_dir() else files[0].resolve().parent.name


def _private_folder(store: Store) -> str:
    (folder,) = store.folders.children(store.users.user["_id"], parent_type="user", name="Private")
    return str(folder["_id"])


def _check_name(store: Store, parent: str, name: str) -> None:
    store.folders.load(parent)
    if not name:
        raise InvalidDocumentError("Dataset name must not be empty.")
    if store.folders.children(parent, name=name) or store.items.children(parent, name=name):
        raise InvalidDocumentError(f"There is already something called {name}. Give the dataset another name.")


def _check_space(store: Store, dataset: Arrangement) -> None:
    size = math.prod(dataset.sizes.values()) * math.prod(dataset.shape) * np.dtype(dataset.dtype).itemsize
    if size + _SPARE_BYTES > shutil.disk_usage(store.files_folder).free:
        raise InvalidImageError(_no_space(store))


def _no_space(store: Store) -> str:
    return (
        f"There is not enough space in {store.data_folder} for these images. Free some, or choose another data folder."
    )


def _check_written(path: Path, dataset: Arrangement) -> None:
    """Make sure that large_image sees the axes that were meant, whatever version of it is installed."""
    from workbench.images.source import open_path

    source = open_path(path)
    try:
        tiles = source.getMetadata()
        expected = {f"Index{axis.upper()}": size for axis, size in dataset.sizes.items() if size > 1}
        seen = tiles.get("IndexRange", {}), (tiles["sizeY"], tiles["sizeX"]), tiles["dtype"]
        if seen != (expected, dataset.shape, dataset.dtype):
            raise InvalidImageError(
                f"The images were not imported: large_image sees {seen} in them. Please report this."
            )
    finally:
        source.close()


def _store_dataset(store: Store, parent: str, name: str, content: str) -> Document:
    with store.database.write():
        folder = store.folders.create(parent, name, meta={"subtype": DATASET_SUBTYPE})
        item = store.items.create(folder["_id"], f"{name}.ome.tif")
        file = store.files.create(item["_id"], item["name"], content, mime_type="image/tiff")
        store.items.set_large_image(item["_id"], {"fileId": file["_id"], "sourceName": "tifffile"})
        return store.folders.set_metadata(folder["_id"], {"selectedLargeImageId": item["_id"]})
