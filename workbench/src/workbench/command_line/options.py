"""Options that several verbs share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.store.store import Store

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_DATA_VARIABLE = "WORKBENCH_DATA"
_DEFAULT_DATA = "workbench_data"
_DEFAULT_WORKERS = Path("workers")


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Add --data, the folder that everything is kept in."""
    parser.add_argument(
        "--data",
        type=absolute_path,
        default=absolute_path(os.environ.get(_DATA_VARIABLE) or _DEFAULT_DATA),
        metavar="FOLDER",
        help=f"where everything is kept (default: ${_DATA_VARIABLE}, else {_DEFAULT_DATA} in the current folder)",
    )


def open_store(arguments: argparse.Namespace) -> Store:
    """Open what the folder of --data holds; the caller closes it.

    Raises:
        WorkbenchError: there is no such folder.
    """
    from workbench.store.store import Store

    if not arguments.data.is_dir():
        raise WorkbenchError(f"There is no data folder {arguments.data}. Name it with --data FOLDER.")
    return Store(arguments.data)


def add_workers_option(parser: argparse.ArgumentParser) -> None:
    """Add --workers, the folders that tools are looked for in, and --containers-only; see `worker_folders`."""
    options = parser.add_mutually_exclusive_group()
    options.add_argument(
        "--workers",
        type=absolute_path,
        action="append",
        metavar="FOLDER",
        help="where the tools are: every workers.yaml below it is read; may be given several times "
        f"(default: {_DEFAULT_WORKERS} in the current folder, if there is one). Container images of a Docker "
        "engine are tools as well",
    )
    options.add_argument(
        "--containers-only",
        dest="workers",
        action="store_const",
        const=[],
        help="no tools but the container images of a Docker engine",
    )


def worker_folders(arguments: argparse.Namespace) -> list[Path]:
    """Return the folders that --workers names, none with --containers-only."""
    given: list[Path] | None = arguments.workers
    return given if given is not None else [folder for folder in [_DEFAULT_WORKERS.absolute()] if folder.is_dir()]


def absolute_path(text: str | Path) -> Path:
    """Argument type: a path that is independent of the current folder."""
    return Path(os.path.abspath(os.path.expanduser(text)))
