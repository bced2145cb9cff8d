"""Errors of this package, and one line for a biologist about any error that a request can end in."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import requests
from girder_client import HttpError

_LONGEST_MESSAGE = 300


class ClientError(Exception):
    """Base of all errors below; also raised itself when a server answers what cannot be used."""


class DatasetError(ClientError, ValueError):
    """A dataset has no image that a worker can read, or not at the position that was asked for."""


class RejectedAnnotationsError(ClientError, ValueError):
    """The server or its schema refuses annotations, so that going on makes no sense."""


class UnconfirmedWriteError(ClientError):
    """The connection broke while something was saved, and the server did not say whether it has it."""


class UploadError(ClientError):
    """A file could not be uploaded; what was there before is unchanged."""


class DownloadError(ClientError):
    """A file could not be downloaded completely."""


def server_message(error: HttpError) -> str:
    """Return what the server wrote about an error, on one line, or its HTTP status if it wrote nothing readable."""
    text = error.responseText or ""
    try:
        document = json.loads(text)
        text = str(document["message"])
    except (ValueError, TypeError, LookupError):
        text = "" if "<" in text else text  # a page of HTML, written by a proxy for a browser
    return _short(text) or f"status {error.status}"


def explain(error: BaseException) -> str:
    """Describe an error of a request on one line that says what happened and what to do next.

    Understands `girder_client.HttpError`, the errors of `requests`, and this package's own. Any other error is
    described by its own text.
    """
    if isinstance(error, HttpError):
        return _explain_status(error)
    server = _server_of(error)
    if isinstance(error, requests.exceptions.SSLError):
        return (
            f"No safe connection to the {server} could be made: its certificate was not accepted. Ask its "
            "administrator."
        )
    if isinstance(error, requests.ConnectTimeout):
        return f"The {server} cannot be reached: no answer in time. Check that it is running, then rerun."
    if isinstance(error, requests.Timeout):
        return f"The {server} did not answer in time. It may be busy: try again later."
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        return (
            f"The {server} cannot be reached, or the connection to it broke. Check that it is running and "
            "that the network works, then rerun."
        )
    if isinstance(error, requests.RequestException):
        return f"A request to the {server} could not be made ({_short(str(error))}). Check the address of the server."
    return _one_line(str(error)) or type(error).__name__


def _explain_status(error: HttpError) -> str:
    message = server_message(error)
    if error.status == 401:
        return f"The session has ended: log in again and rerun. (The server says: {message})"
    if error.status == 403:
        return (
            f"The server does not allow this: {message}. Check that the dataset still exists and ask its owner for "
            "write access."
        )
    if error.status == 404:
        return f"The server does not have what was asked for ({message}). It may have been deleted, or it is too old."
    if error.status == 413:
        return "The server refuses requests of this size. Ask its administrator to allow at least 8 MB per request."
    if error.status in (429, 502, 503, 504):
        return f"The server is too busy or is being restarted ({message}). Try again in a few minutes."
    if error.status >= 500:
        return f"The server had a problem of its own ({message}). Try again; if it stays, tell its administrator."
    return f"The server refuses the request: {message}."


def _server_of(error: BaseException) -> str:
    """Return 'server <scheme>://<host>' of the request that failed; never more of its address."""
    request = getattr(error, "request", None)
    parts = urlsplit(getattr(request, "url", None) or "")
    if not parts.hostname:
        return "server"
    port = f":{parts.port}" if parts.port else ""
    return f"server {parts.scheme}://{parts.hostname}{port}"


def _short(text: str) -> str:
    """Return somebody else's text as a part of a sentence."""
    line = _one_line(text).rstrip(".")
    return line if len(line) <= _LONGEST_MESSAGE else line[:_LONGEST_MESSAGE].rstrip() + "..."


def _one_line(text: str) -> str:
    return " ".join(text.split())
