"""The bytes of files: written beside, made durable, then renamed into place; never changed afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from workbench.store.database import new_id

_PARTIAL = ".partial"


class Contents:
    """The folder of contents: ``<2 hex>/<id>``, and ``.partial`` for what is still being written.

    A replaced file gets a new content, so a path always stands for the same bytes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder / _PARTIAL
        self._partial.mkdir(parents=True, exist_ok=True)

    def path(self, content_id: str) -> Path:
        """Give the path of a content."""
        # The last digits are those that differ from one content to the next.
        return self._folder / content_id[-2:] / content_id

    def new_partial(self) -> Path:
        """Make an empty file to write a content into."""
        path = self._partial / new_id()
        path.touch(exist_ok=False)
        return path

    def keep(self, partial: Path) -> str:
        """Move a written partial file into place, durably, and give the identifier of the content."""
        content_id = partial.name
        path = self.path(content_id)
        path.parent.mkdir(exist_ok=True)
        _flush(partial)
        os.replace(partial, path)
        for folder in (path.parent, self._folder):
            _flush(folder)
        return content_id

    def copy_in(self, path: Path) -> str:
        """Copy a file in, durably, and give the identifier of the content."""
        partial = self.new_partial()
        try:
            shutil.copyfile(path, partial)
            return self.keep(partial)
        except BaseException:
            self._discard(partial)
            raise

    def remove(self, content_ids: Iterable[str]) -> None:
        """Remove contents that no file refers to any more; missing ones are fine."""
        for content_id in content_ids:
            self._discard(self.path(content_id))

    def discard_partial(self, partial: Path) -> None:
        """Remove what was written of a content; a kept or missing one is fine."""
        self._discard(partial)

    def _discard(self, path: Path) -> None:
        # Windows keeps a file that somebody reads, and a disk may fail; the next start removes it.
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def clean(self, known: Collection[str]) -> None:
        """Remove partial files and every content that is not known."""
        for partial in self._partial.iterdir():
            partial.unlink(missing_ok=True)
        for path in self._folder.glob("??/*"):
            if path.name not in known:
                path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows has no handle on a folder to flush
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
