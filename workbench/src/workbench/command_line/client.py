"""A small client of the server's REST interface, for the command line."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from workbench.errors import WorkbenchError

_TIMEOUT_S = 60.0


class Client:
    """Speaks JSON with a server.

    Args:
        url: the server's address, without /api/v1.
        token: what opens it.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        # The server is on this machine: a proxy that is set for the internet is not asked.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, **query: object) -> Any:
        """Return the answer to a GET request."""
        return self._send("GET", path, query)

    def post(self, path: str, body: object = None, **query: object) -> Any:
        """Return the answer to a POST request."""
        return self._send("POST", path, query, body)

    def put(self, path: str, **query: object) -> Any:
        """Return the answer to a PUT request."""
        return self._send("PUT", path, query)

    def _send(self, method: str, path: str, query: dict[str, object], body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Girder-Token": self._token, "Content-Type": "application/json"},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise WorkbenchError(_message(error.read()) or f"The server answered {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise WorkbenchError(f"The server at {self._url} does not answer ({error}). Is it there?") from error


def _message(body: bytes) -> str | None:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return None
