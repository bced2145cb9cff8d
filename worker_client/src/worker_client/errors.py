"""What ends a worker on purpose."""

from __future__ import annotations


class WorkerError(Exception):
    """A message for the user: what is wrong, and what to do about it.

    Args:
        message: one or two sentences; shown as the text of the error.
        title: a few words above the text.
        info: details below it.
    """

    def __init__(self, message: str, *, title: str = "The tool cannot continue", info: str | None = None) -> None:
        super().__init__(message)
        self.title = title
        self.info = info


class Stopped(BaseException):
    """The worker was asked to stop.

    It is no `Exception`, so that code that carries on after errors does not carry on after this. Clean up with `with`
    or `finally` and let it pass.
    """
