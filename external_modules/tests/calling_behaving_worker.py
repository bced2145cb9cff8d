"""What the tests of calls share: a module whose worker is behaving_worker.py, in this interpreter's own environment."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from external_modules.environments.store import Environment
from external_modules.external_module import ExternalModule
from external_modules.module_folder import ModuleFolder

SCRIPT = "behaving_worker.py"


class ThisInterpreter:
    """Stands in for the environments that uv makes."""

    def ensure(self, folder: ModuleFolder, report: Callable[[float | None, str], object] | None = None) -> Environment:
        if report is not None:
            report(0.5, "looking around")
        return Environment(Path(sys.prefix), Path(sys.executable))


def make_module(folder: Path) -> Path:
    """Write the folder of a module, and return it."""
    folder.mkdir(parents=True)
    description = {
        "name": "behaving",
        "version": "1",
        "title": "Behaving",
        "segments": "nothing",
        "licence": "MIT",
        "import_probe": ["numpy"],
        "python": ">=3.10",
        "torch": None,
    }
    (folder / "module.json").write_text(json.dumps(description))
    (folder / "pyproject.toml").write_text("[project]\nname = 'behaving'\nversion = '1'\n")
    (folder / "requirements.txt").write_text("")
    shutil.copy(Path(__file__).with_name(SCRIPT), folder)
    return folder


def open_module(tmp_path: Path, **options: Any) -> ExternalModule:
    """Return a module below a folder, which may hold one already."""
    folder = tmp_path / "modules with spaces, \u00b5m" / "behaving"
    if not folder.exists():
        make_module(folder)
    return ExternalModule(folder, tmp_path / "home", environments=ThisInterpreter(), **options)


def is_running(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def wait_until_gone(pids: list[int], seconds: float) -> float:
    """Return after how many seconds all processes were gone, or fail."""
    begin = time.monotonic()
    while left := [pid for pid in pids if is_running(pid)]:
        if time.monotonic() - begin > seconds:
            names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left if os.path.exists(f"/proc/{pid}")}
            raise AssertionError(f"still there after {seconds} s: {names}")
        time.sleep(0.02)
    return time.monotonic() - begin
