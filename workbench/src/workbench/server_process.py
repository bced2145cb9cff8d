"""The workbench driven from outside: its server and its import, as processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.server.address import RunningServer, read_address

_COMMAND = [sys.executable, "-m", "workbench"]
_START_WITHIN_S = 30.0
_END_WITHIN_S = 20.0


@contextmanager
def started_server(data_folder: Path, *, port: int = 0, workers: Sequence[Path] = ()) -> Iterator[RunningServer]:
    """Run `workbench serve` while the block runs; what it complains about goes to stderr.

    Args:
        data_folder: what is served.
        port: port to listen at; 0 for a free one.
        workers: folders with workers.yaml files; without any, there are only the container images of a Docker engine.

    Raises:
        WorkbenchError: the server did not start, or did not end as it should; it has said why on stderr.
    """
    options = [argument for folder in workers for argument in ("--workers", str(folder))] or ["--containers-only"]
    process = subprocess.Popen(
        [*_COMMAND, "serve", "--data", str(data_folder), "--port", str(port), *options], stdout=subprocess.DEVNULL
    )
    try:
        yield _wait_until_ready(process, data_folder)
    finally:
        code = _end(process)
    if code:
        raise WorkbenchError(f"The workbench ended with exit code {code}; what it printed says why.")


def import_files(data_folder: Path, files: Sequence[Path], *, name: str) -> str:
    """Run `workbench import`, whose progress goes to stderr, and return the dataset's identifier.

    Raises:
        WorkbenchError: the files could not be imported; the command has said why on stderr.
    """
    finished = subprocess.run(
        [*_COMMAND, "import", *map(str, files), "--name", name, "--data", str(data_folder)],
        check=False,
        stdout=subprocess.PIPE,
    )
    if finished.returncode:
        raise WorkbenchError(f"{name} could not be imported; what the import printed says why.")
    return finished.stdout.partition(b"\t")[0].decode()


def _wait_until_ready(process: subprocess.Popen[bytes], data_folder: Path) -> RunningServer:
    deadline = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        server = read_address(data_folder)
        if server is not None and server.pid == process.pid:
            return server
        time.sleep(0.05)
    raise WorkbenchError("The workbench did not start; what it printed says why.")


def _end(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
