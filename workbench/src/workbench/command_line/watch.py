"""Waits for a job and shows on stderr what its worker says."""

from __future__ import annotations

import sys
import time
from typing import Any

from workbench.command_line.client import Client
from workbench.store.jobs import ENDED, JobStatus

CANCELLED_EXIT_CODE = 130

_FIRST_POLL_S = 0.02
_LAST_POLL_S = 0.25
_MENTIONED_WAIT_S = 1.0
_SECONDS_BETWEEN_LINES = 10.0
_SHORTEST_ESTIMATE_S = 1.0
_LINES_OF_LOG = 20
_WAITING = "waiting for other jobs"


def wait_for_job(client: Client, job: dict[str, Any], *, progress: bool = True) -> int:
    """Wait until a job has ended, and return its exit code; Ctrl-C cancels it and waits for its end.

    Args:
        client: of the server that has the job.
        job: its document.
        progress: show how far it is.

    Raises:
        KeyboardInterrupt: when the job that Ctrl-C cancelled has ended.
    """
    display = _Display(progress)
    try:
        job = _follow(client, job, display)
    except KeyboardInterrupt:
        display.say("Cancelling; the tool gets ten seconds to stop")
        client.put(f"job/{job['_id']}/cancel")
        _follow(client, job, display)
        raise
    if job["status"] == JobStatus.SUCCESS:
        return 0
    if job["status"] == JobStatus.CANCELLED:
        display.say("The job was cancelled")
        return CANCELLED_EXIT_CODE
    display.say(f"The tool failed. The end of its log:\n{_last_lines(client, job)}")
    return job["exitCode"] or 1


def _follow(client: Client, job: dict[str, Any], display: _Display) -> dict[str, Any]:
    delay = _FIRST_POLL_S
    while True:
        job = client.get(f"job/{job['_id']}", log="false")
        display.show(job)
        if job["status"] in ENDED:
            return job
        time.sleep(delay)
        delay = min(2 * delay, _LAST_POLL_S)


def _last_lines(client: Client, job: dict[str, Any]) -> str:
    (log,) = client.get(f"job/{job['_id']}")["log"]
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("{")]
    return "\n".join(lines[-_LINES_OF_LOG:])


class _Display:
    """A line that is written anew in a terminal, and elsewhere a line now and then."""

    def __init__(self, shows_progress: bool) -> None:
        self._shows_progress = shows_progress
        self._in_terminal = sys.stderr.isatty()
        self._messages: list[object] = []
        self._line = ""
        self._created_at = time.monotonic()
        self._printed_at = float("-inf")
        self._first: tuple[float, float] | None = None  # time and fraction of the first progress, and of the last
        self._last = (0.0, 0.0)

    def show(self, job: dict[str, Any]) -> None:
        """Show what is new in a job's document."""
        for message in job["messages"]:
            if message not in self._messages:
                self._messages.append(message)
                self.say(_message_text(message))
        if not self._shows_progress:
            return
        if job["status"] in ENDED:
            self._clear()
        elif job["status"] == JobStatus.QUEUED:
            if time.monotonic() - self._created_at > _MENTIONED_WAIT_S:
                self._write(_WAITING)
        elif job["progress"]:
            self._write(self._progress_text(job["progress"]))

    def say(self, text: str) -> None:
        """Print a text that stays."""
        self._clear()
        print(text, file=sys.stderr, flush=True)

    def _progress_text(self, progress: dict[str, Any]) -> str:
        fraction = min(max(float(progress["progress"]), 0.0), 1.0)
        left = self._time_left(fraction)
        info = str(progress.get("info") or "")
        # A tool that knows how long it will take says so itself.
        estimate = "" if left is None or " left" in info else f"{_duration(left)} left"
        return "  ".join(str(part) for part in (f"{fraction:4.0%}", progress.get("title"), info, estimate) if part)

    def _time_left(self, fraction: float) -> float | None:
        """Return the seconds that are left at the speed so far, or None before anything can be said."""
        now = time.monotonic()
        if self._first is None or fraction < self._last[1]:
            self._first = self._last = (now, fraction)
        elif fraction > self._last[1]:
            self._last = (now, fraction)
        elapsed, done = self._last[0] - self._first[0], self._last[1] - self._first[1]
        if elapsed < _SHORTEST_ESTIMATE_S or not done:
            return None
        return max(0.0, elapsed / done * (1 - fraction) - (now - self._last[0]))

    def _write(self, line: str) -> None:
        if line == self._line:
            return
        if self._line == _WAITING:
            self._line = ""  # what comes after it is shown without delay
        now = time.monotonic()
        if self._in_terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif not self._line or now - self._printed_at >= _SECONDS_BETWEEN_LINES:
            self._printed_at = now
            print(line, file=sys.stderr, flush=True)
        self._line = line

    def _clear(self) -> None:
        if self._in_terminal and self._line:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._line = ""


def _message_text(message: dict[str, Any]) -> str:
    kind = "error" if message.get("error") else "warning"
    title, info = message.get("title"), message.get("info")
    heading = str(title) if title else kind.capitalize()
    return ": ".join(str(part) for part in (heading, message[kind], info) if part)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
