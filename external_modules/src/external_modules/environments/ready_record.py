"""What is written into an environment when it is ready: what it was made from, and what must be there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from external_modules.environments.folder_removal import system_path

READY_FILE = "ready.json"


@dataclass(frozen=True)
class ReadyRecord:
    """The content of ready.json.

    Attributes:
        module: name of the module.
        module_folder: where the module lay.
        digest: ModuleFolder.digest, what the environment holds.
        torch_backend: the build of torch that was asked for; None without torch.
        platform: the machine, as `this_platform`.
        python: version of its Python.
        abi: Interpreter.abi.
        made_with: the Python program that was asked for.
        base_folder: of the Python that it rests on, and without which its own cannot start.
        uv: version of uv.
        made: when, in seconds since 1970.
        packages_folder: its site-packages, relative to it.
        packages: names of all that was installed there.
        unlocked: of it, the packages that are not in the module's lock, as `unlocked_packages`.
    """

    module: str
    module_folder: str
    digest: str
    torch_backend: str | None
    platform: str
    python: list[int]
    abi: str
    made_with: str
    base_folder: str
    uv: str
    made: float
    packages_folder: str
    packages: list[str]
    unlocked: dict[str, str]

    def is_intact(self, path: Path) -> bool:
        """Return whether nothing of the environment is missing, as far as that is seen in a moment."""
        try:
            there = set(os.listdir(system_path(path / self.packages_folder)))
        except OSError:
            return False
        return (
            os.path.isfile(system_path(python_of(path)))
            and os.path.isdir(self.base_folder)
            and there.issuperset(self.packages)
        )


def python_of(path: Path) -> Path:
    """Return the Python program of an environment."""
    return path / "Scripts" / "python.exe" if sys.platform == "win32" else path / "bin" / "python"


def this_platform() -> str:
    """Return system and machine, such as linux-x86_64."""
    if sys.platform == "win32":
        return f"{sys.platform}-{os.environ.get('PROCESSOR_ARCHITECTURE', '')}".lower()
    return f"{sys.platform}-{os.uname().machine}".lower()


def read_record(path: Path) -> ReadyRecord | None:
    """Return the record of an environment, or None where it is not ready."""
    try:
        content = json.loads((path / READY_FILE).read_bytes())
        return ReadyRecord(**{field.name: _value(content, field.name) for field in fields(ReadyRecord)})
    except (OSError, ValueError, RecursionError):
        return None


def write_record(path: Path, record: ReadyRecord) -> None:
    """Write the record at once and completely, so that it never tells of an environment that is not ready."""
    new = path / f"{READY_FILE}.new"
    with open(new, "w", encoding="utf-8") as file:
        json.dump(asdict(record), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path / READY_FILE)


def _value(content: object, name: str) -> Any:
    if not isinstance(content, Mapping) or name not in content:
        raise ValueError(f"{READY_FILE} has no {name}")
    return content[name]
