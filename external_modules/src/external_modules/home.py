"""Where this package keeps its data: environments, uv, logs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HOME_VARIABLE = "EXTERNAL_MODULES_HOME"

_OWN_ONLY = 0o700


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


def make_home(home: Path) -> None:
    """Make the folder of this package's data for this account alone, if it is not there.

    One that was made by hand keeps its rights, so that several accounts can use what is in it.

    Raises:
        OSError: it cannot be made.
    """
    home.mkdir(mode=_OWN_ONLY, parents=True, exist_ok=True)
