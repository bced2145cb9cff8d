"""Workers started as the platform starts them, and what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

TOKEN = "a1b2c3d4e5f6a1b2c3d4e5f6"
DATASET = "5f0000000000000000000001"
NOWHERE = "http://127.0.0.1:9/api/v1"
IMAGE = "annotations/trial:latest"

_WORKER = """
import sys, time
from worker_client import Progress, WorkerError, run_worker

def interface(image, apiUrl, token):
    print("interface of", image)

{body}

if __name__ == "__main__":
    sys.exit(run_worker(interface=interface, compute=compute, description="A trial worker."))
"""


_LITTERING = """
import tempfile
without_litter = compute
def compute(*arguments):
    tempfile.mkstemp()
    without_litter(*arguments)
"""


class Output(list[dict[str, Any]]):
    """The messages in a job's log, found as the platform finds them; `log` is all of it."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self.log = log
        for line in log.split("\n"):
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                self.append(message)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The errors, warnings or progress messages."""
        return [message for message in self if kind in message]


def write_worker(folder: Path, body: str) -> Path:
    """Write a worker with the given definition of `compute`, and of `interface` if it is another one."""
    path = folder / "entrypoint.py"
    path.write_text(_WORKER.format(body=textwrap.dedent(body)))
    return path


def start(
    script: Path,
    *,
    request: str = "compute",
    parameters: Any = None,
    url: str = "http://127.0.0.1:9/api/v1",
    **options: Any,
) -> subprocess.Popen[str]:
    """Start a worker; its output and its errors go into one pipe, as into a job's log."""
    text = json.dumps({"image": IMAGE} if parameters is None else parameters)
    command = [
        sys.executable,
        str(script),
        "--apiUrl",
        url,
        "--token",
        TOKEN,
        "--request",
        request,
        "--parameters",
        text,
    ]
    if request != "interface":
        command += ["--datasetId", DATASET]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def run(script: Path, **options: Any) -> tuple[int, Output]:
    """Run a worker to its end and return its exit code and messages."""
    with start(script, **options) as process:
        log, _ = process.communicate(timeout=60)
    return process.returncode, Output(log)


def wait_for(process: subprocess.Popen[str], line: str) -> str:
    """Read the output up to the line that starts with the given text, and return that line."""
    assert process.stdout is not None
    for text in process.stdout:
        if text.startswith(line):
            return text.strip()
    raise AssertionError(f"{line!r} was never printed")


def begin(folder: Path, body: str, *, request: str = "compute") -> subprocess.Popen[str]:
    """Start a worker that leaves a file in its folder for temporary files, and wait until it is ready."""
    scratch = folder / "scratch"
    scratch.mkdir()
    process = start(
        write_worker(folder, textwrap.dedent(body) + _LITTERING),
        request=request,
        env={**os.environ, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    wait_for(process, "READY")
    return process


def check_stopped(process: subprocess.Popen[str], folder: Path, *, code: int = 143) -> Output:
    """Wait until a worker that `begin` started has ended, and check that it ended as a stopped one does."""
    with process:
        try:
            output = Output(process.communicate(timeout=10)[0])
        finally:
            process.kill()
    assert process.returncode == code, output.log
    assert list((folder / "scratch").iterdir()) == []
    [warning] = output.of_kind("warning")
    assert "stopped" in warning["warning"]
    assert "kept" in warning["warning"]
    assert {**warning, "warning": ""} == {"warning": "", "title": "Stopped", "info": None, "type": "warning"}
    assert output.of_kind("error") == []
    return output
