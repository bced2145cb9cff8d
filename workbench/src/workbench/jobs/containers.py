"""Workers that are Docker images of this machine, through the `docker` command."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.jobs.launch import WORKER_LABEL, Launch, Worker

_TIMEOUT_S = 2.0
_CACHE_S = 10.0
_NEEDS_GPU = ("com.nvidia.volumes.needed", "nvidia_driver")


class DockerEngine:
    """Lists images and removes containers; where `docker` is absent or its engine is silent there simply are none."""

    def __init__(self, program: str = "docker") -> None:
        self._program = program
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}
        self._asked_at: float | None = None

    def workers(self) -> dict[str, Worker]:
        """Return the images that are workers, by the first of their names; what is known is kept for seconds."""
        with self._lock:
            if self._asked_at is None or time.monotonic() - self._asked_at > _CACHE_S:
                found = self._list_images()
                if found is not None:  # an engine that is too busy to answer still has the images that it had
                    self._workers = {worker.image: worker for worker in found}
                self._asked_at = time.monotonic()
            return dict(self._workers)

    def remove(self, job_ids: Iterable[str]) -> None:
        """Remove the containers of jobs that a workbench left behind."""
        names = [_container_name(job_id) for job_id in job_ids]
        if names:
            self._ask("rm", "--force", *names)

    def _list_images(self) -> list[Worker] | None:
        """Return the images that are workers, or None where the engine does not answer."""
        ids = self._ask("images", "--quiet", "--filter", f"label={WORKER_LABEL}")
        if not ids:
            return None if ids is None else []
        described = self._ask("inspect", *dict.fromkeys(ids.split()))
        if described is None:
            return None
        images: list[dict[str, Any]] = json.loads(described)
        has_gpu = "nvidia" in (self._ask("info", "--format", "{{json .Runtimes}}") or "")
        return [
            ContainerWorker(self._program, image["RepoTags"][0], image["Config"]["Labels"], has_gpu)
            for image in images
            if image.get("RepoTags")
        ]

    def _ask(self, *arguments: str) -> str | None:
        """Return what a `docker` command prints, or None where nothing answers."""
        try:
            answer = subprocess.run(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.decode(errors="replace")


@dataclass(frozen=True)
class ContainerWorker:
    """An image; its container shares the machine's network, where the workbench listens."""

    program: str
    image: str
    labels: Mapping[str, str]
    engine_has_gpu: bool

    def launch(self, job_id: str, arguments: Sequence[str], temporary_folder: Path) -> Launch:
        """Return the command that runs a container and waits for it."""
        name = _container_name(job_id)
        key, value = _NEEDS_GPU
        gpus = ("--gpus", "all") if self.engine_has_gpu and self.labels.get(key) == value else ()
        run = (self.program, "run", "--rm", "--network", "host", "--name", name, *gpus, self.image)
        # `docker run` hands SIGTERM on to the container, but not SIGKILL, nor a signal that comes while it starts one.
        return Launch((*run, *arguments), {}, (self.program, "rm", "--force", name))


def _container_name(job_id: str) -> str:
    return f"workbench-{job_id}"
