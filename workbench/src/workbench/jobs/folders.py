"""The folder of a job: its log, and a temporary folder while its worker runs."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

_TEMPORARY = "tmp"


class JobFolder:
    """The paths of a job; none of them needs to exist.

    Args:
        jobs_folder: where the folders of all jobs are.
        job_id: the job.
    """

    def __init__(self, jobs_folder: Path, job_id: str) -> None:
        self.log = jobs_folder / job_id / "log.txt"
        self.temporary = jobs_folder / job_id / _TEMPORARY

    def create(self) -> None:
        """Make the folder for the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)

    def remove_temporary(self) -> None:
        """Remove what the worker left."""
        remove_folder(self.temporary)


def remove_temporary_folders(jobs_folder: Path) -> None:
    """Remove what the workers of all jobs left; none may be running."""
    for folder in jobs_folder.glob(f"*/{_TEMPORARY}"):
        remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder with what is in it, as far as the system lets one; a worker may have made it read-only."""
    _make_writable(folder)
    for place, names, _ in os.walk(folder):
        for name in names:
            _make_writable(Path(place, name))
    shutil.rmtree(folder, ignore_errors=True)


def _make_writable(folder: Path) -> None:
    if not folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.chmod(0o700)
