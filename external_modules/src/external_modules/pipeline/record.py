"""What of a folder of results is finished, and from what it was made: a file with one line for each result."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from external_modules.environments.local_packages import digest_of_files, files_below
from external_modules.module_folder import ModuleFolder
from external_modules.pipeline.definition import Pipeline

RECORD_FILE = "run_pipeline.jsonl"


class Record:
    """The record of a folder. A result counts as finished when its line is there and it is.

    Args:
        folder: of the results.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / RECORD_FILE
        self._made_from: dict[str, Any] = {}
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            content = b""
        for line in content.splitlines():
            try:
                entry = json.loads(line)
                self._made_from[entry["output"]] = entry["made_from"]
            except (ValueError, KeyError, TypeError, RecursionError):  # half a line, by a kill while it was written
                continue
        self._line_is_whole = not content or content.endswith(b"\n")

    def is_finished(self, outputs: Iterable[str], made_from: Mapping[str, Any]) -> bool:
        """Return whether files are there that were made from just that."""
        return all(self._made_from.get(name) == made_from and (self._folder / name).is_file() for name in outputs)

    def forget(self, outputs: Iterable[str]) -> None:
        """Write that files are not finished any more, because they are being made anew.

        Raises:
            OSError: it cannot be written.
        """
        known = [name for name in outputs if self._made_from.get(name) is not None]
        if known:
            self.add(known, None)

    def add(self, outputs: Iterable[str], made_from: Mapping[str, Any] | None) -> None:
        """Write that files, which are complete, were made from something; None for files that are not finished.

        Raises:
            OSError: it cannot be written.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = "" if self._line_is_whole else "\n"
        for name in outputs:
            self._made_from[name] = made_from
            text += json.dumps({"output": name, "time": now, "made_from": made_from}) + "\n"
        self._line_is_whole = False
        with open(self._path, "a", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._line_is_whole = True


def origin_of(image: Path, pipeline: Pipeline, module_digest: str) -> dict[str, Any]:
    """Return what the results of an image are made from, as values that JSON can hold.

    Raises:
        OSError: the image is not there.
    """
    return {
        "image": _state_of(image),
        "pipeline": pipeline.digest,
        "module": {"name": pipeline.folder.name, "version": pipeline.folder.version, "digest": module_digest},
        "files": [
            _state_of(Path(value))
            for step in pipeline.steps
            for value in step.params.values()
            if isinstance(value, str) and os.path.isabs(value) and os.path.exists(value)  # such as a model
        ],
    }


def digest_of_module(folder: ModuleFolder) -> str:
    """Return what a module computes with: its environment, and all files in its folder but hidden ones.

    Raises:
        OSError: a file cannot be read.
    """
    paths = sorted(
        path
        for path in files_below(folder.path)
        if not any(part.startswith(".") for part in path.relative_to(folder.path).parts)
    )
    return f"{folder.digest}-{digest_of_files(folder.path, paths)}"


def _state_of(path: Path) -> dict[str, Any]:
    files = sorted(files_below(path)) if path.is_dir() else [path]
    states = [os.stat(file) for file in files]
    return {
        "path": os.fspath(path),
        "bytes": sum(state.st_size for state in states),
        "changed_ns": max((state.st_mtime_ns for state in states), default=0),
    }
