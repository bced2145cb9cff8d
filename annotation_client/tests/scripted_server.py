"""A real HTTP server for tests: it answers what a test tells it to, fails as told, and remembers every request."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from annotation_client.connection import Connection

RESET_BEFORE = "the connection is reset before the request was read"
RESET_AFTER = "the connection is reset after the request was read"
CLOSE = "the connection is closed without an answer"


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    connection: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """One answer. `body` is sent as it is if it is bytes, else as JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    cut: int = 0  # this many bytes at the end are announced but not sent
    fault: str = ""


def error(status: int, message: str, type: str = "rest") -> Answer:
    return Answer({"message": message, "type": type}, status)


Behaviour = Answer | Callable[[Request], Any]


class ScriptedServer:
    """Answers below `/api/v1`; the behaviours of a route are used up one after the other, the last one stays."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Request] = []
        self._routes: dict[tuple[str, str], list[Behaviour]] = {}
        self._lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            scripted = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/v1"

    def __enter__(self) -> ScriptedServer:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def on(self, method: str, path: str, *behaviours: Behaviour) -> None:
        self._routes[method, path] = list(behaviours)

    def connect(self, **options: Any) -> Connection:
        """Return a connection that retries four times, almost without waiting."""
        return Connection(self.url, "secret", **{"retry_delays_s": (0.01,) * 4, **options})

    def sent(self, method: str, path: str) -> list[Request]:
        """Return the requests for a route that have arrived so far."""
        return [request for request in self.requests if (request.method, request.path) == (method, path)]

    def behave(self, method: str, path: str) -> Behaviour:
        with self._lock:
            behaviours = self._routes.get((method, path)) or [error(404, f"No matching route for {method} {path}")]
            return behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]


class _Handler(BaseHTTPRequestHandler):
    scripted: ScriptedServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        assert parts.path.startswith("/api/v1/") and "//" not in parts.path, parts.path
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        request = Request(
            self.command,
            parts.path.removeprefix("/api/v1"),
            query,
            dict(self.headers),
            connection=self.client_address[1],
        )
        behaviour = self.scripted.behave(request.method, request.path)
        if isinstance(behaviour, Answer) and behaviour.fault == RESET_BEFORE:
            self.scripted.requests.append(request)
            return self._reset()
        request.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.scripted.requests.append(request)
        answer = behaviour(request) if callable(behaviour) else behaviour
        self._send(answer if isinstance(answer, Answer) else Answer(answer))

    def _send(self, answer: Answer) -> None:
        if answer.wait_s:
            time.sleep(answer.wait_s)
        if answer.fault == RESET_AFTER:
            return self._reset()
        if answer.fault == CLOSE:
            self.close_connection = True
            return None
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) - answer.cut])
        self.close_connection = self.close_connection or answer.cut > 0

    def _reset(self) -> None:
        """Close so that the client gets a reset instead of an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        self.close_connection = True

    def finish(self) -> None:
        with suppress(OSError, ValueError):  # already closed, or the client did not wait for the answer
            super().finish()

    def handle(self) -> None:
        with suppress(OSError, ValueError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle  # noqa: N815
