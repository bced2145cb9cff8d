"""A server in this process with workers that are small programs, for the tests of jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil

from workbench.command_line.client import Client
from workbench.server.running import running_server
from workbench.store.jobs import ENDED
from workbench.store.store import Store

TOKEN = "the-token-of-the-tests"


def add_worker(folder: Path, name: str, code: str, *, queue: str = "cpu", **environment: str) -> str:
    """Write a worker that runs some code, with `request`, `parameters` and `token` read, and return its image."""
    folder.mkdir(parents=True, exist_ok=True)
    prelude = (
        "import json, os, signal, subprocess, sys, time\n"
        "given = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "request, token, url = given['--request'], given['--token'], given['--apiUrl']\n"
        "parameters = json.loads(given['--parameters'])\n"
    )
    (folder / f"{name}.py").write_text(prelude + code, encoding="utf-8")
    image = f"test/{name}:latest"
    entry = {
        "command": ["{python}", f"{name}.py"],
        "environment": environment,
        "labels": {
            "isUPennContrastWorker": "",
            "isAnnotationWorker": "",
            "isGPUWorker": "true" if queue == "gpu" else "false",
            "interfaceName": name.title(),
        },
    }
    with open(folder / "workers.yaml", "a", encoding="utf-8") as file:
        file.write(f"{json.dumps(image)}: {json.dumps(entry)}\n")  # JSON is YAML
    return image


def add_dataset(data: Path, name: str = "cells") -> str:
    """Make a dataset without images, and return its identifier."""
    with closing(Store(data)) as store:
        public = store.folders.children(store.users.user["_id"], parent_type="user", name="Public")[0]
        folder = store.folders.create(public["_id"], name, meta={"subtype": "contrastDataset"})
    return str(folder["_id"])


def is_alive(pid: int) -> bool:
    """Say whether a process is there and not merely unburied."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Bench:
    """A client that submits jobs and waits for them."""

    def __init__(self, client: Client, data: Path, dataset_id: str) -> None:
        self.client = client
        self.data = data
        self.dataset_id = dataset_id

    def submit(self, image: str, **parameters: object) -> str:
        """Submit a compute request, and return the job's identifier."""
        body = {"image": image, **parameters}
        (job,) = self.client.post("upenn_annotation/compute", body, datasetId=self.dataset_id)
        return str(job["_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job with its log."""
        job: dict[str, Any] = self.client.get(f"job/{job_id}")
        return job

    def log(self, job_id: str) -> str:
        """Return what a job's log holds."""
        (text,) = self.job(job_id)["log"]
        return str(text)

    def wait(self, job_id: str, *, seconds: float = 15) -> dict[str, Any]:
        """Wait until a job has ended."""
        return self.wait_until(job_id, lambda job: job["status"] in ENDED, seconds=seconds)

    def wait_until(
        self, job_id: str, is_there: Callable[[dict[str, Any]], bool], *, seconds: float = 15
    ) -> dict[str, Any]:
        """Wait until a job is as wanted."""
        end = time.monotonic() + seconds
        while not is_there(job := self.job(job_id)):
            assert time.monotonic() < end, job
            time.sleep(0.02)
        return job

    def run(self, image: str, **parameters: object) -> dict[str, Any]:
        """Run a job to its end."""
        return self.wait(self.submit(image, **parameters))


@contextmanager
def serve(folder: Path) -> Iterator[Bench]:
    """Serve `folder/data` with the workers of `folder/workers`."""
    data = folder / "data"
    dataset_id = add_dataset(data)
    with running_server(data, host="127.0.0.1", port=0, token=TOKEN, workers=[folder / "workers"]) as server:
        yield Bench(Client(server.url, TOKEN), data, dataset_id)


class Served:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.data = folder / "data"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workbench", "serve", "--data", str(self.data), "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, **environment},
        )
        assert self.process.stdout
        self.address = self.process.stdout.readline().strip()
        self.about = self.process.stdout.readline()
        self.url, _, self.token = self.address.partition("/#token=")
        self.client = Client(self.url, self.token)

    def end(self, number: int) -> tuple[int, float, str, str]:
        """Send a signal; return the exit code, the seconds it took, and what else was printed."""
        start = time.monotonic()
        self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=20)
        return self.process.returncode, time.monotonic() - start, stdout, stderr

    def kill(self) -> None:
        """Kill it if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
