"""Items of the store as large_image sources: which source reads a file, and the few that stay open."""

from __future__ import annotations

import json
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from workbench.errors import RestError
from workbench.images.specification import read_specification
from workbench.store.documents import Document
from workbench.store.store import Store

if TYPE_CHECKING:
    from large_image.tilesource import TileSource

_SOURCES_KEPT = 8
_TILES_KEPT = 16  # of up to 4 MiB, over all sources
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PICTURE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # PNG, JPEG
_SPECIFICATION_NAMES = (".json", ".yaml", ".yml")


class ImageSources:
    """The images of a store, opened through large_image.

    Opening an image reads its directory, so the last few used stay open. large_image's sources are not made for
    several threads (they share a file position, and styles and ranges are filled in on the way): one at a time uses
    each of them. Contents never change under their path, so an image with a new content is opened anew.
    """

    def __init__(self, store: Store) -> None:
        # Not the store itself, which owns this object.
        self._items, self._files = store.items, store.files
        self._lock = threading.Lock()
        self._opened: OrderedDict[str, _Opened] = OrderedDict()

    @contextmanager
    def open(self, item: Document, *, style: str | None = None, **options: Any) -> Iterator[TileSource]:
        """Give the source of an item's image, for this thread alone until the block ends.

        Args:
            style: how values become colours, in large_image's JSON; None for the values themselves.
            options: of large_image's sources, such as the `encoding` of tiles.

        Raises:
            RestError: the item has no image, or not one that can be read.
        """
        try:
            kind, image = self._find(item)
        except OSError as error:
            raise RestError(400, "The image was replaced or deleted just now. Try again.") from error
        # A source can take one style after another, but cannot get rid of the last.
        key = json.dumps([kind, image, sorted(options.items()), style is not None])
        with self._lock:
            opened = self._opened.setdefault(key, _Opened())
            self._opened.move_to_end(key)
            opened.users += 1
            for old in [old for old in list(self._opened)[:-_SOURCES_KEPT] if not self._opened[old].users]:
                self._opened.pop(old).close()
        try:
            with opened.lock:
                if opened.source is None:
                    opened.source = _open(kind, image, options)
                if style is not None:
                    opened.source.style = style
                yield opened.source
        finally:
            with self._lock:
                opened.users -= 1
                if opened.source is None and not opened.users:
                    self._opened.pop(key, None)

    def close(self) -> None:
        """Close every image; nothing may use them any more."""
        with self._lock:
            while self._opened:
                self._opened.popitem()[1].close()

    def _find(self, item: Document) -> tuple[str, Any]:
        """Give the name of the source that reads an item's image, and what it reads: a path or a specification."""
        if "largeImage" not in item:
            raise RestError(400, "No large image file in this item.")
        file = self._files.find(item["largeImage"]["fileId"])
        if file is None:
            raise RestError(400, "The large image file of this item was deleted.")
        path = self._files.path(file["_id"])
        if PurePath(file["name"]).suffix.lower() in _SPECIFICATION_NAMES:
            return "multi", self._resolve(read_specification(path), item["folderId"])
        return _kind(path), str(path)

    def _resolve(self, specification: dict[str, Any], folder_id: str) -> dict[str, Any]:
        """Replace the names in a specification by paths of contents: its images are items of the same folder."""
        sources = []
        for source in specification["sources"]:
            name = PurePath(source["path"]).name
            items = self._items.children(folder_id, name=name)
            files = self._files.children(items[0]["_id"]) if items else []
            if not files:
                raise RestError(400, f"The multi-source image needs {name}, which is not in its folder. Add it.")
            path = self._files.path(files[0]["_id"])
            # Which of its frames a source shows is not up to its parameters.
            sources.append({**source, "path": str(path), "sourceName": _kind(path), "params": {"noCache": True}})
        return {key: value for key, value in specification.items() if key != "basePath"} | {"sources": sources}


class _Opened:
    """One open image and who uses it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.source: Any = None

    def close(self) -> None:
        for source in {self.source, getattr(self.source, "_unstyledInstance", None)}:
            if hasattr(source, "close"):
                source.close()


_sources_lock = threading.Lock()
_sources: weakref.WeakKeyDictionary[Store, ImageSources] = weakref.WeakKeyDictionary()


def sources_of(store: Store) -> ImageSources:
    """Give the images of a store; they are closed when nobody holds the store any more."""
    with _sources_lock:
        if store not in _sources:
            _sources[store] = ImageSources(store)
            weakref.finalize(store, _sources[store].close)
        return _sources[store]


def open_path(path: Path) -> Any:
    """Open a TIFF file that is in no store; the caller closes it.

    Raises:
        RestError: it cannot be read.
    """
    return _open("tifffile", str(path), {})


def _kind(path: Path) -> str:
    """Tell by its first bytes which source reads a file: contents have no extension.

    Raises:
        RestError: none does.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_TIFF_STARTS):
        return "tifffile"
    if start.startswith(_PICTURE_STARTS):
        return "pil"
    raise RestError(400, "Only TIFF, PNG and JPEG files can be shown. Convert it.")


def _open(kind: str, image: Any, options: Mapping[str, Any]) -> Any:
    from large_image.exceptions import TileGeneralError

    known = _known_sources()
    try:
        # Not kept by large_image as well, which would hold the files open after they were replaced.
        return known[kind](image, noCache=True, **options)
    except (TileGeneralError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise RestError(400, f"The image cannot be opened: {error}") from error


def _known_sources() -> Mapping[str, Any]:
    """Give the classes of sources by name: those that this package has checked, whatever else is installed."""
    from large_image import config
    from large_image.tilesource import AvailableTileSources

    if "multi" not in AvailableTileSources:
        config.setConfig("cache_backend", "python")
        config.setConfig("cache_tileCache_maximum", _TILES_KEPT)
        from workbench.images.file_sources import ComposedSource, PictureSource, PlaneTiffSource

        # Where a multi-source image looks for the sources of its parts.
        AvailableTileSources.update(multi=ComposedSource, tifffile=PlaneTiffSource, pil=PictureSource)
    known: Mapping[str, Any] = AvailableTileSources
    return known
