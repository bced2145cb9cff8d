"""Routes of connections between annotations."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from workbench_http import UNKNOWN_ID, Http, annotation, point

from workbench.store.nearest import nearest_points


@pytest.fixture
def dataset(http: Http) -> str:
    return http.new_dataset()


def create(http: Http, *annotations: dict[str, Any]) -> list[str]:
    return [document["_id"] for document in http.post("upenn_annotation/multiple", json=annotations)]


def connect(http: Http, ids: list[str], tags: list[str] | None = None, channel: int | None = None) -> dict[str, str]:
    """Connect to the nearest, and give the parent of each child."""
    info = {"annotationsIds": ids, "tags": tags or [], "channelId": channel}
    made = http.post("annotation_connection/connectTo/", json=info)
    return {document["childId"]: document["parentId"] for document in made}


@pytest.fixture
def three(http: Http, dataset: str) -> list[str]:
    return create(http, *(point(dataset, x, 0) for x in range(3)))


def link(dataset: str, parent: str, child: str, **changes: Any) -> dict[str, Any]:
    return {"datasetId": dataset, "parentId": parent, "childId": child, "tags": [], **changes}


def test_connections_are_stored_listed_and_counted(http: Http, dataset: str, three: list[str]) -> None:
    a, b, c = three
    one = http.post("annotation_connection", json=link(dataset, a, b, label="l", tags=["t"], _id=UNKNOWN_ID))
    assert one == link(dataset, a, b, label="l", tags=["t"], _id=one["_id"])
    assert one["_id"] != UNKNOWN_ID
    two, three_ = http.post("annotation_connection/multiple", json=[link(dataset, b, c), link(dataset, a, c)])
    assert http.get(f"annotation_connection/{two['_id']}") == two
    lists = {"datasetId": dataset}
    assert http.get("/annotation_connection/", **lists) == [one, two, three_]
    assert http.get("annotation_connection", **lists, parentId=a) == [one, three_]
    assert http.get("annotation_connection", **lists, childId=c, parentId=b) == [two]
    assert http.get("annotation_connection", **lists, nodeAnnotationId=b) == [one, two]
    assert http.get("annotation_connection", **lists, limit=1, offset=1) == [two]
    assert http.get("annotation_connection", **lists, sortdir=-1, limit=0) == [three_, two, one]
    assert http.get("annotation_connection", **lists, afterId=one["_id"], offset=1, limit=5) == [two, three_]
    assert http.get("annotation_connection/count", **lists) == {"count": 3}
    assert http.get("annotation_connection", datasetId=http.new_dataset()) == []


def test_connections_that_are_refused(http: Http, dataset: str, three: list[str]) -> None:
    a, b, _ = three
    good = link(dataset, a, b)
    for bad, status, message in (
        ({**good, "parentId": UNKNOWN_ID}, 400, "A parent annotation does not exist"),
        ({**good, "childId": UNKNOWN_ID}, 400, "A child annotation does not exist"),
        ({**good, "datasetId": UNKNOWN_ID}, 403, f"Dataset(s) not found: [ObjectId('{UNKNOWN_ID}')]"),
        ({**good, "datasetId": http.new_folder()}, 400, "Connection dataset ID is invalid"),
        ({**good, "tags": [1]}, 400, "data.tags[0] must be string"),
        ({**good, "label": None}, 400, "data.label must be string"),
        ({**good, "parentId": 1}, 400, "data.parentId must be objectId"),
        ({"datasetId": dataset}, 400, "data must contain ['childId', 'parentId', 'tags'] properties"),
        (1, 400, "data must be object"),
    ):
        assert http.refused("POST", "annotation_connection", json=bad) == (status, message)
        assert http.refused("POST", "annotation_connection/multiple", json=[good, bad]) == (status, message)
    assert http.refused("POST", "annotation_connection/multiple", json={})[0] == 400
    assert http.get("annotation_connection/count", datasetId=dataset) == {"count": 0}
    assert http.refused("GET", "annotation_connection") == (400, 'Parameter "datasetId" is required.')
    assert http.refused("GET", "annotation_connection", datasetId=UNKNOWN_ID) == (403, "Access denied to dataset")
    assert http.refused("GET", "annotation_connection", datasetId=dataset, parentId="x") == (
        400,
        "Invalid ObjectId: x",
    )
    assert http.refused("GET", f"annotation_connection/{UNKNOWN_ID}") == (
        400,
        f"Invalid annotation_connection id ({UNKNOWN_ID}).",
    )


def test_connections_change(http: Http, dataset: str, three: list[str]) -> None:
    a, b, c = three
    made = http.post("annotation_connection", json=link(dataset, a, b))
    path = f"annotation_connection/{made['_id']}"
    assert http.put(path, json={"parentId": c, "label": "new", "extra": 1}) is None
    assert http.get(path) == {**made, "parentId": c, "label": "new"}
    assert http.get("annotation_connection", datasetId=dataset, parentId=c) == [http.get(path)]
    assert http.refused("PUT", path, json={"parentId": UNKNOWN_ID})[0] == 400
    assert http.refused("PUT", path, json={"tags": None})[0] == 400
    assert http.refused("PUT", path, json={"datasetId": UNKNOWN_ID})[0] == 403
    assert http.refused("PUT", f"annotation_connection/{UNKNOWN_ID}", json={})[0] == 400


def test_connections_are_deleted_alone_and_with_their_annotations(http: Http, dataset: str, three: list[str]) -> None:
    a, b, c = three
    made = http.post(
        "annotation_connection/multiple",
        json=[link(dataset, a, b), link(dataset, b, c), link(dataset, c, a), link(dataset, a, c)],
    )
    ids = [document["_id"] for document in made]
    assert http.delete(f"annotation_connection/{ids[3]}") is None
    assert http.refused("DELETE", f"annotation_connection/{ids[3]}")[0] == 400
    assert http.refused("DELETE", "annotation_connection/multiple", json=["x"]) == (400, "Invalid ObjectId: x")
    http.delete(f"upenn_annotation/{a}")
    assert http.get("annotation_connection", datasetId=dataset) == [made[1]]
    assert http.delete("annotation_connection/multiple", json=ids) is None
    assert http.get("annotation_connection/count", datasetId=dataset) == {"count": 0}


def test_nearest_at_the_same_place_only(http: Http, dataset: str) -> None:
    near, far = create(http, point(dataset, 10, 10, location={"XY": 0, "Z": 1, "Time": 0}), point(dataset, 50, 10))
    other = create(http, point(http.new_dataset(), 11, 11))
    (child,) = create(http, point(dataset, 11, 11))
    assert connect(http, [child]) == {child: far}
    assert near != far
    assert other
    (made,) = http.get("annotation_connection", datasetId=dataset)
    assert made["tags"] == []
    # The order of the keys of a location does not matter, a missing one does.
    (moved, partial) = create(
        http,
        point(dataset, 0, 0, location={"Time": 0, "Z": 1, "XY": 0}),
        point(dataset, 0, 0, location={"Time": 0, "XY": 0}),
    )
    assert connect(http, [moved, partial]) == {moved: near}


def test_nearest_by_tags_and_channel(http: Http, dataset: str) -> None:
    a, b, c = create(
        http,
        point(dataset, 1, 0, tags=["a"], channel=1),
        point(dataset, 2, 0, tags=["b", "x"]),
        point(dataset, 3, 0, tags=["c"], channel=1),
    )
    (child,) = create(http, point(dataset, 0, 0))
    assert connect(http, [child]) == {child: a}
    assert connect(http, [child], tags=["c", "b"]) == {child: b}
    assert connect(http, [child], tags=["c"]) == {child: c}
    assert connect(http, [child], channel=0) == {child: b}
    assert connect(http, [child], tags=["c", "b"], channel=1) == {child: c}
    assert connect(http, [child], tags=["none"]) == {}
    # Never to one that is being connected itself.
    assert connect(http, [child, a]) == {child: b, a: b}
    assert http.get("annotation_connection/count", datasetId=dataset) == {"count": 7}


def test_nearest_by_the_mean_of_the_vertices(http: Http, dataset: str) -> None:
    square = [{"x": x, "y": y} for x, y in ((0, 0), (10, 0), (10, 10), (0, 10))]
    polygon, line, rectangle = create(
        http,
        annotation(dataset, coordinates=square),
        annotation(dataset, shape="line", coordinates=[{"x": 12, "y": 5}, {"x": 30, "y": 5}]),
        annotation(dataset, shape="rectangle", coordinates=square),
    )
    left, right = create(http, point(dataset, 11, 5), point(dataset, 20, 5))
    assert connect(http, [left, right]) == {left: polygon, right: line}
    # A rectangle is near to nothing.
    assert connect(http, [rectangle]) == {}
    assert connect(http, [polygon, line, left, right]) == {}


def test_what_cannot_be_connected(http: Http, dataset: str, three: list[str]) -> None:
    assert connect(http, []) == {}
    assert connect(http, [UNKNOWN_ID, three[0]]) == {three[0]: three[1]}
    for bad in (
        {},
        {"annotationsIds": "x", "tags": [], "channelId": None},
        {"annotationsIds": [1], "tags": [], "channelId": None},
        {"annotationsIds": ["zzz"], "tags": [], "channelId": None},
        {"annotationsIds": [], "tags": "x", "channelId": None},
        {"annotationsIds": [], "tags": [1], "channelId": None},
        {"annotationsIds": [], "tags": [], "channelId": "1"},
        {"annotationsIds": [], "tags": [], "channelId": 2**70},
        [],
    ):
        assert http.refused("POST", "annotation_connection/connectTo", json=bad)[0] == 400
    ids = {"annotationsIds": three[1:], "tags": None, "channelId": None}
    assert len(http.post("annotation_connection/connectTo", json=ids)) == 2


def test_nearest_of_many_is_what_a_search_finds() -> None:
    rng = random.Random(1)
    points, candidates = (np.array([[rng.randrange(30), rng.randrange(30)] for _ in range(n)], float) for n in (80, 60))
    expected = [
        min(range(60), key=lambda index: (math.dist(child, candidates[index]), index)) for child in points.tolist()
    ]
    assert nearest_points(points, candidates) == expected
