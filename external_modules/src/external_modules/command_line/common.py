"""What several verbs share: options, messages, progress, and finding modules."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from external_modules.catalogue import CatalogueEntry, read_catalogue, read_entry, usual_folders
from external_modules.environments.store import EnvironmentStore
from external_modules.errors import InvalidModuleError, WorkerError
from external_modules.module_folder import ModuleFolder
from external_modules.module_places import PATH_VARIABLE

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_SECONDS_TO_FIRST_LINE = 1.0  # what takes less needs none
_SECONDS_BETWEEN_LINES = 10.0


def add_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int], *, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a verb whose help ends with examples; `run` gets the parsed arguments and returns the exit code."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def add_modules_option(parser: argparse.ArgumentParser) -> None:
    """Add --modules."""
    parser.add_argument(
        "--modules",
        type=absolute_path,
        metavar="FOLDER",
        help=f"folder that holds the modules (default: modules in ${PATH_VARIABLE}, and beside this package)",
    )


def absolute_path(text: str) -> Path:
    """Argument type: a path that is independent of the current folder."""
    return Path(os.path.abspath(os.path.expanduser(text)))


def folders_of_modules(arguments: argparse.Namespace) -> list[Path]:
    """Return the folders that hold modules.

    Raises:
        InvalidModuleError: there is none.
    """
    if arguments.modules is not None:
        return [arguments.modules]
    folders = usual_folders()
    if not folders:
        raise InvalidModuleError(
            f"No folder of modules was found. Name it with --modules FOLDER, or let {PATH_VARIABLE} be the folder that "
            "holds the folder 'modules'."
        )
    return folders


def find_entry(text: str, arguments: argparse.Namespace, store: EnvironmentStore) -> CatalogueEntry:
    """Return the module of a name, or of a path, which holds a separator.

    Raises:
        InvalidModuleError: there is none; names those that there are.
    """
    if any(separator in text for separator in (os.sep, os.altsep) if separator):
        return read_entry(absolute_path(text), store)
    folders = folders_of_modules(arguments)
    entries = read_catalogue(folders, store)
    for entry in entries:
        if text in (entry.name, entry.path.name):
            return entry
    names = ", ".join(entry.name for entry in entries) or "none"
    places = ", ".join(str(folder) for folder in folders)
    raise InvalidModuleError(
        f"There is no module {text!r} in {places}. There are: {names}. One elsewhere: give its path, or its "
        "folder with --modules."
    )


def usable_folder(entry: CatalogueEntry) -> ModuleFolder:
    """Return what a module's folder says.

    Raises:
        InvalidModuleError: it is not usable.
    """
    if entry.folder is None:
        raise InvalidModuleError(entry.problem)
    return entry.folder


def one_line(error: BaseException) -> str:
    """Return an error's text in one line. A worker's traceback is left to its log."""
    text = str(error.args[0]) if isinstance(error, WorkerError) else str(error)
    return " | ".join(line.strip() for line in text.splitlines() if line.strip()) or type(error).__name__


def say(text: str) -> None:
    """Print a note beside the results."""
    print(text, file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Print an error."""
    say(f"external-modules: error: {text}")


def in_bytes(size: int) -> str:
    """Return a size for people, such as "214.3 MB"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def count_noun(count: int, noun: str) -> str:
    """Return "1 image" or "2,000 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class ProgressDisplay:
    """A progress callback: in a terminal one line that changes, elsewhere a line now and then, both on stderr.

    Args:
        title: begins each line.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._fraction = 0.0
        self._said = ""
        self._next = time.monotonic() + _SECONDS_TO_FIRST_LINE
        self._terminal = sys.stderr.isatty()
        self._width = 0

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, fraction: float | None, text: str) -> None:
        """Show how far something is: 0 to 1, or None for as before; and what is being done."""
        self._fraction = self._fraction if fraction is None else fraction
        line = f"{self._title} {self._fraction:4.0%} {text}"
        if self._terminal:
            self._write(line)
        elif text != self._said and time.monotonic() >= self._next:
            self._said, self._next = text, time.monotonic() + _SECONDS_BETWEEN_LINES
            say(line)

    def clear(self) -> None:
        """Take the line away, so that another can be printed; the next call shows it again."""
        if self._width:
            self._write("")

    def _write(self, line: str) -> None:
        shown = line[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(f"\r{shown.ljust(self._width)}" if shown else f"\r{' ' * self._width}\r")
        sys.stderr.flush()
        self._width = len(shown)
