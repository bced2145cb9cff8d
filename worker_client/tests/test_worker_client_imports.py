"""An interface request is quick: nothing heavy is loaded before it is needed. All of it in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from worker_client_platform import Platform
from worker_client_processes import IMAGE, run, write_worker

import worker_client

HEAVY = {"torch", "numpy", "shapely", "rasterio", "scipy", "matplotlib"}


def loaded_by(code: str) -> set[str]:
    """Names of the modules that are there after some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_loads_nothing_heavy() -> None:
    loaded = loaded_by("import worker_client; worker_client.WorkerClient")
    assert "worker_client.worker_client" in loaded
    assert not loaded & HEAVY


def test_run_worker_comes_without_the_client() -> None:
    assert not loaded_by("from worker_client import Progress, WorkerError, run_worker") & {*HEAVY, "requests"}


def test_every_public_name_can_be_used() -> None:
    for name in worker_client.__all__:
        assert getattr(worker_client, name) is not None


def test_an_interface_request_is_quick(tmp_path: Path) -> None:
    body = """
    from annotation_client.workers import UPennContrastWorkerPreviewClient
    from worker_client import WorkerClient
    def interface(image, apiUrl, token):
        fields = {"Model": {"type": "select", "items": ["pretrained"]}}
        UPennContrastWorkerPreviewClient(apiUrl=apiUrl, token=token).setWorkerImageInterface(image, fields)
        if loaded := {"torch", "numpy", "shapely", "rasterio"} & set(sys.modules):
            raise WorkerError(f"loaded {loaded}")
    compute = None
    """
    script = write_worker(tmp_path, body)
    seconds = []
    with Platform() as platform:
        for _ in range(3):
            before = os.times()
            code, output = run(script, request="interface", url=platform.url)
            after = os.times()
            # Time on a processor, because the wall clock also counts what else the machine does.
            seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
            assert (code, output.log) == (0, "")
        assert platform.interfaces == {IMAGE: {"Model": {"type": "select", "items": ["pretrained"]}}}
    assert min(seconds) < 0.5
