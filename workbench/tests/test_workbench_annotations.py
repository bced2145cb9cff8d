"""Routes of annotations: what is stored, what is refused and how, and how lists are filtered and paged."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from workbench_http import UNKNOWN_ID, Http, annotation, point, tags_parameter

from workbench.store.store import Store


@pytest.fixture
def dataset(http: Http) -> str:
    return http.new_dataset()


def create(http: Http, *annotations: dict[str, Any]) -> list[dict[str, Any]]:
    created: list[dict[str, Any]] = http.post("upenn_annotation/multiple", json=annotations)
    return created


def count(http: Http, dataset: str) -> int:
    return int(http.get("upenn_annotation/count", datasetId=dataset)["count"])


def tags_of(documents: list[dict[str, Any]]) -> list[str]:
    return [document["tags"][0] for document in documents]


# Creating.


def test_annotation_as_the_platform_shows_it(http: Http, dataset: str) -> None:
    sent = annotation(dataset, location={"Time": 2, "XY": 0})
    made = http.post("/upenn_annotation/", json={**sent, "_id": UNKNOWN_ID})
    assert made.pop("_id") != UNKNOWN_ID
    assert made == sent
    (listed,) = http.get("upenn_annotation", datasetId=dataset)
    assert http.get(f"upenn_annotation/{listed['_id']}") == listed
    assert {**sent, "_id": listed["_id"]} == listed


def test_name_colour_and_other_keys_are_kept(http: Http, dataset: str) -> None:
    (made,) = create(http, annotation(dataset, name="n\u00e9", color="#f00", extra={"a": [None, 1e-3]}))
    assert (made["name"], made["color"], made["extra"]) == ("n\u00e9", "#f00", {"a": [None, 1e-3]})
    assert create(http, {**annotation(dataset), "color": None})[0]["color"] is None


def test_a_batch_comes_back_in_its_order(http: Http, dataset: str) -> None:
    created = create(http, *(point(dataset, number, 0, tags=[str(number)]) for number in range(50)))
    assert tags_of(created) == [str(number) for number in range(50)]
    ids = [document["_id"] for document in created]
    assert ids == sorted(ids)
    assert http.get("upenn_annotation", datasetId=dataset) == created
    assert create(http) == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"coordinates": ...}, "data must contain ['coordinates'] properties"),
    ({"coordinates": ..., "tags": ...}, "data must contain ['coordinates', 'tags'] properties"),
    ({"coordinates": []}, "data.coordinates must contain at least 1 items"),
    ({"coordinates": None}, "data.coordinates must be array"),
    ({"coordinates": [1]}, "data.coordinates[0] must be object"),
    ({"coordinates": [{"x": 1, "y": 1}, {"x": 1}]}, "data.coordinates[1] must contain ['y'] properties"),
    ({"coordinates": [{}]}, "data.coordinates[0] must contain ['x', 'y'] properties"),
    ({"coordinates": [{"x": "1", "y": 1}]}, "data.coordinates[0].x must be number"),
    ({"coordinates": [{"x": 1, "y": True}]}, "data.coordinates[0].y must be number"),
    ({"coordinates": [{"x": 1, "y": 1, "z": None}]}, "data.coordinates[0].z must be number"),
    ({"coordinates": [{"x": 10**400, "y": 1}]}, "data.coordinates must be smaller"),
    ({"coordinates": [{"x": 10**400, "y": 1}], "shape": "rectangle"}, "data.coordinates must be smaller"),
    ({"tags": "a"}, "data.tags must be array"),
    ({"tags": ["a", 1]}, "data.tags[1] must be string"),
    ({"channel": 1.0}, "data.channel must be integer"),
    ({"channel": True}, "data.channel must be integer"),
    ({"channel": 2**64}, "data.channel must be smaller: it does not fit into 64 bits"),
    ({"location": []}, "data.location must be object"),
    ({"location": {"Z": 0.5}}, "data.location.Z must be integer"),
    ({"shape": 1}, "data.shape must be string"),
    ({"shape": "circle"}, "data.shape must be one of ['point', 'line', 'polygon', 'rectangle']"),
    ({"name": None}, "data.name must be string"),
    ({"color": 1}, "data.color must be string or null"),
    ({"datasetId": "zzz"}, "data.datasetId must be objectId"),
    ({"datasetId": ...}, "data must contain ['datasetId'] properties"),
    ({"datasetId": 5}, "data.datasetId must be objectId"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_the_schema_refuses_fails_the_whole_batch(
    http: Http, dataset: str, changes: dict[str, Any], message: str
) -> None:
    bad = {key: value for key, value in {**annotation(dataset), **changes}.items() if value is not ...}
    response = http.ask("POST", "upenn_annotation/multiple", json=[annotation(dataset), bad])
    assert (response.status_code, response.json()) == (400, {"message": message, "type": "validation"})
    assert http.refused("POST", "upenn_annotation", json=bad) == (400, message)
    assert count(http, dataset) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "Request body must be a JSON array."),
        ("[1]", "data must be object"),
        ("[null]", "data must be object"),
        ("[", "Invalid JSON passed in request body."),
        ("", "Invalid JSON passed in request body."),
        ("[NaN]", 'Error: "NaN" is not valid JSON.'),
        ("[-Infinity]", 'Error: "-Infinity" is not valid JSON.'),
    ],
)
def test_bodies_that_are_no_batch(http: Http, body: str, message: str) -> None:
    assert http.refused("POST", "upenn_annotation/multiple", data=body.encode()) == (400, message)


def test_numbers_that_become_infinite_are_refused(http: Http, dataset: str) -> None:
    text = json.dumps([annotation(dataset)]).replace("1.5", "1e999")
    status, message = http.refused("POST", "upenn_annotation/multiple", data=text.encode())
    assert status == 400
    assert "finite" in message
    assert count(http, dataset) == 0


def test_datasets_that_are_none(http: Http, dataset: str) -> None:
    unknown = (403, f"Dataset(s) not found: [ObjectId('{UNKNOWN_ID}')]")
    batch = [annotation(dataset), annotation(UNKNOWN_ID)]
    assert http.refused("POST", "upenn_annotation/multiple", json=batch) == unknown
    assert http.refused("POST", "upenn_annotation", json=annotation(UNKNOWN_ID)) == unknown
    folder = http.new_folder()
    plain = [annotation(dataset), annotation(folder)]
    assert http.refused("POST", "upenn_annotation/multiple", json=plain) == (400, "Annotation dataset ID is invalid")
    assert count(http, dataset) == 0
    assert http.refused("GET", "upenn_annotation", datasetId=UNKNOWN_ID) == (400, f"No such folder: {UNKNOWN_ID}")
    assert http.refused("GET", "upenn_annotation", datasetId="zzz") == (400, "Invalid ObjectId: zzz")
    assert http.refused("GET", "upenn_annotation") == (400, 'Parameter "datasetId" is required.')


def test_identifiers_may_be_in_capitals(http: Http, dataset: str) -> None:
    (made,) = create(http, annotation(dataset.upper()))
    assert made["datasetId"] == dataset
    assert http.get(f"upenn_annotation/{made['_id'].upper()}") == made
    assert http.get("upenn_annotation", datasetId=dataset.upper()) == [made]


# Listing.


@pytest.fixture(scope="module")
def listed(served: tuple[Store, Http]) -> tuple[str, list[dict[str, Any]]]:
    """A dataset with 60 annotations: every third a point, every fourth tagged "b" beside "a"."""
    http = served[1]
    dataset = http.new_dataset()
    made = []
    for number in range(60):
        tags = [str(number), "a"] + ["b"] * (number % 4 == 0) + ['q"&+#%é'] * (number == 7)
        shape = "point" if number % 3 == 0 else "polygon"
        made.append(annotation(dataset, tags=tags, shape=shape, channel=number % 2))
    return dataset, create(http, *made)


def test_lists_are_paged(http: Http, listed: tuple[str, list[dict[str, Any]]]) -> None:
    dataset, everything = listed
    response = http.ask("GET", "upenn_annotation", datasetId=dataset)
    assert response.json() == everything[:50]
    assert response.headers["Girder-Total-Count"] == "60"
    assert response.headers["Content-Type"] == "application/json"
    for limit, offset in ((0, 0), (7, 0), (7, 55), (0, 59), (1, 60), (10**6, 3)):
        got = http.get("upenn_annotation", datasetId=dataset, limit=limit, offset=offset)
        assert got == everything[offset:][: limit or None]
    backwards = http.get("upenn_annotation", datasetId=dataset, limit=0, sort="_id", sortdir=-1)
    assert backwards == everything[::-1]
    by_channel = http.get("upenn_annotation", datasetId=dataset, limit=0, sort="channel")
    assert by_channel == sorted(everything, key=lambda document: (document["channel"], document["_id"]))
    assert http.get("upenn_annotation", datasetId=dataset, limit=0, sort="no such") == everything


def test_pages_after_an_identifier(http: Http, listed: tuple[str, list[dict[str, Any]]]) -> None:
    dataset, everything = listed
    got: list[dict[str, Any]] = []
    while True:
        after = {"afterId": got[-1]["_id"]} if got else {}
        page = http.get("upenn_annotation", datasetId=dataset, limit=25, sort="_id", offset=2 * len(after), **after)
        got += page
        if len(page) < 25:
            break
    assert got == everything
    assert http.refused("GET", "upenn_annotation", datasetId=dataset, afterId="x") == (400, "Invalid ObjectId: x")


def test_lists_by_shape_and_all_of_the_tags(http: Http, listed: tuple[str, list[dict[str, Any]]]) -> None:
    dataset, everything = listed
    for tags in ((), ("a",), ("b",), ("a", "b"), ("b", "a", "8"), ("none",), ("a", "none"), ('q"&+#%é',), ("",)):
        for shape in (None, "point", "rectangle"):
            parameters = {"datasetId": dataset, "tags": tags_parameter(*tags)} | ({"shape": shape} if shape else {})
            expected = [
                document
                for document in everything
                if set(tags) <= set(document["tags"]) and shape in (None, document["shape"])
            ]
            response = http.ask("GET", "upenn_annotation", limit=0, **parameters)
            assert response.json() == expected
            assert response.headers["Girder-Total-Count"] == str(len(expected))
            assert http.get("upenn_annotation/count", **parameters) == {"count": len(expected)}
    assert http.refused("GET", "upenn_annotation", datasetId=dataset, tags='"a"') == (
        400,
        "Parameter tags must be a JSON array.",
    )
    assert http.refused("GET", "upenn_annotation", datasetId=dataset, tags="[a") == (
        400,
        "Parameter tags must be valid JSON.",
    )
    assert http.refused("GET", "upenn_annotation", datasetId=dataset, tags='["\\ud800"]')[0] == 400


def test_lists_of_other_datasets_are_not_mixed_in(http: Http, dataset: str) -> None:
    assert http.get("upenn_annotation", datasetId=dataset) == []
    assert http.ask("GET", "upenn_annotation", datasetId=dataset).text == "[]"
    assert http.get("upenn_annotation", datasetId=http.new_folder()) == []


# Changing and deleting.


def test_update_changes_only_what_the_schema_names(http: Http, dataset: str) -> None:
    (made,) = create(http, annotation(dataset, extra=1))
    changes = {"tags": ["new"], "location": {"XY": 1}, "extra": 2, "_id": UNKNOWN_ID, "name": "n"}
    assert http.put(f"upenn_annotation/{made['_id']}", json=changes) is None
    expected = {**made, "tags": ["new"], "location": {"XY": 1}, "name": "n"}
    assert http.get(f"upenn_annotation/{made['_id']}") == expected
    assert http.get("upenn_annotation", datasetId=dataset, tags='["new"]') == [expected]
    assert http.get("upenn_annotation", datasetId=dataset, tags='["condensate"]') == []
    assert http.refused("PUT", f"upenn_annotation/{made['_id']}", json={"channel": "x"}) == (
        400,
        "data.channel must be integer",
    )
    assert http.refused("PUT", f"upenn_annotation/{made['_id']}", json=[]) == (
        400,
        "Request body must be a JSON object.",
    )
    assert http.refused("PUT", f"upenn_annotation/{UNKNOWN_ID}", json={}) == (
        400,
        f"Invalid upenn_annotation id ({UNKNOWN_ID}).",
    )
    assert http.get(f"upenn_annotation/{made['_id']}") == expected


def test_update_moves_to_another_dataset(http: Http, dataset: str) -> None:
    (made,) = create(http, annotation(dataset))
    other = http.new_dataset()
    http.put(f"upenn_annotation/{made['_id']}", json={"datasetId": other})
    assert (count(http, dataset), count(http, other)) == (0, 1)
    for bad, status in ((UNKNOWN_ID, 403), (http.new_folder(), 400), ("zzz", 400)):
        assert http.refused("PUT", f"upenn_annotation/{made['_id']}", json={"datasetId": bad})[0] == status
    assert count(http, other) == 1


def test_several_updates_are_all_or_nothing(http: Http, dataset: str) -> None:
    made = create(http, *(point(dataset, number, 0) for number in range(3)))
    path = "upenn_annotation/multiple"
    assert http.put(path, json=[{"id": made[0]["_id"], "channel": 1}, {"_id": made[1]["_id"], "name": "n"}]) is None
    now = http.get("upenn_annotation", datasetId=dataset)
    assert now == [{**made[0], "channel": 1}, {**made[1], "name": "n"}, made[2]]
    assert http.put(path, json=[]) == []
    good = {"id": made[2]["_id"], "channel": 5}
    for bad, status, message in (
        ({"id": made[1]["_id"], "tags": 1}, 400, "data.tags must be array"),
        ({"id": UNKNOWN_ID, "channel": 1}, 403, "Write access was denied for one or more annotations."),
        ({"id": "zzz"}, 400, "Invalid annotation id: zzz"),
        ({"id": [1]}, 400, "Invalid annotation id: [1]"),
        ({"channel": 1}, 400, "Each annotation must have an 'id' or '_id' field."),
        (5, 400, "Each annotation update must be a JSON object."),
    ):
        assert http.refused("PUT", path, json=[good, bad]) == (status, message)
    assert http.refused("PUT", path, json={}) == (400, "Request body must be a JSON array.")
    assert http.get("upenn_annotation", datasetId=dataset) == now


def test_deleting(http: Http, dataset: str) -> None:
    made = [document["_id"] for document in create(http, *(point(dataset, number, 0) for number in range(5)))]
    assert http.delete(f"upenn_annotation/{made[0]}") is None
    assert http.refused("DELETE", f"upenn_annotation/{made[0]}")[0] == 400
    assert http.delete("upenn_annotation/multiple", json=[made[1], made[0], UNKNOWN_ID]) is None
    assert count(http, dataset) == 3
    assert http.refused("DELETE", "upenn_annotation/multiple", json=[made[2], "zzz"]) == (400, "Invalid ObjectId: zzz")
    assert http.refused("DELETE", "upenn_annotation/multiple", json=[made[2], 5])[0] == 400
    assert http.refused("DELETE", "upenn_annotation/multiple", json={})[0] == 400
    assert count(http, dataset) == 3
    http.delete(f"folder/{dataset}")
    assert http.refused("GET", f"upenn_annotation/{made[4]}")[0] == 400


def test_writers_and_readers_at_once(http: Http, dataset: str) -> None:
    def write(number: int) -> list[str]:
        client = Http(http.port)
        with client.session:
            batch = [point(dataset, x, number, tags=[str(number)]) for x in range(100)]
            created = [document["_id"] for document in create(client, *batch)]
            # A batch is seen whole.
            for tag in range(12):
                assert client.get("upenn_annotation/count", datasetId=dataset, tags=f'["{tag}"]')["count"] in (0, 100)
        return created

    with ThreadPoolExecutor(6) as pool:
        ids = [identifier for made in pool.map(write, range(12)) for identifier in made]
    assert len(set(ids)) == 1200
    assert [document["_id"] for document in http.get("upenn_annotation", datasetId=dataset, limit=0)] == sorted(ids)
