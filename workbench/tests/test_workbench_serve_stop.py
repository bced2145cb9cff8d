"""`workbench serve` that is stopped while a worker does not want to end."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
from workbench_test_server import Bench, Served, add_dataset, add_worker, is_alive

from workbench.errors import WorkbenchError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def test_a_server_ends_within_fifteen_seconds_whatever_a_worker_does(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(os.getpid(), flush=True)\ntime.sleep(60)"
    image = add_worker(tmp_path / "workers", "stubborn", code)
    dataset_id = add_dataset(tmp_path / "data")
    server = Served(tmp_path)
    request.addfinalizer(server.kill)
    bench = Bench(server.client, tmp_path / "data", dataset_id)
    job = bench.wait_until(bench.submit(image), lambda job: bool(job["log"][0]))
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(WorkbenchError, match="being stopped"):
        bench.submit(image)
    exit_code, seconds, _, stderr = server.end(signal.SIGTERM)
    assert (exit_code, stderr) == (0, "Stopping; jobs get ten seconds to end.\n") and 9 < seconds < 14
    assert not is_alive(int(job["log"][0]))
