"""Which environments are still needed, for `EnvironmentStore.prune`: whatever is not certain is kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from external_modules.environments.ready_record import ReadyRecord, python_of
from external_modules.errors import InvalidModuleError
from external_modules.module_folder import ModuleFolder


def needed_environments(records: Mapping[Path, ReadyRecord], wanted: Iterable[ModuleFolder]) -> set[Path]:
    """Return those environments that somebody may still ask for.

    Args:
        records: of all that are ready.
        wanted: modules that ask for theirs, wherever they lay when it was made.
    """
    digests = {folder.digest for folder in wanted}
    intact = {path: record for path, record in records.items() if record.is_intact(path)}
    return {
        path
        for path, record in records.items()
        if (record.digest in digests or not _is_given_up(record))
        and not any(_replaces(other, (path, record)) for other in intact.items())
        # One whose Python is out of reach is intact again as soon as that is back.
        and (path in intact or not os.path.isdir(record.base_folder))
    }


def _is_given_up(record: ReadyRecord) -> bool:
    """Return whether the module that an environment was made for is gone, or asks for another content now."""
    try:
        return ModuleFolder(record.module_folder).digest != record.digest
    except InvalidModuleError:  # it may just be edited, or lie on a drive that is not connected
        return _is_gone(Path(record.module_folder))


def _is_gone(folder: Path) -> bool:
    """Return whether a folder is not there, but others beside it: a drive that is away leaves none, or an empty one."""
    try:
        os.lstat(folder)
    except FileNotFoundError:
        with suppress(OSError):
            return any(folder.parent.iterdir())
    except OSError:
        pass
    return False


def _replaces(new: tuple[Path, ReadyRecord], old: tuple[Path, ReadyRecord]) -> bool:
    """Return whether `find` prefers the new one for everybody whom the old one serves, such as after an update of uv.

    One for another Python or another build of torch replaces nothing, since another program may have other settings.
    But where the same Python program has become another version, what was made with the former cannot work any more.
    """
    (new_path, newer), (old_path, older) = new, old
    same = ("module", "digest", "torch_backend", "platform", "made_with")
    if newer.made <= older.made or any(getattr(newer, name) != getattr(older, name) for name in same):
        return False
    is_alike = (newer.abi, newer.python) == (older.abi, older.python)
    return is_alike or _base_of(new_path, newer) == _base_of(old_path, older)


def _base_of(path: Path, record: ReadyRecord) -> str:
    """Return the Python program that an environment rests on, or on Windows, where it has a copy, its folder."""
    return record.base_folder if sys.platform == "win32" else os.path.realpath(python_of(path))
