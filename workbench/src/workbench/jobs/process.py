"""One run of a worker: started, listened to and stopped as the platform does it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import psutil

from workbench.jobs.launch import Launch
from workbench.jobs.messages import OutputReader

KILL_AFTER_S = 10.0
JOB_VARIABLE = "WORKBENCH_JOB"

_TICK_S = 0.5
_LAST_OUTPUT_S = 2.0
_KILL_COMMAND_S = 5.0
_SIGNALLED = 128  # added to a signal's number by shells and by Docker
_SECRET = re.compile(r"token(?!iz)|secret|passw|credential|api_?key", re.IGNORECASE)


def platform_arguments(
    *, api_url: str, token: str, request: str, parameters: str, dataset_id: str | None
) -> tuple[str, ...]:
    """Return the arguments that the platform gives to a worker, in its order."""
    arguments = ("--apiUrl", api_url, "--token", token, "--request", request, "--parameters", parameters)
    return arguments if dataset_id is None else (*arguments, "--datasetId", dataset_id)


class WorkerProcess:
    """A running worker with a process group of its own; nothing of it is left when `wait` returns."""

    def __init__(self, launch: Launch, job_id: str, folder: Path, output: OutputReader) -> None:
        """Start it.

        Args:
            launch: its command.
            job_id: marks its processes, so that they are found again if this process is killed.
            folder: its working folder.
            output: gets what it prints, stdout and stderr in one.

        Raises:
            OSError: the program cannot be started.
        """
        self._kill_command = launch.kill_command
        self._job_id = job_id
        self._lock = threading.Lock()
        self._ended = False
        self._timers: list[threading.Timer] = []
        self._process = subprocess.Popen(
            launch.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**_public_environment(os.environ), **launch.environment, JOB_VARIABLE: job_id},
            bufsize=0,
            **_own_group(),
        )
        self._reader = threading.Thread(target=output.read_all, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def wait(self, on_tick: Callable[[], None]) -> int:
        """Wait until it has ended, and return its exit code as a shell gives it.

        Args:
            on_tick: is called about twice a second.
        """
        while self._reader.is_alive() and self._process.poll() is None:
            self._reader.join(_TICK_S)
            on_tick()
        code = self._process.wait()
        with self._lock:
            self._ended = True
            for timer in self._timers:
                timer.cancel()
        self._kill_all()  # what a container does when its first process ends
        self._reader.join(_LAST_OUTPUT_S)
        return code if code >= 0 else _SIGNALLED - code

    def stop(self) -> None:
        """Ask it to stop with SIGTERM; what is left of it ten seconds later is killed."""
        with self._lock:
            if not self._ended:
                self._process.terminate()
                self._start_timer(KILL_AFTER_S, self.kill)

    def limit_time(self, seconds: float, on_limit: Callable[[], None]) -> None:
        """Stop it when it has run for too long, after calling `on_limit`."""

        def stop() -> None:
            on_limit()
            self.stop()

        with self._lock:
            self._start_timer(seconds, stop)

    def kill(self) -> None:
        """Kill it and everything that it started."""
        with self._lock:
            if not self._ended:
                self._kill_all()

    def _start_timer(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def _kill_all(self) -> None:
        if self._kill_command:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    self._kill_command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=_KILL_COMMAND_S,
                )
        if sys.platform == "win32":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        kill_leftovers({self._job_id})  # what has left the group


def kill_leftovers(job_ids: Container[str]) -> None:
    """Kill every process of jobs, wherever it went.

    They are known by a variable that all processes of a job inherit, so that no other process is ever meant.
    """
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            if process.environ().get(JOB_VARIABLE) in job_ids:
                process.kill()


def _public_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what lets one in somewhere: a worker has its own token and needs no other."""
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


def _own_group() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
