"""What the job runner needs to know to start a worker, whatever the worker is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

WORKER_LABEL = "isUPennContrastWorker"  # whatever its value: what has it is a worker

QueueName = Literal["gpu", "cpu"]


@dataclass(frozen=True)
class Launch:
    """How one job's process is started and stopped.

    Attributes:
        argv: the program and its arguments; no shell takes part.
        environment: variables that are set beside those of the workbench.
        kill_command: a program that ends the worker where killing the process does not.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    kill_command: tuple[str, ...] | None = None


class Worker(Protocol):
    """A program that answers the platform's requests."""

    @property
    def image(self) -> str:
        """The name that the platform knows it by, such as annotations/condensatenet_predict:latest."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its image."""

    def launch(self, job_id: str, arguments: Sequence[str], temporary_folder: Path) -> Launch:
        """Return how it is started with the platform's arguments."""


def queue_of(labels: Mapping[str, str]) -> QueueName:
    """Return the queue that a worker's compute requests wait in, by the platform's rule.

    Only a worker that says clearly that it needs no GPU may run beside others.
    """
    return "cpu" if labels.get("isGPUWorker", "").strip().lower() in ("false", "0", "no") else "gpu"
