"""What the user is told about an error."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from worker_client.errors import WorkerError

_READABLE_ERRORS = {"AnnotationError", "ClientError", "CondensateNetError"}
"""Base classes whose texts are written for users; known by name, since a worker need not have all these packages."""

_CANNOT_CONTINUE = "The tool cannot continue"
_LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Failure:
    """An error in the words of its reader.

    Attributes:
        text: what is wrong and what to do about it; one line.
        title: a few words above it.
        info: details for whoever helps, or None; one line.
    """

    text: str
    title: str
    info: str | None = None


def describe(error: BaseException) -> Failure:
    """Return what to tell the user about an error that ended a worker."""
    text, title, info = _describe(error)
    return Failure(_one_line(text), _one_line(title), None if info is None else _one_line(info))


def _describe(error: BaseException) -> tuple[str, str, str | None]:
    if isinstance(error, WorkerError):
        return str(error), error.title, error.info
    if _READABLE_ERRORS.intersection(kind.__name__ for kind in type(error).__mro__):
        field = getattr(error, "field", None)
        return str(error), f"Please check {field}" if field else _CANNOT_CONTINUE, None
    if isinstance(error, MemoryError):
        return (
            "The computer's memory does not suffice. Close other programs, work on fewer or smaller images at a time, "
            "or ask for a computer with more memory.",
            "Out of memory",
            str(error) or None,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            "The disk of the computer that runs the tool is full. Make room on it, or ask whoever looks after it, and "
            "run the tool again.",
            "Disk full",
            str(error),
        )
    if isinstance(error, OSError) and (text := _explain_connection(error)) is not None:
        return text, "Problem with the server", _connection_details(error)
    if isinstance(error, SystemExit):
        return f"The tool ended early: {error.code}", _CANNOT_CONTINUE, None
    return (
        f"Unexpected problem: {type(error).__name__}: {error}. Please report it together with the log of this job.",
        "Unexpected problem",
        None,
    )


def _explain_connection(error: OSError) -> str | None:
    import requests

    if not isinstance(error, requests.RequestException):
        return None
    from annotation_client.errors import explain

    return explain(error)


def _connection_details(error: OSError) -> str:
    if (status := getattr(error, "status", None)) is None:
        return f"{type(error).__name__}: {error}"
    return f"{getattr(error, 'method', '')} {getattr(error, 'url', '')} was answered with the status {status}"


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
