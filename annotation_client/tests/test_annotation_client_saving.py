"""Annotations are saved once, and one bad one costs only itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import annotation_client_fixtures as fixtures
import pytest
import requests
from annotation_examples import DATASET, MULTIPLE, Store, by_first_x, polygon
from girder_client import HttpError
from scripted_server import CLOSE, RESET_AFTER, RESET_BEFORE, Answer, Request, ScriptedServer, error

from annotation_client import creation
from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.errors import RejectedAnnotationsError, UnconfirmedWriteError, explain

server, client = fixtures.server, fixtures.client


def test_many_annotations_go_in_bounded_requests_and_come_back_in_order(
    server: ScriptedServer, client: UPennContrastAnnotationClient
) -> None:
    server.on("POST", MULTIPLE, store := Store())
    created = client.createMultipleAnnotations([polygon(number) for number in range(2500)])
    assert created == store.saved
    assert [annotation["coordinates"][0]["x"] for annotation in created] == list(range(2500))
    assert [len(request.json) for request in server.requests] == [1000, 1000, 500]
    assert server.requests[0].headers["Content-Type"] == "application/json"


def test_requests_are_bounded_in_bytes_too(
    server: ScriptedServer, client: UPennContrastAnnotationClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "MAX_BYTES", 2000)
    server.on("POST", MULTIPLE, store := Store())
    huge = polygon(50, name="x" * 3000)
    client.createMultipleAnnotations([*(polygon(number) for number in range(50)), huge, polygon(51)])
    assert [annotation["coordinates"][0]["x"] for annotation in store.saved] == list(range(52))
    sizes = [len(request.body) for request in server.requests]
    assert max(size for size in sizes if size < 3000) <= 2001 and len([size for size in sizes if size > 2001]) == 1
    assert len(server.requests) > 5


def test_nothing_is_sent_for_an_empty_list(server: ScriptedServer, client: UPennContrastAnnotationClient) -> None:
    assert client.createMultipleAnnotations([]) == [] and client.createMultipleAnnotations(iter(())) == []
    assert server.requests == []


@pytest.mark.parametrize("refused", [[0], [999], [1000], [3, 500, 501, 1499], list(range(40, 80))])
def test_what_the_server_refuses_costs_only_itself(
    server: ScriptedServer,
    client: UPennContrastAnnotationClient,
    capsys: pytest.CaptureFixture[str],
    refused: list[int],
) -> None:
    server.on("POST", MULTIPLE, store := Store(by_first_x(*refused)))
    created = client.create_annotations(polygon(number) for number in range(1500))
    assert created.rejected == [(number, "data is bad") for number in refused]
    assert created.annotations == store.saved
    expected = [number for number in range(1500) if number not in refused]
    assert [annotation["coordinates"][0]["x"] for annotation in created.annotations] == expected
    assert len(server.requests) < 2 + 25 * len(refused)
    assert capsys.readouterr().out == ""


def test_one_warning_names_what_was_not_saved(
    server: ScriptedServer, client: UPennContrastAnnotationClient, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on("POST", MULTIPLE, Store(by_first_x(2)))
    given_ = [polygon(0), polygon(1, coordinates=[]), polygon(2), polygon(3, channel=None), polygon(4)]
    saved = client.createMultipleAnnotations(given_)
    assert [annotation["coordinates"][0]["x"] for annotation in saved] == [0, 4]
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["warning"] for line in lines] == [
        "3 of 5 annotations were not saved (number 2: it has no coordinates; number 3: data is bad; number 4: its "
        "channel None is not a whole number)."
    ]


def test_a_long_list_of_refusals_is_shortened() -> None:
    rejected = [creation.Rejection(number, "bad") for number in range(30)]
    text = creation.describe_rejections(rejected, 100)
    assert text.startswith("30 of 100") and text.endswith("number 5: bad; and 25 more).")


def test_no_warning_if_all_was_saved(
    server: ScriptedServer, client: UPennContrastAnnotationClient, capsys: pytest.CaptureFixture[str]
) -> None:
    server.on("POST", MULTIPLE, Store())
    client.createMultipleAnnotations([polygon()])
    assert capsys.readouterr().out == ""


def test_a_server_that_refuses_everything_is_believed_soon(
    server: ScriptedServer, client: UPennContrastAnnotationClient
) -> None:
    server.on("POST", MULTIPLE, Store(lambda annotation: "Annotation dataset ID is invalid"))
    with pytest.raises(RejectedAnnotationsError, match="Annotation dataset ID is invalid"):
        client.createMultipleAnnotations([polygon(number) for number in range(20_000)])
    assert len(server.requests) < 100


def test_a_proxy_that_refuses_large_requests_gets_smaller_ones(
    server: ScriptedServer, client: UPennContrastAnnotationClient
) -> None:
    store = Store()

    def small_only(request: Request) -> Any:
        return store(request) if len(request.body) < 10_000 else Answer(b"<html>nginx</html>", 413)

    server.on("POST", MULTIPLE, small_only)
    assert len(client.createMultipleAnnotations([polygon(number) for number in range(300)])) == 300
    assert [annotation["coordinates"][0]["x"] for annotation in store.saved] == list(range(300))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_other_refusals_end_the_matter_at_once(
    server: ScriptedServer, client: UPennContrastAnnotationClient, status: int
) -> None:
    server.on("POST", MULTIPLE, error(status, "no"))
    with pytest.raises(HttpError):
        client.createMultipleAnnotations([polygon(number) for number in range(20)])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Answer(fault=RESET_BEFORE),
        Answer(fault=RESET_AFTER),
        Answer(fault=CLOSE),
        Answer([{}] * 20, cut=10),
        Answer(status=504),
        Answer(status=502),
        Answer([{}], wait_s=20),
        Answer([{}]),
        Answer({}),
    ],
    ids=lambda answer: f"{answer.fault} {answer.status} {answer.cut} {answer.wait_s} {str(answer.body)[:4]}",
)
def test_annotations_that_may_have_been_saved_are_never_sent_twice(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, fault: Answer
) -> None:
    monkeypatch.setattr(creation, "MAX_ANNOTATIONS", 20)
    client = UPennContrastAnnotationClient(server.url, "t", connection=server.connect(timeout_s=(1.0, 0.7)))
    store = Store()
    server.on("POST", MULTIPLE, store, fault, store)
    with pytest.raises(UnconfirmedWriteError) as caught:
        client.createMultipleAnnotations([polygon(number) for number in range(60)])
    assert len(server.requests) == 2 and len(store.saved) == 20
    assert "20 are saved" in explain(caught.value) and "rerun" in explain(caught.value)


@pytest.mark.parametrize("fault", [Answer(fault=RESET_AFTER), Answer(status=503), Answer(fault=CLOSE)])
def test_neither_are_single_ones_and_connections(server: ScriptedServer, fault: Answer) -> None:
    client = UPennContrastAnnotationClient(server.url, "t", connection=server.connect())
    link = {"parentId": "1", "childId": "2", "datasetId": DATASET, "tags": []}
    calls: list[tuple[str, Callable[[], object]]] = [
        ("/upenn_annotation", lambda: client.createAnnotation(polygon())),
        ("/annotation_connection", lambda: client.createConnection(link)),
        ("/annotation_connection/multiple", lambda: client.createMultipleConnections([link])),
        ("/annotation_connection/connectTo", lambda: client.connectToNearest({"tags": ["a"]}, ["1"])),
        ("/annotation_property", lambda: client.createNewProperty({"name": "area"})),
    ]
    for path, call in calls:
        server.on("POST", path, fault, Answer({}))
        with pytest.raises(requests.RequestException):
            call()
        assert len(server.sent("POST", path)) == 1


def test_an_interruption_passes_through(server: ScriptedServer, client: UPennContrastAnnotationClient) -> None:
    server.on("POST", MULTIPLE, store := Store())

    def interrupted() -> Iterator[dict[str, Any]]:
        yield from (polygon(number) for number in range(1001))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.createMultipleAnnotations(interrupted())
    assert len(store.saved) == 1000
