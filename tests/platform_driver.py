"""Drives a running server and the real workers from tests, as the platform and its users do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.connection import Connection, connect

ROOT = Path(__file__).resolve().parent.parent
WORKERS = ROOT / "workers" / "annotations" / "condensatenet"
ONE_CORE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
IMAGES = {kind: f"annotations/condensatenet_{kind}:latest" for kind in ("predict", "train")}


@dataclass(frozen=True)
class Finished:
    """A worker that has ended.

    Attributes:
        exit_code: of its process; negative if a signal killed it.
        lines: the JSON objects that it printed, in order.
        output: everything on stdout.
        trouble: everything on stderr.
        seconds: from start to end.
    """

    exit_code: int
    lines: list[dict[str, Any]]
    output: str
    trouble: str
    seconds: float

    def texts(self, kind: str) -> list[str]:
        """Return the texts of all "error" or "warning" lines."""
        return [line[kind] for line in self.lines if kind in line]

    @property
    def error(self) -> str:
        """The text of the one error line."""
        (text,) = self.texts("error")
        return text


@dataclass(frozen=True)
class Platform:
    """A server that speaks the platform's language, with one user's token."""

    api_url: str
    token: str

    @property
    def connection(self) -> Connection:
        """A connection of the user."""
        return connect(self.api_url, self.token)

    @property
    def annotations(self) -> UPennContrastAnnotationClient:
        """The user's annotations."""
        return UPennContrastAnnotationClient(self.api_url, self.token)

    def command(self, kind: str) -> list[str]:
        """Return how a worker is started, up to the platform's arguments."""
        return [sys.executable, str(WORKERS / kind / "entrypoint.py")]

    def start_worker(
        self, kind: str, request: str, parameters: dict[str, Any], dataset_id: str | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start the predict or the train worker with the platform's command line."""
        command = [*self.command(kind), "--apiUrl", self.api_url, "--token", self.token]
        command += ["--request", request, "--parameters", json.dumps(parameters)]
        command += ["--datasetId", dataset_id] if dataset_id else []
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(WORKERS), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            | environment,
        )

    def run_worker(
        self, kind: str, request: str, parameters: dict[str, Any], dataset_id: str | None = None, **environment: str
    ) -> Finished:
        """Start a worker and wait for its end."""
        began = time.monotonic()
        process = self.start_worker(kind, request, parameters, dataset_id, **environment)
        return finish(process, began)

    def compute(
        self,
        kind: str,
        dataset_id: str,
        values: dict[str, Any],
        *,
        environment: dict[str, str] | None = None,
        **tool: Any,
    ) -> Finished:
        """Run a tool on a dataset; `tool` replaces parts of what the platform sends beside the form's values."""
        return self.run_worker(
            kind, "compute", tool_parameters(kind, dataset_id, values, **tool), dataset_id, **(environment or {})
        )

    def annotate(
        self,
        dataset_id: str,
        shape: str,
        corners: list[tuple[float, float]],
        tag: str,
        *,
        location: tuple[int, int, int] = (0, 0, 0),
    ) -> str:
        """Add an annotation and return its id."""
        document = self.annotations.createAnnotation(
            {
                "datasetId": dataset_id,
                "shape": shape,
                "channel": 0,
                "location": dict(zip(("XY", "Z", "Time"), location, strict=True)),
                "tags": [tag],
                "coordinates": [{"x": x, "y": y} for x, y in corners],
            }
        )
        return str(document["_id"])


def tool_parameters(kind: str, dataset_id: str, values: dict[str, Any], **tool: Any) -> dict[str, Any]:
    """Return what the platform sends for a tool (contract of the platform: annotation worker, compute)."""
    position = {"XY": 0, "Z": 0, "Time": 0}
    return {
        "datasetId": dataset_id,
        "type": "segmentation",
        "id": "00000000-0000-4000-8000-000000000000",
        "name": kind,
        "image": IMAGES[kind],
        "channel": 0,
        "assignment": position,
        "tile": position,
        "tags": ["condensate"],
        "connectTo": {"tags": [], "layer": None, "channel": None},
        "workerInterface": values,
        "scales": {},
        **tool,
    }


def finish(process: subprocess.Popen[str], began: float) -> Finished:
    """Wait for a worker's end and read what it printed as the platform does."""
    output, trouble = process.communicate(timeout=250)
    lines = []
    for line in output.split("\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            lines.append(value)
    return Finished(process.returncode, lines, output, trouble, time.monotonic() - began)
