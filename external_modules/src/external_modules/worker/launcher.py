"""Starts a worker script in the environment of its module: `python -I launcher.py SCRIPT FOLDER [options]`.

Nothing needs to be installed there: this file finds the rest of the package by its own place. Standard library and
Python 3.9 only; numpy is imported here, on the main thread and before anything reads from the host.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import os
import runpy
import sys
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run a worker script as the arguments say."""
    parser = argparse.ArgumentParser(description="Run a worker script on a kept call, or as the worker of a host.")
    parser.add_argument("script", type=Path, help="the worker script")
    parser.add_argument("folder", type=Path, help="the folder of a kept call; for a host: of arrays")
    parser.add_argument("--host", action="store_true", help="a host started it, over pipes (default: a call by hand)")
    parser.add_argument("--memory", type=int, nargs=2, metavar=("IN", "OUT"), help="descriptors of shared memory")
    parser.add_argument("--keep-files", action="store_true", help="leave the files of arrays where they are")
    parser.add_argument("--remove-folder", action="store_true", help="remove the folder with the worker's end (POSIX)")
    options = parser.parse_args()
    _make_package_importable()
    from external_modules.worker import service as worker_service  # not importable earlier

    service = worker_service.connect(options)
    try:
        import numpy  # noqa: F401

        _run(options.script.absolute())
        if options.host:
            _leave_at_once()
    except Exception:
        service.fail(traceback.format_exc())


def _leave_at_once() -> None:
    """End this process without taking every object apart, for which torch alone takes half a second."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _run(script: Path) -> None:
    """Run a script as Python would, with `module_worker` importable, also in processes that the script starts."""
    sys.argv = [str(script)]
    sys.path.insert(0, str(script.parent))
    sys.path.append(str(_PACKAGE / "worker" / "importable"))
    runpy.run_path(str(script), run_name="__main__")


def _make_package_importable() -> None:
    """Let this package be imported without its neighbours, which are packages of the host."""
    spec = importlib.util.spec_from_file_location(
        "external_modules", _PACKAGE / "__init__.py", submodule_search_locations=[str(_PACKAGE)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["external_modules"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    main()
