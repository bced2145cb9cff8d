"""The modules that lie below folders: what each is, and whether its environment is there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from external_modules.environments.folder_removal import system_path
from external_modules.environments.store import EnvironmentStore
from external_modules.errors import InvalidModuleError
from external_modules.module_folder import DESCRIPTION_FILE, ModuleFolder
from external_modules.module_places import module_places


@dataclass(frozen=True)
class CatalogueEntry:
    """A folder that is meant to be a module.

    Attributes:
        path: the folder.
        folder: what it says about itself; None if that is not usable.
        problem: why it is not usable; empty if it is.
        environment: the folder of its ready environment, or None.
    """

    path: Path
    folder: ModuleFolder | None
    problem: str
    environment: Path | None

    @property
    def name(self) -> str:
        """The module's name; that of the folder where it is not usable."""
        return self.folder.name if self.folder else self.path.name

    def as_json(self) -> dict[str, Any]:
        """Return the entry as values that JSON can hold; counts the environment's size, which takes a moment."""
        folder = self.folder
        return {
            "name": self.name,
            "version": folder.version if folder else None,
            "title": folder.title if folder else None,
            "segments": folder.segments if folder else None,
            "licence": folder.licence if folder else None,
            "python": folder.python if folder else None,
            "torch": folder.torch if folder else None,
            "folder": os.fspath(self.path),
            "ready": self.environment is not None,
            "environment": os.fspath(self.environment) if self.environment else None,
            "environment_bytes": size_of(self.environment) if self.environment else None,
            "problem": self.problem or None,
        }


def usual_folders() -> list[Path]:
    """Return the folders in which a node's module is looked for, as far as they are there."""
    return [folder for folder in module_places() if folder.is_dir()]


def read_catalogue(folders: Sequence[Path], store: EnvironmentStore) -> list[CatalogueEntry]:
    """Return the modules that lie directly in folders, by name. Of two with the same name the first folder's counts.

    Args:
        folders: that hold modules. A folder without module.json in them is no module and is left out.
        store: of the environments.

    Raises:
        InvalidModuleError: a folder is not there.
    """
    found: dict[str, CatalogueEntry] = {}
    for folder in folders:
        try:
            # os.path, since a folder that this account may not look into is an error for pathlib
            paths = sorted(path for path in folder.iterdir() if os.path.isfile(path / DESCRIPTION_FILE))
        except OSError as error:
            raise InvalidModuleError(
                f"The folder of modules {folder} cannot be read: {error.strerror}. Name another."
            ) from error
        for path in paths:
            entry = read_entry(path, store)
            found.setdefault(entry.name, entry)
    return [found[name] for name in sorted(found)]


def read_entry(path: Path, store: EnvironmentStore) -> CatalogueEntry:
    """Return what is known about one folder; never fails."""
    try:
        folder = ModuleFolder(path)
    except InvalidModuleError as error:
        return CatalogueEntry(path, None, str(error), None)
    try:
        return CatalogueEntry(path, folder, "", store.path_of(folder))
    except OSError:  # there can be no environments where they are to be
        return CatalogueEntry(path, folder, "", None)


def size_of(path: Path) -> int:
    """Return the bytes of all files below a folder, also of those that it shares with others (hard links)."""
    return sum(status.st_size for status in _files(path))


def unshared_size_of(path: Path) -> int:
    """Return the bytes of the files below a folder that are nowhere else, and that its removal therefore frees."""
    return sum(status.st_size for status in _files(path) if status.st_nlink == 1)


def _files(path: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(system_path(path)):
        for name in names:
            try:
                yield os.lstat(os.path.join(parent, name))
            except OSError:  # removed meanwhile
                continue
