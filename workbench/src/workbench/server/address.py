"""Where a running server is: the file in its data folder that says so."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_FILE = "server.json"


@dataclass(frozen=True)
class RunningServer:
    """Where a server is and what opens it."""

    url: str
    token: str
    pid: int

    @property
    def api_url(self) -> str:
        """Address of its REST interface."""
        return f"{self.url}/api/v1"


def read_address(data_folder: Path) -> RunningServer | None:
    """Give what the server of a data folder has written, or None; one that was killed leaves its file behind."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return RunningServer(**json.loads((data_folder / _FILE).read_text(encoding="utf-8")))
    return None


def write_address(data_folder: Path, server: RunningServer) -> None:
    """Write the file at once, readable by this user only."""
    new = (data_folder / _FILE).with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(server), file)
    os.replace(new, data_folder / _FILE)


def remove_address(data_folder: Path) -> None:
    """Remove the file, if there is one."""
    (data_folder / _FILE).unlink(missing_ok=True)
