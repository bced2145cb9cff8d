"""The environment variables that a child process gets.

A host may set PYTHONHOME, or have been started from a conda environment; what is right for the host's own Python breaks
or misleads every other one. Children therefore get none of it, and their Python is started with `-I` besides.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_PREFIXES = ("PYTHON", "CONDA_", "_CONDA_", "VIRTUAL_ENV", "UV_")
_NAMES = ("__PYVENV_LAUNCHER__",)  # steers a framework build of Python on macOS


def scrubbed_environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without what steers a Python, a conda or a uv.

    Args:
        variables: where to start from; this process's own if not given. It is left as it is.
    """
    source = os.environ if variables is None else variables
    kept = {name: value for name, value in source.items() if not _is_dropped(name.upper())}
    if sys.platform == "win32":
        # A Python host puts its own folders first on the path, and Windows looks for libraries there.
        for name in [name for name in kept if name.upper() == "PATH"]:
            kept[name] = os.pathsep.join(part for part in kept[name].split(os.pathsep) if not _is_of_host(part))
    return kept


def _is_dropped(name: str) -> bool:
    return name in _NAMES or name.startswith(_PREFIXES)


def _is_of_host(folder: str) -> bool:
    inside = os.path.normcase(os.path.abspath(folder)) + os.sep
    return any(inside.startswith(os.path.normcase(prefix) + os.sep) for prefix in (sys.prefix, sys.base_prefix))
