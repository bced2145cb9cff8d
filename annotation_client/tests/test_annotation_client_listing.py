"""Annotations are listed completely and once."""

from __future__ import annotations

import json
from typing import Any

import annotation_client_fixtures as fixtures
import pytest
from annotation_examples import DATASET
from scripted_server import RESET_AFTER, Answer, Request, ScriptedServer

from annotation_client import annotations
from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.errors import ClientError

server, client = fixtures.server, fixtures.client


class Listing:
    """`GET upenn_annotation` as the platform does it."""

    def __init__(self, count: int) -> None:
        self.documents = [{"_id": f"{number:024x}"} for number in range(1, count + 1)]

    def __call__(self, request: Request) -> Any:
        query = request.query
        assert query["sort"] == "_id"
        rest = [document for document in self.documents if document["_id"] > query.get("afterId", "")]
        rest = rest if "afterId" in query else rest[int(query["offset"]) :]
        return rest[: int(query["limit"])] if query["limit"] != "0" else rest


@pytest.mark.parametrize(("count", "requests_needed"), [(0, 1), (1, 1), (9, 1), (10, 2), (11, 2), (20, 3), (25, 3)])
def test_a_listing_is_complete_at_every_page_boundary(
    server: ScriptedServer,
    client: UPennContrastAnnotationClient,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    requests_needed: int,
) -> None:
    monkeypatch.setattr(
        annotations.UPennContrastAnnotationClient.iter_annotations,
        "__kwdefaults__",
        {"shape": None, "tags": None, "offset": 0, "page_size": 10},
    )
    server.on("GET", "/upenn_annotation", listing := Listing(count))
    assert client.getAnnotationsByDatasetId(DATASET) == listing.documents
    assert len(server.requests) == requests_needed
    assert client.getAnnotationsByDatasetId(DATASET, offset=4) == listing.documents[4:]


def test_a_listing_repeats_a_page_that_broke_off_and_none_of_its_annotations(
    server: ScriptedServer, client: UPennContrastAnnotationClient
) -> None:
    listing = Listing(25)
    broken = Answer(listing.documents[10:20], cut=10)
    server.on("GET", "/upenn_annotation", listing, broken, Answer(status=503), Answer(fault=RESET_AFTER), listing)
    assert list(client.iter_annotations(DATASET, page_size=10)) == listing.documents


def test_annotations_made_meanwhile_do_not_shift_the_pages(
    server: ScriptedServer, client: UPennContrastAnnotationClient
) -> None:
    server.on("GET", "/upenn_annotation", listing := Listing(25))
    expected = [document["_id"] for document in listing.documents if document["_id"] != f"{3:024x}"]
    received = []
    for document in client.iter_annotations(DATASET, page_size=10):
        received.append(document["_id"])
        if len(received) == 10:  # one of the first page is deleted
            del listing.documents[2]
    assert received == [*expected[:2], f"{3:024x}", *expected[2:]]


def test_a_server_that_repeats_its_first_page_ends_the_listing(
    server: ScriptedServer, client: UPennContrastAnnotationClient
) -> None:
    server.on("GET", "/upenn_annotation", Answer(Listing(10).documents))
    with pytest.raises(ClientError, match="too old"):
        list(client.iter_annotations(DATASET, page_size=10))


def test_a_limit_is_one_request(server: ScriptedServer, client: UPennContrastAnnotationClient) -> None:
    server.on("GET", "/upenn_annotation", listing := Listing(25))
    assert client.getAnnotationsByDatasetId(DATASET, "polygon", None, 7, 3) == listing.documents[3:10]
    assert client.getAnnotationsByDatasetId(DATASET, limit=0) == listing.documents
    assert server.requests[0].query == {
        "datasetId": DATASET,
        "shape": "polygon",
        "limit": "7",
        "offset": "3",
        "sort": "_id",
    }
    assert len(server.requests) == 2


TAGS = [
    "a&b",
    "a#b",
    "a+b c",
    "100%",
    "%20",
    'say "hi"',
    "it's",
    "Zellkörper",
    "核",
    "😀",
    "a\\b",
    "a/b?c=d",
    "[x]",
    "",
]


@pytest.mark.parametrize("tags", [TAGS, tuple(TAGS), json.dumps(TAGS), *([tag] for tag in TAGS)], ids=str)
def test_tags_arrive_as_they_are(server: ScriptedServer, client: UPennContrastAnnotationClient, tags: Any) -> None:
    server.on("GET", "/upenn_annotation", Answer([]))
    server.on("GET", "/upenn_annotation/count", Answer({"count": 0}))
    client.getAnnotationsByDatasetId(DATASET, tags=tags)
    client.countAnnotationsByDatasetId(DATASET, tags=tags)
    client.getAnnotationsByDatasetId(DATASET, tags=tags, limit=5)
    expected = json.loads(tags) if isinstance(tags, str) else list(tags)
    assert [json.loads(request.query["tags"]) for request in server.requests] == [expected] * 3


@pytest.mark.parametrize("tag", ["nucleus", "a&b", "7", "[x", '"quoted'])
def test_a_single_text_is_one_tag(server: ScriptedServer, client: UPennContrastAnnotationClient, tag: str) -> None:
    server.on("GET", "/upenn_annotation", Answer([]))
    client.getAnnotationsByDatasetId(DATASET, tags=tag)
    assert json.loads(server.requests[0].query["tags"]) == [tag]


def test_no_tags_are_no_filter(server: ScriptedServer, client: UPennContrastAnnotationClient) -> None:
    server.on("GET", "/upenn_annotation", Answer([]))
    for tags in (None, [], "", ()):
        client.getAnnotationsByDatasetId(DATASET, tags=tags)
    assert all("tags" not in request.query for request in server.requests)
