"""Runs the workers of jobs: those that need a GPU one after the other, others two at a time."""

from __future__ import annotations

import errno
import logging
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from workbench.errors import RestError, WorkbenchError
from workbench.jobs.folders import JobFolder, remove_temporary_folders
from workbench.jobs.launch import QueueName, Worker, queue_of
from workbench.jobs.log import JobLog
from workbench.jobs.messages import HIDDEN, OutputReader
from workbench.jobs.process import WorkerProcess, kill_leftovers, platform_arguments
from workbench.jobs.registry import Registry
from workbench.store.documents import Document, Paging, json_text
from workbench.store.jobs import ENDED, JobStatus
from workbench.store.store import Store

TIME_LIMIT_S = 24 * 60 * 60.0
STOP_WITHIN_S = 11.0

_LAST_WORDS_S = 1.0
_RETRY_AFTER_S = (0.5, 30.0)  # at first, and at most
# The disk is full, or somebody else holds the database: none of it is a job's fault, and it may pass.
_PASSING = (OSError, sqlite3.Error)
_THREADS: Mapping[QueueName, int] = {"gpu": 1, "cpu": 2}
_STOPPED = "The workbench was stopped."
_UNFINISHED = "The workbench ended while this job was unfinished. Run it again."
_LOST = "The workbench lost this job. Run it again."
_TOO_LONG = "the values of its fields are too long for a command line. Shorten the longest text or list of tags."
_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


@dataclass
class _Run:
    """A job whose worker is running, is about to or has just ended."""

    cancelled: bool = False
    process: WorkerProcess | None = None
    output: OutputReader | None = None
    code: int | None = None

    def cancel(self) -> None:
        """Ask the worker to stop, now or as soon as it is there."""
        if not self.cancelled:
            self.cancelled = True
            if self.process:
                self.process.stop()


class JobRunner:
    """Takes jobs, runs them in the order of their submission and writes down how they end."""

    def __init__(self, store: Store, registry: Registry, *, api_url: str) -> None:
        """Take note of what to work with; nothing runs before `start`.

        Args:
            store: where jobs are kept; no other runner may use it.
            registry: the workers.
            api_url: the address that workers reach the workbench at, such as http://127.0.0.1:8080/api/v1.
        """
        self.registry = registry
        self._jobs = store.jobs
        self._jobs_folder = store.jobs_folder
        self._tokens = store.tokens
        self._uploads = store.uploads
        self._api_url = api_url
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        self._queues: dict[QueueName, queue.SimpleQueue[str | None]] = {name: queue.SimpleQueue() for name in _THREADS}
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()

    def start(self) -> None:
        """Clear up after a runner that was killed, go on with the jobs that waited in its queues, and begin to work."""
        oldest_first = self._jobs.list(Paging(), statuses=set(JobStatus) - ENDED)
        waiting = [job for job in oldest_first if job["status"] == JobStatus.QUEUED and job["request"] != "interface"]
        lost = [job for job in oldest_first if job not in waiting]
        if lost:
            kill_leftovers({job["_id"] for job in lost})
            self.registry.remove_containers(job["_id"] for job in lost)
        for job in lost:
            self._end(job["_id"], JobStatus.ERROR, _UNFINISHED)
        remove_temporary_folders(self._jobs_folder)
        for job in waiting:
            self._queues[job["queue"]].put(job["_id"])
        for name, count in _THREADS.items():
            for number in range(count):
                thread = threading.Thread(target=self._work, args=(name,), name=f"jobs-{name}-{number}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def submit(
        self, *, image: str, request: str, params: Mapping[str, Any], dataset_id: str | None, title: str
    ) -> Document:
        """Queue a job and return its document.

        Args:
            image: the worker.
            request: `interface` or `compute`.
            params: what the worker gets as its parameters.
            dataset_id: the dataset that the request is about, if any.
            title: what a list of jobs shows.

        Raises:
            RestError: there is no such worker, or the workbench is being stopped.
        """
        worker = self._find(image)
        parameters = json_text(params)
        name: QueueName = "cpu" if request == "interface" else queue_of(worker.labels)
        with self._lock:
            if self._stopping.is_set():
                raise RestError(503, "The workbench is being stopped. Start it again, then run the tool again.")
            job = self._jobs.add(
                image=image, request=request, title=title, dataset_id=dataset_id, queue=name, parameters=parameters
            )
            self._queues[name].put(job["_id"])
        return job

    def cancel(self, job_id: str) -> Document:
        """Cancel a job, at once if it waits; a running worker gets SIGTERM and ten seconds to stop.

        A job that has ended stays as it is.

        Raises:
            RestError: there is no such job.
        """
        with self._lock:
            return self._cancel(job_id, "Cancelled before it began.")

    def stop(self) -> None:
        """Cancel all jobs and take no more; returns when their workers have ended, after 12 seconds at most."""
        self._stopping.set()
        # Their processes first, without waiting for whoever writes: that may fail or take long.
        for run in list(self._runs.values()):
            _try(run.cancel)
        with self._lock:
            unfinished: list[Document] = []
            _try(lambda: unfinished.extend(self._jobs.list(statuses=set(JobStatus) - ENDED)))
            for job in unfinished:
                _try(partial(self._cancel, job["_id"], _STOPPED))
        for name, count in _THREADS.items():
            for _ in range(count):
                self._queues[name].put(None)
        try:
            self._wait_for_threads(STOP_WITHIN_S)
        finally:  # also when Ctrl-C ends the waiting
            for run in list(self._runs.values()):
                if run.process:
                    _try(run.process.kill)
            self._wait_for_threads(_LAST_WORDS_S)

    def _wait_for_threads(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _find(self, image: str) -> Worker:
        worker = self.registry.find(image)
        if worker is None:
            known = ", ".join(self.registry.workers()) or "none; start the workbench with --workers FOLDER"
            raise RestError(400, f"There is no worker {image!r}. The known ones are: {known}")
        return worker

    def _cancel(self, job_id: str, reason: str) -> Document:
        job = self._jobs.get(job_id)
        if job is None:
            raise RestError(400, f"Invalid job id ({job_id}).")
        run = self._runs.get(job_id)
        if run is not None:
            run.cancel()  # before it is written down, which may fail
            if job["status"] != JobStatus.CANCELLING:
                job = self._jobs.update(job_id, status=int(JobStatus.CANCELLING))
        elif job["status"] == JobStatus.QUEUED:
            job = self._end(job_id, JobStatus.CANCELLED, reason)
        elif job["status"] not in ENDED:
            job = self._end(job_id, JobStatus.ERROR, _LOST)
        return job

    def _work(self, name: QueueName) -> None:
        while (job_id := self._queues[name].get()) is not None:
            try:
                self._run(job_id)
            except Exception:  # its end could not be written down, say: the next job may do better
                _logger.exception("Job %s could not be ended", job_id)

    def _run(self, job_id: str) -> None:
        begun = self._insist(lambda: self._begin(job_id))
        if begun is None:
            return
        job, run = begun
        problem: str | None
        try:
            problem = self._run_worker(job, run)
        except Exception as error:
            if not isinstance(error, (OSError, WorkbenchError)):
                _logger.exception("Job %s could not be run", job_id)
            too_long = isinstance(error, OSError) and error.errno == errno.E2BIG
            problem = f"The worker cannot be run: {_TOO_LONG if too_long else error}"
        JobFolder(self._jobs_folder, job_id).remove_temporary()
        notes: list[str] = []
        self._insist(lambda: self._finish(job_id, run, problem, notes))

    def _begin(self, job_id: str) -> tuple[Document, _Run] | None:
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job["status"] != JobStatus.QUEUED or self._stopping.is_set():
                return None
            job = self._jobs.update(job_id, status=int(JobStatus.RUNNING))
            run = self._runs[job_id] = _Run()
            return job, run

    def _finish(self, job_id: str, run: _Run, problem: str | None, notes: list[str]) -> None:
        """Write down how a run ended; `notes` are the reasons that earlier tries have put into the log."""
        with self._lock:
            status, reason = (JobStatus.ERROR, problem) if problem else (JobStatus.SUCCESS, None)
            if run.cancelled:
                status, reason = JobStatus.CANCELLED, _STOPPED if self._stopping.is_set() else "Cancelled."
            if reason and reason not in notes:
                self._note(job_id, reason)
                notes.append(reason)
            latest = run.output.latest() if run.output else {}
            self._jobs.update(job_id, status=int(status), exitCode=run.code, **latest)
            del self._runs[job_id]

    def _insist(self, write: Callable[[], _Result]) -> _Result:
        """Try until it works; when the runner stops, once more."""
        pause, longest = _RETRY_AFTER_S
        while True:
            last = self._stopping.is_set()
            try:
                return write()
            except _PASSING as error:
                if last:
                    raise
                _logger.error("A job could not be written down; trying again in %s s: %s", pause, error)
            self._stopping.wait(pause)
            pause = min(2 * pause, longest)

    def _run_worker(self, job: Document, run: _Run) -> str | None:
        """Run a job's worker to its end, and return what there is to complain about."""
        job_id, folder = job["_id"], JobFolder(self._jobs_folder, job["_id"])
        folder.temporary.mkdir(parents=True)
        token = secrets.token_hex(24)  # never starts with a dash, which a command line takes for an option
        arguments = platform_arguments(
            api_url=self._api_url,
            token=token,
            request=job["request"],
            parameters=self._jobs.parameters(job_id),
            dataset_id=job["datasetId"],
        )
        launch = self._find(job["image"]).launch(job_id, arguments, folder.temporary)
        self._jobs.update(job_id, command=[argument.replace(token, HIDDEN) for argument in launch.argv])
        log = JobLog(folder.log)
        run.output = output = OutputReader(log, token)
        problems: list[str] = []

        def write_changes() -> None:
            try:
                output.write_changes(lambda changes: self._jobs.update(job_id, **changes))
            except _PASSING as error:  # the worker is well, and there is a next time
                _logger.warning("The progress of job %s could not be written down: %s", job_id, error)

        self._tokens.add(token)
        try:
            process = WorkerProcess(launch, job_id, folder.temporary, output)
            try:
                process.limit_time(TIME_LIMIT_S, lambda: problems.append("It ran for 24 hours, the longest allowed."))
                run.process = process
                if run.cancelled:  # looked at after the line above, as `_Run.cancel` does it the other way round
                    process.stop()
                run.code = process.wait(write_changes)
            except BaseException:
                process.kill()
                raise
        finally:
            self._tokens.discard(token)
            self._uploads.forget_begun_with(token)
        try:
            log.finish()
        except OSError as error:
            _logger.warning("The log of job %s could not be shortened: %s", job_id, error)
        if run.code:
            problems.append(f"The worker ended with exit code {run.code}.")
        return " ".join(problems) or None

    def _end(self, job_id: str, status: JobStatus, reason: str) -> Document:
        """Write down the end of a job and, in its log, the reason."""
        self._note(job_id, reason)
        return self._jobs.update(job_id, status=int(status))

    def _note(self, job_id: str, text: str) -> None:
        folder = JobFolder(self._jobs_folder, job_id)
        try:
            folder.create()
            JobLog(folder.log).note(text)
        except OSError as error:  # the end itself is more important
            _logger.error("The log of job %s could not be written: %s", job_id, error)


def _try(action: Callable[[], object]) -> None:
    """Do what must not keep the rest from happening."""
    try:
        action()
    except Exception:
        _logger.exception("Not everything could be stopped or written down")
