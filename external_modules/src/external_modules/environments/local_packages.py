"""Packages that a module takes from a folder beside it, because no index has them: built there, without a network."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

PROJECT_FILE = "pyproject.toml"
SOURCES = "src"
_LEFT_OUT = "__pycache__"


def find_local_packages(named: object, module: Path) -> tuple[Path, ...]:
    """Return the folders of the packages that a module names.

    Args:
        named: what its module.json says: a list of paths relative to the module's folder, or None.
        module: the module's folder.

    Raises:
        ValueError: it is no such list, or a folder does not hold a package; says what to do.
    """
    if named is None:
        return ()
    if not isinstance(named, list) or not all(isinstance(path, str) and path for path in named):
        raise ValueError(f'"local_packages" is {named!r}; it must list folders, such as ["../../../condensatenet"]')
    folders = tuple(Path(os.path.abspath(module / path)) for path in named)
    for folder in folders:
        if not (folder / PROJECT_FILE).is_file() or not (folder / SOURCES).is_dir():
            raise ValueError(
                f"the module needs the package {folder.name}, which must lie in {folder} with its {PROJECT_FILE} and "
                f"the folder {SOURCES}. Copy it there"
            )
    return folders


def digest_of_package(folder: Path) -> str:
    """Return what a package consists of, as 64 hexadecimal digits: of pyproject.toml and of all below src.

    Raises:
        OSError: a file cannot be read.
    """
    return digest_of_files(folder, [folder / PROJECT_FILE, *sorted(files_below(folder / SOURCES))])


def digest_of_files(folder: Path, paths: Iterable[Path]) -> str:
    """Return names and contents of files below a folder as 64 hexadecimal digits.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Return all files below a folder but what Python keeps for itself."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != _LEFT_OUT]
        yield from (Path(parent, name) for name in names)


def copy_package(folder: Path, place: Path) -> Path:
    """Copy what a package is built from: a build writes beside it, and leaves its traces there.

    Args:
        folder: of the package.
        place: where the copy is put; is made.

    Returns:
        The copy: the files of the folder itself, such as the licence, and all below src.

    Raises:
        OSError: a file cannot be read or written.
    """

    def left_out(parent: str, names: list[str]) -> list[str]:
        if not os.path.samefile(parent, folder):
            return [_LEFT_OUT]
        return [name for name in names if name != SOURCES and os.path.isdir(os.path.join(parent, name))]

    return Path(shutil.copytree(folder, place / folder.name, ignore=left_out))


def installation(folder: Path, python: Path) -> list[str | os.PathLike[str]]:
    """Return the arguments with which uv builds a package and copies it into an environment.

    What it is built with (its build backend) must be in the environment, as a part of the module's lock.

    Args:
        folder: of the package.
        python: of the environment.
    """
    return [
        "pip",
        "install",
        "--python",
        python,
        "--no-deps",  # they are in the lock
        "--no-build-isolation",
        "--no-index",
        "--offline",
        "--no-cache",  # no build is needed twice: an environment is made once for each content
        folder.as_uri(),  # a bracket or a semicolon in a path would mean something to uv
    ]
