"""Labels that are read from a Dockerfile."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.jobs.dockerfile import read_labels
from workbench.jobs.registry import read_workers

DOCKERFILE = r"""
ARG BASE=debian
FROM ${BASE} AS build
LABEL isUPennContrastWorkerBase=""
FROM debian
# LABEL isPropertyWorker=""
LABEL isUPennContrastWorker="" \
      # in the middle of it
      interfaceName="Find \"small\" things, a=b" \
      isGPUWorker=true
RUN echo LABEL
label com.nvidia.volumes.needed='nvidia_driver'
"""
LABELS = {
    "isUPennContrastWorker": "",
    "interfaceName": 'Find "small" things, a=b',
    "isGPUWorker": "true",
    "com.nvidia.volumes.needed": "nvidia_driver",
}


def test_labels_of_the_last_stage() -> None:
    assert read_labels(DOCKERFILE) == LABELS


@pytest.mark.parametrize("line", ["LABEL name value", 'LABEL name="$VALUE"', 'LABEL ="value"', 'LABEL name="value'])
def test_labels_that_are_written_otherwise_are_refused(line: str) -> None:
    with pytest.raises(ValueError):
        read_labels(f"FROM debian\n{line}\n")


def test_a_local_worker_has_the_labels_of_its_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "find").mkdir()
    (tmp_path / "find" / "Dockerfile").write_text(DOCKERFILE)
    path = tmp_path / "workers.yaml"
    path.write_text('test/find:latest: {command: ["true"], dockerfile: find/Dockerfile}\n')
    (worker,) = read_workers(path)
    assert worker.labels == LABELS


def test_a_dockerfile_of_no_worker_is_named(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\n")
    path = tmp_path / "workers.yaml"
    path.write_text('test/find:latest: {command: ["true"], dockerfile: Dockerfile}\n')
    with pytest.raises(WorkbenchError, match="Dockerfile: isUPennContrastWorker is missing"):
        read_workers(path)
