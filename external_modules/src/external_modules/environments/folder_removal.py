"""Removing an environment's folder, also where Windows needs help with it (by construction: not run there)."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

_TRIES = 20
_PAUSE_S = 0.25


def system_path(path: Path) -> str:
    """Return how a path is passed to the system: on Windows in the form that may be longer than 260 characters."""
    text = os.path.abspath(path)
    if sys.platform != "win32" or text.startswith("\\\\?\\"):
        return text
    return "\\\\?\\UNC\\" + text[2:] if text.startswith("\\\\") else "\\\\?\\" + text


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, if it is there.

    A program that was just killed, or a virus scanner, may still have files of it: it is tried for some seconds.

    Raises:
        OSError: something of it cannot be removed.
    """
    folder = system_path(path)
    for attempt in range(_TRIES):
        if not os.path.lexists(folder):
            return
        try:
            shutil.rmtree(folder)
        except OSError:
            if attempt == _TRIES - 1 and os.path.lexists(folder):
                raise
            time.sleep(_PAUSE_S)
