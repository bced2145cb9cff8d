"""What is repeated and what is not, and what a person reads when nothing helps."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import annotation_client_fixtures as fixtures
import pytest
import requests
from girder_client import HttpError
from scripted_server import CLOSE, RESET_AFTER, RESET_BEFORE, Answer, ScriptedServer, error

from annotation_client.connection import Connection, connect
from annotation_client.errors import ClientError, explain

BROKEN = [
    Answer(status=503, body=b"busy"),
    Answer(status=429, body=b"slow down"),
    Answer(status=502, body=b"<html>bad gateway</html>"),
    Answer(status=504, body=b""),
    Answer(fault=RESET_BEFORE),
    Answer(fault=RESET_AFTER),
    Answer(fault=CLOSE),
    Answer({"a": "a long answer"}, cut=5),
]
server = fixtures.server


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@pytest.mark.parametrize("fault", BROKEN, ids=lambda answer: answer.fault or f"{answer.status} {answer.cut}")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_request_that_can_be_repeated_survives_a_fault(server: ScriptedServer, method: str, fault: Answer) -> None:
    server.on(method, "/thing", fault, fault, Answer({"a": 1}))
    assert server.connect().sendRestRequest(method, "thing", {"x": "y"}) == {"a": 1}
    assert len(server.requests) == 3
    assert server.requests[-1].query == {"x": "y"} and server.requests[-1].headers["Girder-Token"] == "secret"


@pytest.mark.parametrize("fault", BROKEN, ids=lambda answer: answer.fault or f"{answer.status} {answer.cut}")
def test_a_post_that_may_have_arrived_is_sent_once(server: ScriptedServer, fault: Answer) -> None:
    server.on("POST", "/thing", fault, Answer({"a": 1}))
    with pytest.raises(requests.RequestException):
        server.connect().post("thing", json={"a": 1})
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", BROKEN, ids=lambda answer: answer.fault or f"{answer.status} {answer.cut}")
def test_a_post_that_does_no_harm_twice_is_repeated_if_asked(server: ScriptedServer, fault: Answer) -> None:
    server.on("POST", "/thing", fault, Answer({"a": 1}))
    assert server.connect().sendRestRequest("POST", "thing", json={"b": 2}, retry_post=True) == {"a": 1}
    assert [request.json for request in server.requests if request.body] == [{"b": 2}] * (
        1 if fault.fault == RESET_BEFORE else 2
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_is_not_there_is_waited_for_and_then_named(method: str) -> None:
    port = free_port()
    started = time.monotonic()
    with pytest.raises(requests.ConnectionError) as caught:
        Connection(f"http://127.0.0.1:{port}/api/v1", "t", retry_delays_s=(0.1, 0.1)).sendRestRequest(method, "thing")
    assert time.monotonic() - started > 0.14
    assert explain(caught.value) == (
        f"The server http://127.0.0.1:{port} cannot be reached, or the connection to it broke. Check that it is "
        "running and that the network works, then rerun."
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_is_sent_once_the_server_is_there(method: str) -> None:
    port = free_port()
    connection = Connection(f"http://127.0.0.1:{port}/api/v1", "t", retry_delays_s=(0.1,) * 50)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(connection.sendRestRequest, method, "thing")
        time.sleep(0.2)
        with ScriptedServer(port) as server:
            server.on(method, "/thing", Answer({"a": 1}))
            assert answer.result(timeout=10) == {"a": 1}
            assert len(server.requests) == 1


def test_a_slow_answer_ends_in_a_timeout_and_a_post_is_not_repeated(server: ScriptedServer) -> None:
    server.on("POST", "/thing", Answer({"a": 1}, wait_s=5))
    with pytest.raises(requests.Timeout) as caught:
        server.connect(timeout_s=(1.0, 0.1)).post("thing")
    assert len(server.requests) == 1
    assert "did not answer in time" in explain(caught.value)


def test_a_slow_answer_to_a_get_is_asked_for_again(server: ScriptedServer) -> None:
    server.on("GET", "/thing", Answer({"a": 1}, wait_s=5), Answer({"a": 2}))
    assert server.connect(timeout_s=(1.0, 0.5)).get("thing") == {"a": 2}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_other_errors_are_not_repeated(server: ScriptedServer, status: int) -> None:
    server.on("GET", "/thing", error(status, "No."))
    with pytest.raises(HttpError) as caught:
        server.connect().get("thing")
    assert caught.value.status == status and len(server.requests) == 1


def test_retries_end(server: ScriptedServer) -> None:
    server.on("GET", "/thing", Answer(status=503))
    with pytest.raises(HttpError):
        server.connect().get("thing")
    assert len(server.requests) == 5


def test_one_attempt_if_asked(server: ScriptedServer) -> None:
    server.on("DELETE", "/thing", Answer(status=503))
    with pytest.raises(HttpError):
        server.connect().sendRestRequest("DELETE", "thing", retry=False)
    assert len(server.requests) == 1


def test_the_wait_that_a_server_asks_for_is_kept(server: ScriptedServer) -> None:
    server.on("GET", "/thing", Answer(status=503, headers={"Retry-After": "1"}), Answer(1))
    started = time.monotonic()
    assert server.connect().get("thing") == 1
    assert 0.9 < time.monotonic() - started < 5


@pytest.mark.parametrize("text", ["86400", "Wed, 21 Oct 2015 07:28:00 GMT", "-3", "\xb2"])
def test_an_absurd_wait_is_not(server: ScriptedServer, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("annotation_client.connection.time.sleep", waits.append)
    server.on("GET", "/thing", Answer(status=503, headers={"Retry-After": text}), Answer(1))
    server.connect().get("thing")
    assert len(waits) == 1 and waits[0] <= 30


def test_the_connection_is_kept_but_not_for_a_post_after_a_pause(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("GET", "/thing", Answer(1))
    server.on("POST", "/thing", Answer(1))
    connection = server.connect()
    for _ in range(2):
        connection.get("thing")
        connection.post("thing")
    assert len({request.connection for request in server.requests}) == 1
    monkeypatch.setattr("annotation_client.connection._IDLE_S", 0.05)
    time.sleep(0.1)
    connection.get("thing")
    assert len({request.connection for request in server.requests}) == 1
    time.sleep(0.1)
    connection.post("thing")
    assert len({request.connection for request in server.requests}) == 2


def test_a_body_that_is_read_from_a_file_is_not_repeated(server: ScriptedServer) -> None:
    server.on("PUT", "/thing", Answer(status=503), Answer(1))
    with pytest.raises(HttpError):
        server.connect().put("thing", data=io.BytesIO(b"abc"))
    assert [request.body for request in server.requests] == [b"abc"]


def test_slashes_do_not_double(server: ScriptedServer) -> None:
    server.on("GET", "/upenn_annotation/1", Answer(1))
    assert Connection(server.url + "/", "t").get("/upenn_annotation/1") == 1
    assert connect(server.url, "t").get("upenn_annotation/1") == 1


def test_a_redirected_write_is_an_error_that_names_the_address(server: ScriptedServer) -> None:
    server.on("POST", "/thing", Answer(status=301, headers={"Location": "https://nimbus.example/api/v1/thing"}))
    with pytest.raises(ClientError, match=r"https://nimbus\.example"):
        server.connect().post("thing", json={})
    assert len(server.requests) == 1


def test_the_token_does_not_follow_a_redirect_to_another_host(server: ScriptedServer) -> None:
    with ScriptedServer() as storage:
        storage.on("GET", "/content", Answer(b"bytes"))
        # the same machine under another name
        elsewhere = storage.url.replace("127.0.0.1", "localhost") + "/content"
        server.on("GET", "/file", Answer(status=303, headers={"Location": elsewhere}))
        assert server.connect().get("file", jsonResp=False).content == b"bytes"
        assert "Girder-Token" not in storage.requests[0].headers
    assert server.requests[0].headers["Girder-Token"] == "secret"


def test_a_page_instead_of_an_api_is_explained(server: ScriptedServer) -> None:
    server.on("GET", "/thing", Answer(b"<html>Welcome to the guest network</html>"))
    with pytest.raises(ClientError, match="Check the API's address"):
        server.connect().get("thing")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, {"message": "You must be logged in."}, "log in again and rerun"),
        (403, {"message": "Write access denied for folder 1."}, "Write access denied for folder 1. Check"),
        (400, {"message": "No such folder:\n 1"}, "The server refuses the request: No such folder: 1."),
        (404, {"message": "No matching route"}, "It may have been deleted"),
        (413, b"<html>nginx</html>", "allow at least 8 MB"),
        (429, b"", "busy"),
        (503, b"<html>down</html>", "Try again in a few minutes"),
        (500, {"message": "boom", "type": "internal"}, "problem of its own (boom)"),
        (500, b"[]", "problem of its own ([])"),
        (500, {"message": "long " * 500}, "..."),
    ],
)
def test_statuses_are_explained_on_one_line(server: ScriptedServer, status: int, body: object, expected: str) -> None:
    server.on("GET", "/thing", Answer(body, status))
    with pytest.raises(HttpError) as caught:
        server.connect(retry_delays_s=()).get("thing")
    text = explain(caught.value)
    assert expected in text and "\n" not in text and len(text) < 600 and "secret" not in text


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Connection("http://256.1.1.1:1/api", "t", retry_delays_s=()).get("x"), "cannot be reached"),
        (lambda: Connection("nonsense", "t", retry_delays_s=()).get("x"), "Check the address of the server"),
        (lambda: Connection("http://127.0.0.1:1/api", "t", retry_delays_s=()).post("x", json=float("nan")), "JSON"),
    ],
)
def test_other_failures_are_explained(make: Callable[[], object], expected: str) -> None:
    with pytest.raises(requests.RequestException) as caught:
        make()
    assert expected in explain(caught.value) and "\n" not in explain(caught.value)


def test_our_own_errors_and_any_other_are_explained_by_their_text() -> None:
    assert explain(ClientError("Do this.\nThen that.")) == "Do this. Then that."
    assert explain(KeyError()) == "KeyError"
