"""Whatever is sent is stored or refused; and thousands of polygons are quick and take no memory."""

from __future__ import annotations

import json
import math
import random
import time
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench_http import Http, annotation

from workbench.store.store import Store

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("name", "coordinates", "tags", "channel", "location", "shape", "datasetId", "color", "id", "_id")
PATHS = ("upenn_annotation", "upenn_annotation/multiple", "annotation_connection", "annotation_connection/multiple")


@pytest.fixture(scope="module")
def client(served: tuple[Store, Http]) -> Http:
    return served[1]


@pytest.fixture(scope="module")
def dataset(client: Http) -> str:
    return client.new_dataset()


@settings(max_examples=60, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from(FIELDS), JSON | st.just(...), max_size=2),
    z=JSON,
    location=st.dictionaries(st.sampled_from(["XY", "Z", "Time", "other"]), JSON, max_size=2),
)
def test_any_annotation_is_stored_or_refused(
    client: Http, dataset: str, changes: dict[str, Any], z: Any, location: Any
) -> None:
    made = annotation(dataset, location=location)
    if z is not None:
        made["coordinates"].append({"x": 0, "y": 0, "z": z})
    made = {key: value for key, value in {**made, **changes}.items() if value is not ...}
    (stored,) = client.post("upenn_annotation/multiple", json=[annotation(dataset)])
    for method, path, body in (
        ("POST", "upenn_annotation", made),
        ("POST", "upenn_annotation/multiple", [made]),
        ("PUT", f"upenn_annotation/{stored['_id']}", made),
        ("PUT", "upenn_annotation/multiple", [{**made, "_id": stored["_id"]}]),
    ):
        response = client.ask(method, path, data=json.dumps(body).encode())
        assert response.status_code in (200, 400, 403), response.text
        if response.status_code == 200:
            found = client.get("upenn_annotation", datasetId=dataset, sortdir=-1, limit=1)[0]
            if method == "POST":
                assert found["_id"] == (response.json() if isinstance(body, dict) else response.json()[0])["_id"]
            sent = {key: value for key, value in made.items() if key in FIELDS[:8]}
            assert {key: found[key] for key in sent} == sent


@settings(max_examples=60, deadline=None)
@given(body=JSON, method=st.sampled_from(["POST", "PUT", "DELETE"]), path=st.sampled_from(PATHS))
def test_any_body_is_understood_or_refused(client: Http, body: Any, method: str, path: str) -> None:
    response = client.ask(method, path, data=json.dumps(body).encode())
    assert response.status_code in (200, 400, 403), response.text
    info = {"annotationsIds": body, "tags": [], "channelId": None}
    for bad in (body, info, {**info, "annotationsIds": [], "tags": body}, {**info, "channelId": body}):
        response = client.ask("POST", "annotation_connection/connectTo", data=json.dumps(bad).encode())
        assert response.status_code in (200, 400), response.text


@settings(max_examples=30, deadline=None)
@given(body=JSON)
def test_any_metadata_and_interface_come_back_or_are_refused(client: Http, dataset: str, body: Any) -> None:
    data = json.dumps(body).encode()
    response = client.ask("PUT", f"folder/{dataset}/metadata", data=data, allowNull=True)
    assert response.status_code in (200, 400), response.text
    if response.status_code == 200:
        meta = client.get(f"folder/{dataset}")["meta"]
        assert {key: meta[key] for key in body} == body
    response = client.ask("POST", "worker_interface", image="a", data=data)
    assert response.status_code in (200, 400), response.text
    if response.status_code == 200:
        assert client.get("worker_interface", image="a") == body


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
def test_any_bytes_are_refused_politely(client: Http, body: bytes) -> None:
    for path in PATHS:
        assert client.ask("POST", path, data=body).status_code in (200, 400, 403)


def polygon(dataset: str, rng: random.Random) -> dict[str, Any]:
    x, y = rng.random() * 2000, rng.random() * 2000
    angles = [2 * math.pi * vertex / 30 for vertex in range(30)]
    ring = [{"x": x + 8 * math.cos(angle), "y": y + 8 * math.sin(angle)} for angle in angles]
    return annotation(dataset, coordinates=ring, tags=["nucleus"])


def test_thousands_of_polygons_are_quick_and_streamed(client: Http) -> None:
    dataset = client.new_dataset()
    rng = random.Random(0)
    batch = json.dumps([polygon(dataset, rng) for _ in range(1000)]).encode()
    began = time.perf_counter()
    for _ in range(20):
        assert client.ask("POST", "upenn_annotation/multiple", data=batch).status_code == 200
    assert time.perf_counter() - began < 15  # 2 s on a quiet core
    process = psutil.Process()
    before = largest = process.memory_info().rss
    began = time.perf_counter()
    total = 0
    with client.ask("GET", "upenn_annotation", datasetId=dataset, limit=0, stream=True) as response:
        for piece in response.iter_content(2**16):
            total += len(piece)
            largest = max(largest, process.memory_info().rss)
    assert time.perf_counter() - began < 5  # 0.2 s on a quiet core
    assert total > 20_000 * 1_200
    assert largest - before < total / 2
    assert client.get("upenn_annotation/count", datasetId=dataset) == {"count": 20_000}
