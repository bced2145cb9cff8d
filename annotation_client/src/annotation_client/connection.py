"""Requests to a Girder server that end in time, and are repeated where that can do no harm."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import requests
from girder_client import GirderClient, HttpError
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from annotation_client.errors import ClientError

TIMEOUT_S = (10.0, 120.0)  # to connect; without any further byte of the answer
RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # long enough for a server that is being restarted

_TEMPORARY_STATUS = (429, 502, 503, 504)
_LONGEST_WAIT_S = 30.0  # whatever a server asks for
_LAST_RETRY_S = 240.0  # no further attempt once this much time has passed
_IDLE_S = 2.0


class Connection(GirderClient):  # type: ignore[misc] # girder_client has no types
    """A `girder_client.GirderClient` with one pool of connections, timeouts, and retries of what is safe to repeat.

    GET, PUT and DELETE mean the same when they are sent twice: they are repeated after connection faults, answers that
    break off, and the statuses 429, 502, 503 and 504, with growing, jittered pauses. A POST is repeated only if no
    connection could be made, so that it cannot have arrived; `sendRestRequest(..., retry_post=True)` is for the few
    that are harmless twice. Everything else that `GirderClient` offers goes through here too.
    """

    def __init__(
        self,
        api_url: str,
        token: str,
        *,
        timeout_s: tuple[float, float] = TIMEOUT_S,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        """Prepare a connection; no request is made.

        Args:
            api_url: address of the API, such as `http://girder:8080/api/v1`.
            token: a Girder token, sent as the header `Girder-Token`.
            timeout_s: seconds to wait for a connection, and for each further byte of an answer.
            retry_delays_s: pauses before the second, third, ... attempt.
        """
        super().__init__(apiUrl=api_url.rstrip("/"))
        self.setToken(token)
        self.timeout_s = timeout_s
        self.retry_delays_s = tuple(retry_delays_s)
        self._session = _Session()
        self._last_used_s = time.monotonic()

    def sendRestRequest(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, Any] | None = None,
        data: Any = None,
        files: Any = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        jsonResp: bool = True,
        *,
        retry: bool = True,
        retry_post: bool = False,
        **options: Any,
    ) -> Any:
        """Send a request and return the decoded answer; arguments as in `girder_client`, and the last three.

        Args:
            method: HTTP verb.
            path: path below the API's address; a leading slash is ignored.
            parameters: of the query string; escaped here.
            data: raw body. Only a body of bytes or text can be repeated.
            files: multipart body.
            json: body to be encoded.
            headers: additional headers.
            jsonResp: return the decoded body instead of the `requests.Response`.
            retry: False for a single attempt, whatever the verb.
            retry_post: a POST that does no harm when it arrives twice.
            **options: of `requests`, such as `timeout` (overrides the connection's) and `stream`.

        Raises:
            HttpError: the server answered with an error status.
            requests.RequestException: no answer came.
            ClientError: the answer is not what an API sends.
        """
        verb = method.upper()
        plain_body = files is None and (data is None or isinstance(data, (bytes, str)))
        repeatable = plain_body and (retry_post or verb not in ("POST", "PATCH"))
        options.setdefault("timeout", self.timeout_s)
        options.setdefault("allow_redirects", verb in ("GET", "HEAD"))
        if not repeatable:
            self._drop_idle_connections()
        started_s = time.monotonic()
        for delay_s in (*(self.retry_delays_s if retry else ()), None):
            try:
                response = super().sendRestRequest(
                    verb, path.lstrip("/"), parameters, data, files, json, headers, jsonResp=False, **options
                )
                return self._decoded(response, verb) if jsonResp else self._checked(response, verb)
            except (requests.RequestException, HttpError) as error:
                late = time.monotonic() - started_s > _LAST_RETRY_S
                if delay_s is None or late or not _may_repeat(error, repeatable, plain_body):
                    raise
                wait_s = max(delay_s * random.uniform(0.75, 1.25), _wished_wait_s(error))
            finally:
                self._last_used_s = time.monotonic()
            time.sleep(wait_s)
        raise AssertionError("unreachable")

    def _drop_idle_connections(self) -> None:
        """Make the next request open a fresh connection if the others have been idle.

        A server may close an idle connection in the very moment in which it is used again; whether a POST arrived
        would then be unknown.
        """
        if self._session is not None and time.monotonic() - self._last_used_s > _IDLE_S:
            self._session.close()

    def _checked(self, response: requests.Response, verb: str) -> requests.Response:
        if response.is_redirect:  # following it would turn the request into a GET without its body
            target = response.headers.get("Location", "")
            raise ClientError(
                f"The server at {self.urlBase} sends this request ({verb}) on to {target}. Use the address that the "
                "server itself uses (https instead of http?) as the API's address."
            )
        return response

    def _decoded(self, response: requests.Response, verb: str) -> Any:
        try:
            with _without_collection():
                return self._checked(response, verb).json()
        except requests.exceptions.JSONDecodeError as error:
            raise ClientError(
                f"What answers at {self.urlBase} is not the API of a NimbusImage server, or a proxy stands in "
                "between. Check the API's address."
            ) from error


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the search for unreachable cycles, which makes parsing of long lists take twice the time and finds none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def connect(api_url: str, token: str) -> Connection:
    """Return a connection to the API at `api_url`; no request is made before the first use."""
    return Connection(api_url, token)


class _Session(requests.Session):
    """Keeps the token from other hosts, such as the storage to which a server redirects downloads."""

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        super().rebuild_auth(prepared_request, response)
        if self.should_strip_auth(response.request.url or "", prepared_request.url or ""):
            prepared_request.headers.pop("Girder-Token", None)


def _may_repeat(error: requests.RequestException, repeatable: bool, plain_body: bool) -> bool:
    if isinstance(error, HttpError):
        return repeatable and error.status in _TEMPORARY_STATUS
    if isinstance(error, requests.exceptions.SSLError):
        return False
    faults = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, faults) and (repeatable or (plain_body and never_arrived(error)))


def never_arrived(error: BaseException) -> bool:
    """Return whether a request failed before a connection was made, so that the server cannot have received it."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, (ConnectTimeoutError, NewConnectionError))


def _wished_wait_s(error: requests.RequestException) -> float:
    """Return the seconds that the header Retry-After of an answer asks for, within reason."""
    text = error.response.headers.get("Retry-After", "") if error.response is not None else ""
    return min(float(text), _LONGEST_WAIT_S) if text.isascii() and text.isdigit() else 0.0
