"""The environments of modules: made at first use, found again in milliseconds, removed when nobody needs them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from external_modules.environments.failures import program_failure, system_failure
from external_modules.environments.file_lock import HeldLock, file_lock, try_lock
from external_modules.environments.folder_removal import remove_folder
from external_modules.environments.in_use_marks import is_in_use, mark_in_use, remove_marks
from external_modules.environments.interpreter import (
    PYTHON_VARIABLE,
    Interpreter,
    describe,
    host_python,
    is_complete,
    named_python,
)
from external_modules.environments.making import SUSPICION, EnvironmentMaking
from external_modules.environments.ready_record import READY_FILE, ReadyRecord, python_of, read_record, this_platform
from external_modules.environments.torch_build import torch_backend
from external_modules.environments.uv_program import Report, UvProgram, find_uv
from external_modules.errors import InvalidModuleError, ModuleEnvironmentError
from external_modules.home import default_home
from external_modules.module_folder import ModuleFolder

_LOCK = ".lock"
_ENVIRONMENT = re.compile(r".+-[0-9a-f]{16}")  # see _name
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
        found = [
            (record.made, path)
            for path, record in self._ready()
            if record.module == folder.name and _serves(record, folder) and record.is_intact(path)
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
        """
        try:
            environment = self._use(folder)
            if environment is None:
                environment = self._make_or_wait(folder, report or (lambda fraction, text: None))
        except OSError as error:
            raise system_failure(f"Making the environment of {folder.name}", error, self.home) from error
        return environment

    def prune(self, folders: Iterable[ModuleFolder] = ()) -> list[Path]:
        """Remove the environments that are not current and that no living process uses, and what is half-made.

        Current is what the module that it was made for still asks for, and what one of `folders` asks for.

        Returns:
            What was removed. The files that uv makes environments from (home/cache) stay.

        Raises:
            ModuleEnvironmentError: a folder cannot be removed.
        """
        wanted = {folder.digest for folder in folders}
        removed = []
        for path in self._paths():
            try:
                lock = try_lock(_beside(path, _LOCK))
                if lock is None:
                    continue  # it is being made
                try:
                    if self._remove_unless_needed(path, wanted):
                        removed.append(path)
                finally:
                    lock.release(remove=True)
            except OSError as error:
                raise system_failure(f"Removing {path}", error, self.home) from error
        return removed

    def _make_or_wait(self, folder: ModuleFolder, report: Report) -> Environment:
        self._folder.mkdir(parents=True, exist_ok=True)
        uv = find_uv(self.home, report)
        interpreter = self._interpreter(folder, uv, report)
        path = self._folder / _name(folder, interpreter, uv)
        waiting = f"waiting for another program that makes the environment of {folder.name}"
        with file_lock(_beside(path, _LOCK), lambda: report(None, waiting)) as lock:
            environment = self._use(folder)  # it may have been made while we waited
            if environment is None:
                self._make(path, folder, interpreter, uv, report, lock)
                environment = Environment(path, python_of(path))
        report(1.0, f"the environment of {folder.name} is ready")
        return environment

    def _make(
        self,
        path: Path,
        folder: ModuleFolder,
        interpreter: Interpreter,
        uv: UvProgram,
        report: Report,
        lock: HeldLock,
    ) -> None:
        _remove(path)
        try:
            EnvironmentMaking(path, folder, uv=uv, report=report, lock=lock).make(interpreter)
            mark_in_use(_beside(path, _MARKS))
        except BaseException:
            with suppress(OSError):  # then whoever comes next removes it
                _remove(path)
            raise

    def _use(self, folder: ModuleFolder) -> Environment | None:
        """Find an environment and mark it: first the mark, then another look, because `prune` does it the other way."""
        environment = self.find(folder)
        if environment:
            mark_in_use(_beside(environment.path, _MARKS))
            if (environment.path / READY_FILE).is_file():
                return environment
        return None

    def _remove_unless_needed(self, path: Path, wanted: set[str]) -> bool:
        record = read_record(path)
        marks = _beside(path, _MARKS)
        if record and (record.digest in wanted or _is_current(record)):
            return False
        if is_in_use(marks):
            return False
        if record:
            os.replace(path / READY_FILE, path / _REMOVED)
            if is_in_use(marks):  # since a moment ago
                os.replace(path / _REMOVED, path / READY_FILE)
                return False
        _remove(path)
        remove_marks(marks)
        _beside(path, SUSPICION).unlink(missing_ok=True)
        return True

    def _interpreter(self, folder: ModuleFolder, uv: UvProgram, report: Report) -> Interpreter:
        named = named_python()
        if named:
            interpreter = describe(named)
            if not folder.allows_python(interpreter.version):
                version = ".".join(str(number) for number in interpreter.version)
                raise ModuleEnvironmentError(
                    f"{PYTHON_VARIABLE} names {named}, a Python {version}, but {folder.name} needs {folder.python}. "
                    "Let it name another Python, or unset it."
                )
            return interpreter
        return _suitable_host(folder) or self._python_of_uv(folder, uv, report)

    def _python_of_uv(self, folder: ModuleFolder, uv: UvProgram, report: Report) -> Interpreter:
        find: list[str | os.PathLike[str]] = [
            "python",
            "find",
            "--no-project",
            "--system",
            "--no-python-downloads",
            folder.python,
        ]
        text = f"looking for a Python {folder.python} for {folder.name}"
        found = uv.run(find, lambda line: report(None, text))
        if found.code != 0:
            text = f"downloading a Python {folder.python} (first use of {folder.name}; about a minute)"
            report(0.02, text)
            installed = uv.run(["python", "install", folder.python], lambda line: report(None, text))
            if installed.code != 0:
                raise program_failure(f"Downloading a Python {folder.python}", installed, self.home)
            found = uv.run(find, lambda line: report(None, text))
        paths = [line.strip() for line in found.output.splitlines() if os.path.isfile(line.strip())]
        if found.code != 0 or not paths:
            raise program_failure(f"Looking for a Python {folder.python}", found, self.home)
        return describe(Path(paths[-1]))

    def _paths(self) -> list[Path]:
        try:
            # Whatever else lies there is somebody's own.
            return sorted(
                path for path in self._folder.iterdir() if _ENVIRONMENT.fullmatch(path.name) and path.is_dir()
            )
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _ready(self) -> Iterator[tuple[Path, ReadyRecord]]:
        for path in self._paths():
            record = read_record(path)
            if record:
                yield path, record


def _name(folder: ModuleFolder, interpreter: Interpreter, uv: UvProgram) -> str:
    python = [interpreter.implementation, interpreter.version, interpreter.abi]
    identity = [folder.digest, _wanted_torch(folder), python, this_platform(), uv.version]
    return f"{folder.name}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}"


def _serves(record: ReadyRecord, folder: ModuleFolder) -> bool:
    is_same = (record.digest, record.torch_backend, record.platform) == (
        folder.digest,
        _wanted_torch(folder),
        this_platform(),
    )
    if not is_same:
        return False
    named = named_python()
    if named:
        return record.made_with == os.fspath(named)
    host = _suitable_host(folder)
    return record.abi == host.abi if host else folder.allows_python(tuple(record.python))


def _suitable_host(folder: ModuleFolder) -> Interpreter | None:
    host = host_python()
    return host if host and is_complete(host) and folder.allows_python(host.version) else None


def _wanted_torch(folder: ModuleFolder) -> str | None:
    return torch_backend() if folder.torch else None


def _is_current(record: ReadyRecord) -> bool:
    try:
        return ModuleFolder(record.module_folder).digest == record.digest
    except InvalidModuleError:
        return False


def _remove(path: Path) -> None:
    (path / READY_FILE).unlink(missing_ok=True)  # first, so that what is half removed is not taken for ready
    remove_folder(path)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
