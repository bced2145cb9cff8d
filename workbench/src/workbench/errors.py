"""Every error that this package raises on purpose; the text of each says what to do next."""

from __future__ import annotations


class WorkbenchError(Exception):
    """Base of all errors below, so that a caller can catch them together."""


class DataFolderError(WorkbenchError):
    """The data folder cannot be used: it is busy, unreadable or of a newer workbench."""


class InvalidImageError(WorkbenchError, ValueError):
    """Image files cannot be imported as they are."""


class RestError(WorkbenchError):
    """A request cannot be answered; it becomes a JSON answer of this status.

    Args:
        status: the HTTP status.
        message: one sentence for the user.
        type: the platform's kind of error: ``rest``, ``validation``, ``access`` or ``internal``.
    """

    def __init__(self, status: int, message: str, type: str = "rest") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type


class InvalidDocumentError(RestError):
    """A document breaks a rule of the platform; nothing of the request was stored."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message, "validation")
