"""Jobs that are cancelled: waiting, running and willing, and such that must be killed."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from workbench_test_server import add_worker, is_alive, serve

from workbench.jobs import process
from workbench.store.jobs import JobStatus
from workbench.store.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

READY = "print('ready', flush=True)\n"


def has_begun(job: dict[str, object]) -> bool:
    return "ready" in str(job["log"])


def test_a_waiting_job_is_cancelled_at_once(tmp_path: Path) -> None:
    image = add_worker(tmp_path / "workers", "sleep", READY + "time.sleep(60)", queue="gpu")
    with serve(tmp_path) as bench:
        running, waiting, third = (bench.submit(image) for _ in range(3))
        bench.wait_until(running, has_begun)
        job = bench.client.put(f"job/{waiting}/cancel")
        assert job["status"] == JobStatus.CANCELLED
        assert bench.log(waiting) == "workbench: Cancelled before it began.\n"
        assert bench.client.put(f"job/{running}/cancel")["status"] == JobStatus.CANCELLING
        assert bench.wait(running)["status"] == JobStatus.CANCELLED
        bench.wait_until(third, has_begun)
        assert bench.job(waiting)["status"] == JobStatus.CANCELLED and "ready" not in bench.log(waiting)


def test_a_willing_worker_cleans_up(tmp_path: Path) -> None:
    code = """
import urllib.request
def stop(number, frame):
    print("cleaning", urllib.request.urlopen(f"{url}/system/version?token={token}").status, flush=True)
    time.sleep(0.5)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
sleep = "import signal, time; signal.signal(15, print); print('ready', flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", sleep])
time.sleep(60)
"""
    image = add_worker(tmp_path / "workers", "willing", code)
    with serve(tmp_path) as bench:
        job_id = bench.submit(image)
        bench.wait_until(job_id, has_begun)
        start = time.monotonic()
        assert bench.client.put(f"job/{job_id}/cancel")["status"] == JobStatus.CANCELLING
        assert bench.client.put(f"job/{job_id}/cancel")["status"] == JobStatus.CANCELLING
        assert bench.job(job_id)["status"] == JobStatus.CANCELLING
        job = bench.wait(job_id)
        assert 0.4 < time.monotonic() - start < 5
        assert (job["status"], job["exitCode"]) == (JobStatus.CANCELLED, 0)
        assert job["log"] == ["ready\ncleaning 200\nworkbench: Cancelled.\n"]


def test_a_stubborn_worker_is_killed_with_its_children_after_ten_seconds(tmp_path: Path) -> None:
    code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
children = [subprocess.Popen(["sleep", "60"], start_new_session=own) for own in (False, True)]
print(os.getpid(), *[child.pid for child in children], 'ready', flush=True)
time.sleep(60)
"""
    image = add_worker(tmp_path / "workers", "stubborn", code)
    assert process.KILL_AFTER_S == 10
    with serve(tmp_path) as bench:
        job_id = bench.submit(image)
        pids = [int(text) for text in bench.wait_until(job_id, has_begun)["log"][0].split()[:-1]]
        start = time.monotonic()
        bench.client.put(f"job/{job_id}/cancel")
        job = bench.wait(job_id)
        assert 9.9 < time.monotonic() - start < 11.5
        assert (job["status"], job["exitCode"]) == (JobStatus.CANCELLED, 137)
        assert len(pids) == 3 and not any(map(is_alive, pids))
        assert [path.name for path in (bench.data / "jobs" / job_id).iterdir()] == ["log.txt"]


def test_the_end_of_the_server_cancels_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KILL_AFTER_S", 1.0)
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    images = [
        add_worker(tmp_path / "workers", "willing", READY + "time.sleep(60)"),
        add_worker(tmp_path / "workers", "stubborn", ignore + READY + "time.sleep(60)", queue="gpu"),
    ]
    with serve(tmp_path) as bench:
        jobs = [bench.submit(image) for image in images]
        waiting = bench.submit(images[1])
        for job_id in jobs:
            bench.wait_until(job_id, has_begun)
        start = time.monotonic()
    assert 0.9 < time.monotonic() - start < 3
    with closing(Store(bench.data)) as store:
        documents = [store.jobs.get(job_id) for job_id in (*jobs, waiting)]
    assert [document and (document["status"], document["exitCode"]) for document in documents] == [
        (JobStatus.CANCELLED, 143),
        (JobStatus.CANCELLED, 137),
        (JobStatus.CANCELLED, None),
    ]
    for job_id in (*jobs, waiting):
        assert (
            (bench.data / "jobs" / job_id / "log.txt").read_text().endswith("workbench: The workbench was stopped.\n")
        )
    assert not list((bench.data / "jobs").glob("*/tmp"))
