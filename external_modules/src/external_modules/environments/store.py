"""The environments of modules: made at first use, found again in milliseconds, removed when nobody needs them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from external_modules.environments.failures import system_failure
from external_modules.environments.file_lock import HeldLock, file_lock, try_lock
from external_modules.environments.folder_removal import remove_folder
from external_modules.environments.in_use_marks import is_in_use, mark_in_use, remove_marks
from external_modules.environments.interpreter import Interpreter
from external_modules.environments.making import SUSPICION, EnvironmentMaking
from external_modules.environments.needed import needed_environments
from external_modules.environments.ready_record import READY_FILE, ReadyRecord, python_of, read_record
from external_modules.environments.uv_program import Report, UvProgram, find_uv
from external_modules.environments.wanted import WantedEnvironment
from external_modules.errors import InvalidModuleError
from external_modules.home import default_home
from external_modules.module_folder import LOCK_FILE, PROJECT_FILE, ModuleFolder

_NAME = re.compile(r"(?P<name>.+-[0-9a-f]{16})(-\d+)?")  # see WantedEnvironment.name and _free_place
_MARKS = ".in_use"
_REMOVED = "ready.json.removed"


@dataclass(frozen=True)
class Environment:
    """An environment that is ready.

    Attributes:
        path: its folder.
        python: its Python; to be started with `-I` and `scrubbed_environment()`.
    """

    path: Path
    python: Path


class EnvironmentStore:
    """The environments below a folder; any number of processes and threads may use it at once.

    An environment is named by what it is made from, and is ready when its ready.json is there, which is written last.
    Whatever lies in a folder without it is of no use, and whoever comes next removes it.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        """Take a folder for data, which need not exist; `default_home()` if none is given."""
        self.home = default_home() if home is None else Path(os.path.abspath(home))
        self._folder = self.home / "environments"

    def find(self, folder: ModuleFolder) -> Environment | None:
        """Return the ready environment of a module, or None. Neither uv nor the network is used.

        One that another version of uv made is as good: an update of uv costs nobody an environment.
        """
        wanted = WantedEnvironment.of(folder)
        found = [
            (record.made, path)
            for path, record in self._ready()
            if wanted.is_served_by(record) and record.is_intact(path)
        ]
        if not found:
            return None
        _, path = max(found)
        return Environment(path, python_of(path))

    def path_of(self, folder: ModuleFolder) -> Path | None:
        """Return where the ready environment of a module is, or None."""
        found = self.find(folder)
        return found.path if found else None

    def ensure(self, folder: ModuleFolder, report: Report | None = None) -> Environment:
        """Return the environment of a module, made if need be. It is not pruned while this process lives.

        Args:
            folder: the module.
            report: is called with a fraction from 0 to 1 (or None: as before) and a text, about twice a second while
                something takes its time. What it raises stops that, and nothing half-made is left to be used.

        Raises:
            ModuleEnvironmentError: it cannot be made; says why and what to do.
            InvalidModuleError: the lock does not hold all that the module asks for.
        """
        try:
            environment = self._use(folder)
            if environment is None:
                environment = self._make_or_wait(folder, report or (lambda fraction, text: None))
        except OSError as error:
            raise system_failure(f"Making the environment of {folder.name}", error, self.home) from error
        return environment

    def prune(self, folders: Iterable[ModuleFolder] = ()) -> list[Path]:
        """Remove the environments that nobody needs any more and no living process uses, and what is half-made.

        Kept is an environment that the module which it was made for, or one of `folders`, still asks for: also one for
        another Python or another build of torch, since another program may have other settings. So is one whose module
        cannot be read, unless it is certain that it is gone: a drive may be away. Removed is also one that is damaged,
        and one in whose place a newer one is found by everybody.

        Returns:
            What was removed. The files that uv makes environments from (home/cache) stay.

        Raises:
            ModuleEnvironmentError: a folder cannot be removed.
        """
        wanted = list(folders)
        needed = needed_environments(dict(self._ready()), wanted)
        removed = []
        for path in self._paths():
            if path in needed:
                continue
            try:
                lock = try_lock(_lock_of(path))
                if lock is None:
                    continue  # it is being made
                try:
                    if path not in needed_environments(dict(self._ready()), wanted) and _remove_unless_in_use(path):
                        _beside(path, SUSPICION).unlink(missing_ok=True)
                        removed.append(path)
                finally:
                    lock.release(remove=True)
            except OSError as error:
                raise system_failure(f"Removing {path}", error, self.home) from error
        return removed

    def _make_or_wait(self, folder: ModuleFolder, report: Report) -> Environment:
        if folder.unlocked_names:
            raise InvalidModuleError(
                f"{folder.path / LOCK_FILE} does not lock {', '.join(folder.unlocked_names)}, for which {PROJECT_FILE} "
                f'asks. Write it anew: external-modules lock "{folder.path}"'
            )
        wanted = WantedEnvironment.of(folder)
        uv = find_uv(self.home, report)
        interpreter = wanted.interpreter(uv, report)
        self._folder.mkdir(exist_ok=True)
        path = self._folder / wanted.name(interpreter, uv)
        waiting = f"waiting for another program that makes the environment of {folder.name}"
        with file_lock(_lock_of(path), lambda: report(None, waiting)) as lock:
            environment = self._use(folder)  # it may have been made while we waited
            if environment is None:
                environment = _make(_free_place(path), folder, interpreter, uv, report, lock)
        report(1.0, f"the environment of {folder.name} is ready")
        return environment

    def _use(self, folder: ModuleFolder) -> Environment | None:
        """Find an environment and mark it: first the mark, then another look, because its removal is the other way."""
        environment = self.find(folder)
        if environment:
            mark_in_use(_beside(environment.path, _MARKS))
            if (environment.path / READY_FILE).is_file():
                return environment
        return None

    def _paths(self) -> list[Path]:
        try:
            # Whatever else lies there is somebody's own.
            return sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _ready(self) -> Iterator[tuple[Path, ReadyRecord]]:
        for path in self._paths():
            record = read_record(path)
            if record:
                yield path, record


def _make(
    path: Path, folder: ModuleFolder, interpreter: Interpreter, uv: UvProgram, report: Report, lock: HeldLock
) -> Environment:
    try:
        EnvironmentMaking(path, folder, uv=uv, report=report, lock=lock).make(interpreter)
        mark_in_use(_beside(path, _MARKS))
    except BaseException:
        with suppress(OSError):  # then whoever comes next removes it
            (path / READY_FILE).unlink(missing_ok=True)  # first, so that what is half removed is not taken for ready
            remove_folder(path)
        raise
    return Environment(path, python_of(path))


def _free_place(path: Path) -> Path:
    """Return where an environment can be made: there, or beside it while a program uses a damaged one."""
    place, number = path, 1
    while place.exists() and not _remove_unless_in_use(place):
        number += 1
        place = path.with_name(f"{path.name}-{number}")
    return place


def _remove_unless_in_use(path: Path) -> bool:
    """Remove the folder of an environment, if no living process uses it; whoever calls has its lock."""
    marks = _beside(path, _MARKS)
    if is_in_use(marks):
        return False
    if (path / READY_FILE).exists():
        os.replace(path / READY_FILE, path / _REMOVED)
        if is_in_use(marks):  # since a moment ago
            os.replace(path / _REMOVED, path / READY_FILE)
            return False
    remove_folder(path)
    remove_marks(marks)
    return True


def _lock_of(path: Path) -> Path:
    """Return the file that is locked by whoever makes or removes an environment, or one beside it of that name."""
    match = _NAME.fullmatch(path.name)
    assert match
    return path.with_name(f"{match['name']}.lock")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
