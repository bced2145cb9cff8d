"""Every error that this package raises on purpose; the text of each says what to do next."""

from __future__ import annotations

from collections.abc import Sequence


class ExternalModuleError(Exception):
    """Base of all errors below, so that a caller can catch them together."""


class InvalidModuleError(ExternalModuleError, ValueError):
    """A module's folder is incomplete, or a file in it says something that cannot be."""


class PipelineError(ExternalModuleError, ValueError):
    """A pipeline's file says something that cannot be.

    Attributes:
        problems: each in one line, with the file's name and the number of its line.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ModuleEnvironmentError(ExternalModuleError):
    """The environment of a module could not be made."""


class WorkerError(ExternalModuleError):
    """A worker failed. Its text holds everything that is known, for hosts that show nothing but the text.

    Attributes:
        worker_traceback: where in the worker's own code it happened; empty where the worker could not tell.
        log_tail: the last lines of the worker's log.
    """

    def __init__(self, message: str, worker_traceback: str = "", log_tail: str = "") -> None:
        super().__init__(message, worker_traceback, log_tail)
        self.worker_traceback = worker_traceback
        self.log_tail = log_tail

    def __str__(self) -> str:
        parts = [str(self.args[0])]
        if self.worker_traceback:
            parts.append(f"In the worker:\n{self.worker_traceback.rstrip()}")
        if self.log_tail:
            parts.append(f"Last lines of its log:\n{self.log_tail.rstrip()}")
        return "\n\n".join(parts)


class WorkerTimeoutError(WorkerError):
    """A worker took longer than it was given, and was ended."""


class CallAbortedError(ExternalModuleError):
    """A call was given up because the host asked for it."""
