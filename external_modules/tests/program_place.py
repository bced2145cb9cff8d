"""Where the program `external-modules` is run in tests: a folder of modules, and where environments are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tiny_module_folders import SOURCES
from whole_modules import share_downloads


class ProgramPlace:
    """The folders, and the variables that programs get there.

    Args:
        folder: for all of it.
    """

    def __init__(self, folder: Path) -> None:
        self.modules = folder / "tree \u03a9" / "modules"
        self.modules.mkdir(parents=True)
        home = folder / "home \u00e4 with spaces"
        home.mkdir()
        share_downloads(home)
        self.variables = {
            "EXTERNAL_MODULES_HOME": str(home),
            "EXTERNAL_MODULES_PATH": str(self.modules.parent),
            "PYTHONPATH": str(SOURCES),
            "PYTHONIOENCODING": "utf-8",
        }

    def start(self, *command: str | Path, python: str | Path = sys.executable) -> subprocess.Popen[str]:
        """Start Python with arguments."""
        return subprocess.Popen(
            [str(python), *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, **self.variables},
        )

    def run(self, *command: str | Path, python: str | Path = sys.executable) -> tuple[int, str, str]:
        """Run Python to its end; return exit code, stdout, stderr."""
        with self.start(*command, python=python) as process:
            printed, errors = process.communicate(timeout=500)
        return process.returncode, printed, errors

    def call(self, *arguments: str | Path, python: str | Path = sys.executable) -> tuple[int, str, str]:
        """Run `external-modules`; return exit code, stdout, stderr."""
        return self.run("-m", "external_modules", *arguments, python=python)
