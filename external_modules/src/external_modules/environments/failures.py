"""Says what a failed program's output means, and what to do about it."""

from __future__ import annotations

import errno
import re
import shutil
import signal
from pathlib import Path

from external_modules.environments.running_program import Finished
from external_modules.errors import ModuleEnvironmentError
from external_modules.home import HOME_VARIABLE

# Numbers of the system errors "no space", "file too large" and "over quota", as Rust and Python print them.
_DISK_FULL = re.compile(
    r"os error (28|27|122|112|39)\b|Errno (28|27|122)\b|No space left|not enough space on the disk|quota exceeded"
    r"|File too large",
    re.IGNORECASE,
)
_NO_NETWORK = re.compile(
    r"error sending request|dns error|client error \(connect|connection refused|network is unreachable|name resolution"
    r"|getaddrinfo|NewConnectionError|failed to establish a new connection|timed out|network was disabled|tunnel"
    r"|could not connect|connection reset|max retries exceeded|from versions: none",
    re.IGNORECASE,
)
_DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def program_failure(doing: str, finished: Finished, home: Path) -> ModuleEnvironmentError:
    """Return the error for a program that failed.

    Args:
        doing: what it was to do, such as "Installing the packages of threshold_module".
        finished: its output.
        home: the folder that it wrote to.
    """
    said = f"The last lines of what was said:\n{finished.tail()}"
    # A quota on the size of files ends a program by a signal.
    is_over_quota = finished.code == -getattr(signal, "SIGXFSZ", 0) != 0
    if is_over_quota or _DISK_FULL.search(finished.output):
        return ModuleEnvironmentError(f"{_disk_full(doing, home)}\n{said}")
    if _NO_NETWORK.search(finished.output):
        return ModuleEnvironmentError(
            f"{doing} failed: no package index could be reached. Connect this computer to the internet and start "
            "again; once this has succeeded, no connection is needed any more. Behind a proxy set HTTPS_PROXY first. "
            "A mirror or a folder of wheels that pip knows is used too: pip config set global.index-url ADDRESS, "
            f"pip config set global.find-links FOLDER.\n{said}"
        )
    return ModuleEnvironmentError(f"{doing} failed (exit code {finished.code}). {said}")


def system_failure(doing: str, error: OSError, home: Path) -> ModuleEnvironmentError:
    """Return the error for a file that could not be written or a program that could not be started."""
    if error.errno in _DISK_ERRORS:
        return ModuleEnvironmentError(_disk_full(doing, home))
    return ModuleEnvironmentError(
        f"{doing} failed: {error}. See that you may write to {home}, or set {HOME_VARIABLE} to another folder on a "
        "disk of this computer, then start again."
    )


def _disk_full(doing: str, home: Path) -> str:
    try:
        free = f" ({shutil.disk_usage(home).free / 1e9:.1f} GB are free)"
    except OSError:
        free = ""
    return (
        f"{doing} failed: the disk that holds {home} is full{free}. Free some space there, or set {HOME_VARIABLE} to a "
        "folder on another disk, then start again."
    )
