"""A module's folder: what it says about itself, and what its environment is to hold."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from external_modules.environments.local_packages import digest_of_package, find_local_packages
from external_modules.errors import InvalidModuleError

DESCRIPTION_FILE = "module.json"
PROJECT_FILE = "pyproject.toml"
LOCK_FILE = "requirements.txt"
USUAL_WORKER = "worker.py"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_IMPORT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_VERSION = re.compile(r"\d+(\.\d+)*([a-z]+\d+)?")
_PYTHON_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,2})(\.\*)?")
_LOCKED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*==\s*\S")
_CONTINUED = re.compile(r"\\\r?\n")


class ModuleFolder:
    """A module as its folder describes it; read and checked once.

    Attributes:
        path: the folder, absolute.
        name: also the beginning of its environment's name.
        version: of the module.
        title: for people.
        segments: what it finds in an image, in a few words.
        licence: of the module and of what it calls.
        python: the Python versions that its environment may have, such as `>=3.10,<3.14`.
        import_probe: the packages that must be importable before its environment counts as ready.
        torch: the version of torch that it needs, or None.
        local_packages: folders of the packages that its environment gets from beside the module.
        test_arguments: what its worker gets beside `input_image` when it is tried on a test image.
        lock: its requirements.txt: exact versions with hashes.
        locked_names: names of the packages in the lock, normalised, sorted.
        unlocked_names: names of those that its pyproject.toml asks for beside them; none on Python 3.10.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read a folder with module.json, pyproject.toml and requirements.txt.

        Raises:
            InvalidModuleError: something is missing or wrong; names the file and what to change.
        """
        self.path = Path(os.path.abspath(path))
        project = self._read(PROJECT_FILE)
        locked = self._read(LOCK_FILE)
        description = read_description(self.path)

        def text(field: str, pattern: re.Pattern[str], example: str) -> str:
            value = description.get(field)
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise self._wrong(DESCRIPTION_FILE, f'"{field}" is {value!r}; it must be text such as "{example}"')
            return value

        anything = re.compile(r".*", re.DOTALL)
        self.name = text("name", _NAME, self.path.name if _NAME.fullmatch(self.path.name) else "threshold_module")
        self.version = text("version", anything, "0.1.0")
        self.title = text("title", anything, "Threshold")
        self.segments = text("segments", anything, "bright objects")
        self.licence = text("licence", anything, "MIT")
        self.python = text("python", _comma_separated(_PYTHON_CLAUSE), ">=3.10")
        self.import_probe = self._import_probe(description)
        self.torch = self._torch(description)
        self.local_packages, built = self._local_packages(description)
        self.test_arguments = self._test_arguments(description)
        self.lock = self.path / LOCK_FILE
        self.locked_names = self._locked_names(locked)
        self.unlocked_names = tuple(sorted(self._asked_for(project) - {*self.locked_names}))
        self._digest = hashlib.sha256(json.dumps([project, locked, self.torch, *built]).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """What the environment must hold, as 64 hexadecimal digits.

        Of pyproject.toml, the lock, torch's version and the content of the local packages.
        """
        return self._digest

    def allows_python(self, version: tuple[int, ...]) -> bool:
        """Return whether the environment may have a Python of a version, such as (3, 11, 7)."""
        return all(_fits(version, *match.groups()) for match in _PYTHON_CLAUSE.finditer(self.python))

    def _read(self, name: str) -> str:
        return _read(self.path, name)

    def _import_probe(self, description: Mapping[str, Any]) -> tuple[str, ...]:
        names = description.get("import_probe")
        valid = isinstance(names, list) and all(isinstance(name, str) and _IMPORT.fullmatch(name) for name in names)
        if not names or not valid:
            message = f'"import_probe" is {names!r}; it must list packages as they are imported, such as ["skimage"]'
            raise self._wrong(DESCRIPTION_FILE, message)
        return tuple(names)

    def _test_arguments(self, description: Mapping[str, Any]) -> Mapping[str, Any]:
        arguments = description.get("test_arguments", {})
        if not isinstance(arguments, dict):
            message = f'"test_arguments" is {arguments!r}; it must be an object such as {{"diameter": 14}}'
            raise self._wrong(DESCRIPTION_FILE, message)
        return arguments

    def _torch(self, description: Mapping[str, Any]) -> str | None:
        torch = description.get("torch")
        if torch is None:
            return None
        version = torch.get("version") if isinstance(torch, dict) else None
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise self._wrong(
                DESCRIPTION_FILE, f'"torch" is {torch!r}; it must be null or name a version: {{"version": "2.13.0"}}'
            )
        return version

    def _local_packages(self, description: Mapping[str, Any]) -> tuple[tuple[Path, ...], list[str]]:
        try:
            folders = find_local_packages(description.get("local_packages"), self.path)
            return folders, [digest_of_package(folder) for folder in folders]
        except (OSError, ValueError) as error:
            raise self._wrong(DESCRIPTION_FILE, str(error)) from error

    def _locked_names(self, text: str) -> tuple[str, ...]:
        names = set()
        for line in _CONTINUED.sub(" ", text).splitlines():
            requirement = line.partition("#")[0].strip()
            if not requirement:
                continue
            match = _LOCKED.match(requirement)
            # Neither an option (an index) nor an address: where packages come from is the machine's choice.
            if not match or "://" in requirement or "--hash=sha256:" not in requirement:
                raise self._wrong(
                    LOCK_FILE,
                    f"{requirement[:80]!r} is no exact version with its hashes. Write the file with "
                    f"`external-modules lock {self.path.name}`",
                )
            names.add(_normalised(match[1]))
        return tuple(sorted(names))

    def _asked_for(self, project: str) -> set[str]:
        if sys.version_info < (3, 11):
            return set()  # what is missing is told by the import probe, later
        import tomllib

        try:
            listed = tomllib.loads(project).get("project", {}).get("dependencies", [])
            return {_normalised(re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]) for requirement in listed}
        except (ValueError, AttributeError, TypeError) as error:
            raise self._wrong(PROJECT_FILE, f"it is no description of a Python project ({error})") from error

    def _wrong(self, name: str, problem: str) -> InvalidModuleError:
        return _wrong(self.path, name, problem)


def read_description(module: Path) -> Mapping[str, Any]:
    """Return what module.json of a module's folder holds.

    Raises:
        InvalidModuleError: it is not there, or no JSON object.
    """
    try:
        description = json.loads(_read(module, DESCRIPTION_FILE))
    except (ValueError, RecursionError) as error:
        raise _wrong(module, DESCRIPTION_FILE, f"it is not JSON ({error})") from error
    if not isinstance(description, dict):
        raise _wrong(module, DESCRIPTION_FILE, "it must be a JSON object")
    return description


def _read(module: Path, name: str) -> str:
    try:
        return (module / name).read_text(encoding="utf-8")  # whatever line ends the checkout has
    except FileNotFoundError as error:
        raise InvalidModuleError(
            f"{module} is no module: it has no {name}. Give the folder of a module, which holds "
            f"{DESCRIPTION_FILE}, {PROJECT_FILE} and {LOCK_FILE}."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(module, name, f"it cannot be read ({error})") from error


def _wrong(module: Path, name: str, problem: str) -> InvalidModuleError:
    return InvalidModuleError(f"{module / name}: {problem}.")


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _comma_separated(clause: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(rf"\s*{clause.pattern}(\s*,\s*{clause.pattern})*\s*")


def _fits(version: tuple[int, ...], operator: str, wanted_text: str, any_below: str | None) -> bool:
    wanted = tuple(int(part) for part in wanted_text.split("."))
    length = len(wanted) if any_below else max(len(wanted), len(version))
    left, right = (tuple([*parts, 0, 0, 0][:length]) for parts in (version, wanted))
    results: Mapping[str, Callable[[], bool]] = {
        ">=": lambda: left >= right,
        "<=": lambda: left <= right,
        "==": lambda: left == right,
        "!=": lambda: left != right,
        ">": lambda: left > right,
        "<": lambda: left < right,
    }
    return results[operator]()
