"""Jobs while the database cannot be written: workers go on or are stopped all the same, and their end is told."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from workbench_test_server import add_worker, is_alive

from workbench.jobs import runner as runner_module
from workbench.jobs.registry import Registry
from workbench.jobs.runner import JobRunner
from workbench.store.documents import Document
from workbench.store.jobs import JobStatus
from workbench.store.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class Bench:
    """A runner whose writes of jobs can be made to fail."""

    def __init__(self, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.store = store
        self.fails: Callable[[dict[str, Any]], bool] = lambda changes: False
        self.failed: list[dict[str, Any]] = []
        self._update = store.jobs.update
        monkeypatch.setattr(store.jobs, "update", self.update)
        monkeypatch.setattr(runner_module, "_RETRY_AFTER_S", (0.05, 0.1))

    def update(self, job_id: str, **changes: Any) -> Document:
        if self.fails(changes):
            self.failed.append(changes)
            raise sqlite3.OperationalError("database or disk is full")
        return self._update(job_id, **changes)

    def start(self, code: str, queue: str = "cpu", count: int = 1) -> tuple[JobRunner, list[str]]:
        """Start a runner, and jobs that run some code."""
        image = add_worker(self.folder / "workers", "worker", code, queue=queue)
        self.runner = JobRunner(self.store, Registry([self.folder / "workers"]), api_url="http://127.0.0.1:9")
        self.runner.start()
        jobs = [
            self.runner.submit(image=image, request="compute", params={}, dataset_id=None, title="t")
            for _ in range(count)
        ]
        return self.runner, [job["_id"] for job in jobs]

    def job(self, job_id: str) -> Document:
        job = self.store.jobs.get(job_id)
        assert job is not None
        return job

    def log(self, job_id: str) -> str:
        path = self.store.jobs_folder / job_id / "log.txt"
        return path.read_text() if path.exists() else ""

    def wait(self, is_there: Callable[[], Any]) -> None:
        end = time.monotonic() + 15
        while not is_there():
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with closing(Store(tmp_path / "data")) as store:
        made = Bench(tmp_path, store, monkeypatch)
        try:
            yield made
        finally:
            made.fails = lambda changes: False
            made.runner.stop()


PROGRESS = """
print(json.dumps({"progress": 0.5, "title": "half"}), flush=True)
print(json.dumps({"warning": "look", "title": "w"}), flush=True)
"""
SLEEP = "print('pid', os.getpid(), flush=True)\ntime.sleep(60)\n"


def pid_of(bench: Bench, job_id: str) -> int:
    bench.wait(lambda: "\n" in bench.log(job_id))
    return int(bench.log(job_id).split()[1])


def test_progress_that_cannot_be_written_is_written_later(bench: Bench) -> None:
    bench.fails = lambda changes: "progress" in changes and "status" not in changes and len(bench.failed) < 2
    _, (job_id,) = bench.start(PROGRESS + "time.sleep(2.5)\n")
    bench.wait(lambda: bench.job(job_id)["progress"])
    job = bench.job(job_id)
    assert len(bench.failed) == 2
    assert (job["status"], job["progress"]["title"], job["messages"][0]["title"]) == (JobStatus.RUNNING, "half", "w")
    bench.wait(lambda: bench.job(job_id)["status"] == JobStatus.SUCCESS)


def test_the_end_is_written_down_as_soon_as_it_can_be(bench: Bench) -> None:
    bench.fails = lambda changes: "progress" in changes
    _, (job_id,) = bench.start(PROGRESS + "sys.exit(3)\n")
    bench.wait(lambda: sum("exitCode" in changes for changes in bench.failed) >= 3)
    assert bench.job(job_id)["status"] == JobStatus.RUNNING
    bench.fails = lambda changes: False
    bench.wait(lambda: bench.job(job_id)["status"] == JobStatus.ERROR)
    job = bench.job(job_id)
    assert (job["exitCode"], job["progress"]["title"], job["messages"][0]["title"]) == (3, "half", "w")
    assert bench.log(job_id).count("workbench: ") == 1


def test_a_job_begins_as_soon_as_that_can_be_written(bench: Bench) -> None:
    bench.fails = lambda changes: changes.get("status") == JobStatus.RUNNING and len(bench.failed) < 3
    _, (job_id,) = bench.start("pass")
    bench.wait(lambda: bench.job(job_id)["status"] == JobStatus.SUCCESS)
    assert len(bench.failed) == 3


def test_a_cancelled_worker_is_stopped_though_that_cannot_be_written(bench: Bench) -> None:
    runner, (job_id,) = bench.start(SLEEP)
    pid = pid_of(bench, job_id)
    bench.fails = lambda changes: changes.get("status") == JobStatus.CANCELLING
    with pytest.raises(sqlite3.OperationalError):
        runner.cancel(job_id)
    bench.wait(lambda: bench.job(job_id)["status"] == JobStatus.CANCELLED)
    assert not is_alive(pid)


@pytest.mark.parametrize("what", ["list", "update"])
def test_all_workers_are_stopped_though_nothing_can_be_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    runner, jobs = bench.start(SLEEP, count=3)
    pids = [pid_of(bench, job_id) for job_id in jobs[:2]]

    def fail(*_: Any, **__: Any) -> Any:
        raise sqlite3.OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(bench.store.jobs, what, fail)
        began = time.monotonic()
        runner.stop()
        assert time.monotonic() - began < 5
    assert not any(map(is_alive, pids))
    assert "pid" not in bench.log(jobs[2])


def test_a_lost_job_can_be_cancelled(bench: Bench) -> None:
    runner, (job_id,) = bench.start("pass")
    bench.wait(lambda: bench.job(job_id)["status"] == JobStatus.SUCCESS)
    assert runner.cancel(job_id)["status"] == JobStatus.SUCCESS
    for status in (JobStatus.RUNNING, JobStatus.CANCELLING):
        bench.update(job_id, status=int(status))
        assert runner.cancel(job_id)["status"] == JobStatus.ERROR
    assert bench.log(job_id).endswith("workbench: The workbench lost this job. Run it again.\n")
