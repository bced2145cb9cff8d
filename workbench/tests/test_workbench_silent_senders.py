"""Many connections that begin a request and fall silent keep nobody else from being answered."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import pytest
from workbench_http import TOKEN, Http

SENDERS = 60  # more than there are threads


@pytest.mark.parametrize(
    ("method", "token", "answered"),
    [
        ("POST", "wrong-token-of-the-tests", True),
        ("GET", "wrong-token-of-the-tests", True),
        ("GET", TOKEN, True),
        ("POST", TOKEN, False),
    ],
)
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
def test_silent_senders(http: Http, method: str, token: str, answered: bool, kind: str) -> None:
    path = "upenn_annotation/multiple" if method == "POST" else "user/me"
    request = (
        f"{method} /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\nGirder-Token: {token}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: 100\r\n\r\na"
    )
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", http.port), timeout=10)) for _ in range(SENDERS)
        ]
        for connection in connections:
            connection.sendall(request.encode())
        if answered:
            for connection in connections:
                assert connection.recv(2**16).startswith(b"HTTP/1.1 401" if method == "POST" else b"HTTP/1.1 200")
        else:
            time.sleep(0.3)  # until as many as can wait for the rest of their requests
        began = time.perf_counter()
        for _ in range(5):
            assert http.get("user/me")["login"] == "user"
            assert http.get("job") == []
            assert http.session.get(http.url.replace("api/v1/", ""), timeout=30).status_code == 200
        assert time.perf_counter() - began < 3
