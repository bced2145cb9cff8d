"""Says exactly which packages an environment holds beyond its lock: torch's build and what came with it."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from external_modules.environments.folder_removal import system_path

_INFORMATION = ".dist-info"


def unlocked_packages(packages: Path, locked_names: Iterable[str]) -> dict[str, str]:
    """Return a digest of the files of each package that no lock says the hash of.

    It is the same wherever the same build was installed: 64 hexadecimal digits of the names and hashes of its files, as
    the wheel lists them, without what an installer adds.

    Args:
        packages: the environment's site-packages.
        locked_names: of the packages whose hashes were checked, normalised.

    Returns:
        By name and version, such as `torch==2.13.0+cpu`.

    Raises:
        OSError: a list cannot be read.
    """
    locked = set(locked_names)
    found = {}
    for files in sorted(Path(system_path(packages)).glob(f"*{_INFORMATION}/RECORD")):
        name, _, version = files.parent.name.removesuffix(_INFORMATION).partition("-")
        name = re.sub(r"[-_.]+", "-", name).lower()
        if name not in locked:
            found[f"{name}=={version}"] = _digest(files)
    return found


def _digest(files: Path) -> str:
    with open(files, encoding="utf-8", newline="") as file:
        rows = [(path, digest) for path, digest, _ in csv.reader(file)]
    # A program outside of site-packages names its environment's Python.
    own = sorted(row for row in rows if row[0].split("/")[0] not in ("..", files.parent.name))
    return hashlib.sha256("".join(f"{path},{digest}\n" for path, digest in own).encode()).hexdigest()
