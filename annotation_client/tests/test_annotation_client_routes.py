"""The methods beside listing and saving use the platform's routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import annotation_client_fixtures as fixtures
import numpy as np
import pytest
from annotation_examples import DATASET, MULTIPLE
from scripted_server import RESET_AFTER, Answer, ScriptedServer

from annotation_client import annotations
from annotation_client.annotations import UPennContrastAnnotationClient

server, client = fixtures.server, fixtures.client


def test_deleting_goes_in_parts(
    server: ScriptedServer, client: UPennContrastAnnotationClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotations, "_DELETE_AT_ONCE", 2)
    server.on("DELETE", MULTIPLE, Answer(status=503), Answer(None))
    server.on("DELETE", "/annotation_connection/multiple", Answer(None))
    client.deleteMultipleAnnotations(["1", "2", "3"])
    client.deleteMultipleConnections([])
    assert [request.json for request in server.requests] == [["1", "2"], ["1", "2"], ["3"]]


@pytest.mark.parametrize("connect_to", [{"tags": ["a"]}, {"tags": ["a"], "channel": None, "layer": None}])
def test_connecting_without_a_channel_means_any(
    server: ScriptedServer, client: UPennContrastAnnotationClient, connect_to: dict[str, Any]
) -> None:
    server.on("POST", "/annotation_connection/connectTo", Answer([]))
    assert client.connectToNearest(connect_to, ("1", "2")) == []
    assert server.requests[0].json == {"annotationsIds": ["1", "2"], "tags": ["a"], "channelId": None}


def test_connections_are_listed_completely_and_by_node(
    server: ScriptedServer, client: UPennContrastAnnotationClient
) -> None:
    server.on("GET", "/annotation_connection", Answer([]))
    client.getAnnotationConnections(DATASET)
    client.getAnnotationConnections(DATASET, nodeId="7", limit=3, offset=2)
    assert [request.query for request in server.requests] == [
        {"datasetId": DATASET, "limit": "0", "offset": "0"},
        {"datasetId": DATASET, "nodeAnnotationId": "7", "limit": "3", "offset": "2"},
    ]


ROUTES: list[tuple[str, Callable[[UPennContrastAnnotationClient], Any], str, str, dict[str, str]]] = [
    ("a", lambda c: c.getAnnotationById("1"), "GET", "/upenn_annotation/1", {}),
    ("b", lambda c: c.updateAnnotation("1", {"tags": []}), "PUT", "/upenn_annotation/1", {}),
    ("c", lambda c: c.deleteAnnotation("1"), "DELETE", "/upenn_annotation/1", {}),
    ("d", lambda c: c.getAnnotationConnectionById("1"), "GET", "/annotation_connection/1", {}),
    ("e", lambda c: c.updateConnection("1", {"tags": []}), "PUT", "/annotation_connection/1", {}),
    ("f", lambda c: c.deleteConnection("1"), "DELETE", "/annotation_connection/1", {}),
    ("g", lambda c: c.getPropertyById("1"), "GET", "/annotation_property/1", {}),
    ("h", lambda c: c.getItemById("1"), "GET", "/item/1", {}),
    ("i", lambda c: c.getDatasetViewsByDatasetId("1"), "GET", "/dataset_view", {"datasetId": "1"}),
    ("j", lambda c: c.countConnectionsByDatasetId("1"), "GET", "/annotation_connection/count", {"datasetId": "1"}),
    (
        "k",
        lambda c: c.countPropertyValuesByDatasetId("1"),
        "GET",
        "/annotation_property_values/count",
        {"datasetId": "1"},
    ),
    (
        "l",
        lambda c: c.countPropertiesByConfigurationId("1"),
        "GET",
        "/annotation_property/count",
        {"configurationId": "1"},
    ),
    (
        "m",
        lambda c: c.deleteAnnotationPropertyValues("1", "2"),
        "DELETE",
        "/annotation_property_values",
        {"propertyId": "1", "datasetId": "2"},
    ),
    (
        "n",
        lambda c: c.getPropertyHistogram("1.a b", "2"),
        "GET",
        "/annotation_property_values/histogram",
        {"propertyPath": "1.a b", "datasetId": "2", "buckets": "255"},
    ),
    (
        "o",
        lambda c: c.getPropertyValuesForAnnotation("1", "2"),
        "GET",
        "/annotation_property_values",
        {"datasetId": "1", "annotationId": "2"},
    ),
    (
        "p",
        lambda c: c.setPropertiesByConfigurationId("1", ["2"]),
        "PUT",
        "/item/1",
        {"metadata": '{"propertyIds": ["2"]}'},
    ),
]


@pytest.mark.parametrize(("call", "method", "path", "query"), [route[1:] for route in ROUTES])
def test_the_other_methods_use_the_platforms_routes(
    server: ScriptedServer,
    client: UPennContrastAnnotationClient,
    call: Callable[[UPennContrastAnnotationClient], Any],
    method: str,
    path: str,
    query: dict[str, str],
) -> None:
    server.on(method, path, Answer(status=503), Answer({"the": "answer"}))
    assert call(client) == {"the": "answer"}
    assert server.requests[-1].query == query


def test_property_values_go_in_parts_are_repeated_and_read_completely(
    server: ScriptedServer, client: UPennContrastAnnotationClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotation_client import property_values

    monkeypatch.setattr(property_values, "_ENTRIES_AT_ONCE", 2)
    monkeypatch.setattr(property_values, "_PAGE", 2)
    entries = [{"datasetId": "1", "annotationId": str(n), "values": {"p": np.float32(n)}} for n in range(4)]
    server.on("POST", "/annotation_property_values/multiple", Answer(fault=RESET_AFTER), Answer(None))
    client.addMultipleAnnotationPropertyValues(entries)
    assert [[entry["values"]["p"] for entry in request.json] for request in server.requests] == [[0, 1], [0, 1], [2, 3]]
    server.on("GET", "/annotation_property_values", lambda request: entries_as_json[int(request.query["offset"]) :][:2])
    entries_as_json = [{**entry, "values": {"p": n}} for n, entry in enumerate(entries)]
    assert client.getPropertyValuesForDataset("1") == entries_as_json
