"""The Python that an environment is made with."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from external_modules.environments.running_program import ask_program
from external_modules.errors import ModuleEnvironmentError

PYTHON_VARIABLE = "EXTERNAL_MODULES_PYTHON"

_PYTHON_FILE = re.compile(r"python(w|\d+(\.\d+)*)?(\.exe)?", re.IGNORECASE)
_DESCRIBE = """
import json, sys, sysconfig
suffix = sysconfig.get_config_var("EXT_SUFFIX")
print(json.dumps([list(sys.version_info[:3]), sys.implementation.name, suffix]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that was found.

    Attributes:
        path: its program.
        version: such as (3, 11, 7).
        implementation: such as "cpython".
        abi: what compiled packages must be built for: the ending of their files.
    """

    path: Path
    version: tuple[int, ...]
    implementation: str
    abi: str


def host_python() -> Interpreter | None:
    """Return the Python that runs this, or None where it cannot be started by itself, as inside some programs.

    A host that embeds Python is itself `sys.executable`; on Windows the Python of its folder is taken if it has one.
    """
    windows = sys.platform == "win32"
    executable = Path(sys.executable or "")
    candidates = [executable] if _PYTHON_FILE.fullmatch(executable.name) else []
    if windows:
        # python.exe rather than pythonw.exe, whose output is lost
        candidates = [*(path.with_name("python.exe") for path in candidates), Path(sys.base_prefix, "python.exe")]
    for path in candidates:
        if path.is_absolute() and path.is_file():
            return Interpreter(
                path,
                tuple(sys.version_info[:3]),
                sys.implementation.name,
                str(sysconfig.get_config_var("EXT_SUFFIX")),
            )
    return None


def is_complete(python: Interpreter) -> bool:
    """Return whether environments can be made with the host's Python: not with Windows' embeddable one."""
    has_path_file = any(python.path.parent.glob("python*._pth"))
    return importlib.util.find_spec("venv") is not None and not has_path_file


def describe(path: Path) -> Interpreter:
    """Start a Python and ask it what it is.

    Raises:
        ModuleEnvironmentError: it cannot be started, or is no Python.
    """
    try:
        answer = ask_program([path, "-I", "-c", _DESCRIBE])
        if answer.code != 0:
            raise ValueError(answer.tail(1) or f"exit code {answer.code}")
        version, implementation, abi = json.loads(answer.tail(1))
        return Interpreter(path, tuple(version), implementation, abi)
    except (OSError, ValueError) as error:
        raise ModuleEnvironmentError(f"The Python {path} cannot be used: {error}.") from error


def named_python() -> Path | None:
    """Return the program that $EXTERNAL_MODULES_PYTHON names, if it names one."""
    name = os.environ.get(PYTHON_VARIABLE)
    return Path(os.path.abspath(name)) if name else None
