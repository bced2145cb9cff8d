"""Where this package keeps its data: environments, uv, logs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HOME_VARIABLE = "EXTERNAL_MODULES_HOME"


def default_home() -> Path:
    """Return the folder of this package's data: $EXTERNAL_MODULES_HOME, else where the system keeps a user's data."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(os.path.abspath(named))
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "external_modules"
