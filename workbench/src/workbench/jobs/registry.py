"""The workers that can be run: local programs named by workers.yaml files, and the images of a Docker engine."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import WorkbenchError
from workbench.jobs.containers import DockerEngine
from workbench.jobs.dockerfile import read_labels
from workbench.jobs.launch import WORKER_LABEL, Launch, Worker

FILE_NAME = "workers.yaml"

_PYTHON = "{python}"
_IMAGE = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYS = ("command", "environment", "labels", "dockerfile")


class Registry:
    """Finds a worker by the name of its image."""

    def __init__(self, folders: Sequence[Path] = (), *, engine: DockerEngine | None = None) -> None:
        """Read every workers.yaml below the folders.

        Args:
            folders: where to look; hidden folders below them are left out.
            engine: a Docker engine whose images are offered too; a local program comes before an image of its name.

        Raises:
            WorkbenchError: a folder holds no such file, or a file is not as it must be; names the file and the key.
        """
        self._engine = engine
        self._local: dict[str, LocalWorker] = {}
        for folder in folders:
            paths = list(_find_files(folder))
            if not paths:
                raise WorkbenchError(f"There is no {FILE_NAME} below {folder}; name a folder that holds workers")
            for worker in (worker for path in paths for worker in read_workers(path)):
                known = self._local.setdefault(worker.image, worker)
                if known.file != worker.file:
                    raise WorkbenchError(f"{worker.file}: {worker.image} is already named by {known.file}")

    def workers(self) -> dict[str, Worker]:
        """Return all workers by image name, in alphabetical order."""
        containers = self._engine.workers() if self._engine else {}
        found: dict[str, Worker] = {**containers, **self._local}
        return dict(sorted(found.items()))

    def find(self, image: str) -> Worker | None:
        """Return the worker of that name, without asking the Docker engine about a local one."""
        return self._local.get(image) or self.workers().get(image)

    def remove_containers(self, job_ids: Iterable[str]) -> None:
        """Remove containers that a workbench left behind, if there is a Docker engine."""
        if self._engine:
            self._engine.remove(job_ids)


@dataclass(frozen=True)
class LocalWorker:
    """A program of this machine, described by an entry of a workers.yaml."""

    image: str
    labels: Mapping[str, str]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    file: Path

    def launch(self, job_id: str, arguments: Sequence[str], temporary_folder: Path) -> Launch:
        """Return its command with the arguments; what it writes to the system's temporary folder goes to its own."""
        own = {name: str(temporary_folder) for name in ("TMPDIR", "TEMP", "TMP")}
        return Launch((*self.command, *arguments), {**own, "PYTHONUNBUFFERED": "1", **self.environment})


def read_workers(path: Path) -> list[LocalWorker]:
    """Read one workers.yaml.

    Raises:
        WorkbenchError: it cannot be read or is not as it must be; names the file and the key.
    """
    try:
        content = _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WorkbenchError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    path = path.absolute()
    return [_read_worker(path, image, entry) for image, entry in _mapping(path, "", content).items()]


def _read_worker(path: Path, image: str, entry: Any) -> LocalWorker:
    if not _IMAGE.fullmatch(image):
        raise WorkbenchError(f"{path}: {image!r} is no image name; write it as annotations/my_worker:latest")
    fields = _mapping(path, image, entry)
    for key in fields:
        if key not in _KEYS:
            raise WorkbenchError(f"{path}: {image}: {key!r} means nothing here; possible are {', '.join(_KEYS)}")
    if "command" not in fields:
        raise WorkbenchError(f"{path}: {image}: command is missing")
    return LocalWorker(
        image,
        _read_labels(path, image, fields),
        _read_command(path, f"{image}: command", fields["command"]),
        _read_environment(path, f"{image}: environment", fields.get("environment", {})),
        path,
    )


def _read_labels(path: Path, image: str, fields: dict[str, Any]) -> dict[str, str]:
    """Return the labels that stand in the entry, or in the Dockerfile that it names."""
    if ("labels" in fields) == ("dockerfile" in fields):
        raise WorkbenchError(f"{path}: {image}: give either labels or a dockerfile that holds them")
    if "labels" in fields:
        given = _mapping(path, f"{image}: labels", fields["labels"])
        labels = {name: _scalar(path, f"{image}: labels: {name}", value) for name, value in given.items()}
        place = f"{path}: {image}: labels"
    else:
        dockerfile = path.parent / _scalar(path, f"{image}: dockerfile", fields["dockerfile"])
        try:
            labels = read_labels(dockerfile.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WorkbenchError(f"{path}: {image}: dockerfile {dockerfile}: {error}") from error
        place = f"{path}: {image}: dockerfile {dockerfile}"
    if WORKER_LABEL not in labels:
        raise WorkbenchError(f'{place}: {WORKER_LABEL} is missing; add it with the value ""')
    return labels


def _read_command(path: Path, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise WorkbenchError(f'{path}: {key} must be a list of texts such as ["{_PYTHON}", "entrypoint.py"]')
    program, *arguments = value
    if program == _PYTHON:
        program = sys.executable
        if arguments and not arguments[0].startswith("-") and not (path.parent / arguments[0]).is_file():
            raise WorkbenchError(f"{path}: {key}: there is no file {path.parent / arguments[0]}")
    elif os.path.dirname(program):
        program = os.path.normpath(path.parent / program)
        if not os.path.isfile(program):
            raise WorkbenchError(f"{path}: {key}: there is no file {program}")
    # A worker runs in a folder of its own, so that its files are named in full.
    files = (path.parent / argument for argument in arguments)
    return (program, *(str(file) if file.is_file() else text for file, text in zip(files, arguments, strict=True)))


def _read_environment(path: Path, key: str, value: Any) -> dict[str, str]:
    environment = {}
    for name, given in _mapping(path, key, value).items():
        if not _VARIABLE.fullmatch(name):
            raise WorkbenchError(f"{path}: {key}: {name!r} is no name of a variable")
        parts = _scalar(path, f"{key}: {name}", given).split(os.pathsep)
        environment[name] = os.pathsep.join(_resolve(path.parent, name, part) for part in parts)
    return environment


def _resolve(folder: Path, name: str, part: str) -> str:
    """Return a part of a variable, in full if it is a path: all parts of PYTHONPATH are, and what starts with a dot."""
    is_path = part and (name.upper().endswith("PATH") or part in (".", "..") or part.startswith(("./", "../")))
    return os.path.normpath(folder / part) if is_path else part


def _mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        place = f"{path}: {key}" if key else f"{path}"
        raise WorkbenchError(f"{place} must be names with values (`name: value`)")
    return value


def _scalar(path: Path, key: str, value: Any) -> str:
    """Return a value as the text that an image's label would have."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise WorkbenchError(f"{path}: {key} must be a text")


def _find_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise WorkbenchError(f"There is no folder {folder}; name a folder that holds workers")
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if FILE_NAME in files:
            yield Path(place, FILE_NAME)


def _parse(text: str) -> Any:
    """Parse YAML, and refuse a key that is given twice: YAML would take the last one without a word."""
    waiting = [yaml.compose(text, yaml.SafeLoader)]
    known = set()
    while waiting:
        node = waiting.pop()
        if id(node) in known or not isinstance(node, yaml.CollectionNode):
            continue
        known.add(id(node))  # an alias may name a node that it is in
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        keys = set()
        for key, value in node.value:
            if isinstance(key.value, str) and key.value in keys:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} twice", problem_mark=key.start_mark)
            keys.add(str(key.value))
            waiting.append(value)
    return yaml.safe_load(text)
