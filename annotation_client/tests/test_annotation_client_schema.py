"""What is sent follows the platform's schema; what cannot is named."""

from __future__ import annotations

import json
from typing import Any

import annotation_client_fixtures as fixtures
import numpy as np
import pytest
from annotation_examples import DATASET, MULTIPLE, Store, polygon
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import ScriptedServer

from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.errors import RejectedAnnotationsError

server, client = fixtures.server, fixtures.client


def sent(server: ScriptedServer, client: UPennContrastAnnotationClient, annotation: Any) -> Any:
    server.on("POST", "/upenn_annotation", lambda request: request.json)
    return client.createAnnotation(annotation)


def test_numbers_of_numpy_become_plain_ones(server: ScriptedServer, client: UPennContrastAnnotationClient) -> None:
    annotation = polygon(
        coordinates=(
            {"x": np.float32(1.5), "y": np.float64(2.5), "z": np.int64(3)},
            {"x": np.array(4.0), "y": np.uint8(5)},
        ),
        tags=np.array(["a", "b"]),
        channel=np.int32(2),
        location={"XY": np.int64(1), "Z": 2.0, "Time": np.uint16(3)},
        area=np.float32(0.5),
        outline=np.arange(3),
        _id="66aa00000000000000000009",
    )
    assert sent(server, client, annotation) == polygon(
        coordinates=[{"x": 1.5, "y": 2.5, "z": 3}, {"x": 4.0, "y": 5}],
        tags=["a", "b"],
        channel=2,
        location={"XY": 1, "Z": 2, "Time": 3},
        area=0.5,
        outline=[0, 1, 2],
    )


def test_optional_keys(server: ScriptedServer, client: UPennContrastAnnotationClient) -> None:
    assert sent(server, client, polygon(name=None, color=None)) == polygon(color=None)
    assert sent(server, client, polygon(name="ä", color="#ff0000", location={})) == polygon(
        name="ä", color="#ff0000", location={}
    )
    assert sent(server, client, polygon(coordinates=[{"x": 1, "y": 2, "z": None}]))["coordinates"] == [{"x": 1, "y": 2}]


WRONG: list[tuple[Any, str]] = [
    ("text", "is not an object"),
    ({}, "has no coordinates, tags, channel, location, shape, datasetId"),
    (polygon(coordinates=[]), "has no coordinates"),
    (polygon(coordinates=None), "coordinates are not a list"),
    (polygon(coordinates="abc"), "coordinates are not a list"),
    (polygon(coordinates=[(1, 2)]), "no x and y"),
    (polygon(coordinates=[{"x": 1}]), "no x and y"),
    (polygon(coordinates=[None]), "no x and y"),
    (polygon(coordinates=[{"x": "1", "y": 2}]), "'1' is not a number"),
    (polygon(coordinates=[{"x": True, "y": 2}]), "True is not a number"),
    (polygon(coordinates=[{"x": None, "y": 2}]), "None is not a number"),
    (polygon(coordinates=[{"x": float("nan"), "y": 2}]), "not a finite number"),
    (polygon(coordinates=[{"x": 1, "y": float("inf")}]), "not a finite number"),
    (polygon(coordinates=[{"x": 1, "y": np.float32("nan")}]), "not a finite number"),
    (polygon(coordinates=[{"x": 10**400, "y": 1}]), "not a finite number"),
    (polygon(coordinates=[{"x": 1, "y": 1, "z": float("nan")}]), "not a finite number"),
    (polygon(tags="condensate"), "tags are not a list"),
    (polygon(tags=["a", 1]), "tags are not all texts"),
    (polygon(tags=None), "tags are not a list"),
    (polygon(channel="0"), "channel '0' is not a whole number"),
    (polygon(channel=0.5), "channel 0.5 is not"),
    (polygon(channel=True), "channel True is not"),
    (polygon(channel=float("nan")), "channel nan is not"),
    (polygon(location=None), "location is not an object"),
    (polygon(location=[0, 0, 0]), "location is not an object"),
    (polygon(location={"XY": "0"}), "location XY '0' is not"),
    (polygon(shape="circle"), "shape 'circle' is none of"),
    (polygon(shape=None), "shape None is none of"),
    (polygon(datasetId=None), "datasetId None is not the id"),
    (polygon(datasetId="../../user"), "is not the id"),
    (polygon(name=5), "name is not a text"),
    (polygon(color=5), "color is not a text"),
    (polygon(extra=object()), "cannot be written as JSON"),
    (polygon(extra=float("nan")), "cannot be written as JSON"),
]


@pytest.mark.parametrize(("annotation", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_what_the_schema_forbids_is_not_sent(
    server: ScriptedServer, client: UPennContrastAnnotationClient, annotation: Any, reason: str
) -> None:
    server.on("POST", MULTIPLE, Store())
    with pytest.raises(RejectedAnnotationsError, match="cannot be saved") as caught:
        client.createAnnotation(annotation)
    assert reason in str(caught.value)
    created = client.create_annotations([polygon(1), annotation, polygon(2)])
    assert len(created.annotations) == 2
    (rejection,) = created.rejected
    assert rejection.position == 1 and reason in rejection.reason
    assert [len(request.json) for request in server.requests] == [2]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "z", "XY"]), inner),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from([*polygon(), "name", "color", "more"]), value=json_like)
def test_any_value_is_sent_as_strict_json_or_refused(key: str, value: Any) -> None:
    from annotation_client.schema import encode_annotation

    try:
        encoded = encode_annotation({**polygon(), key: value})
    except ValueError:
        return

    def fail(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(encoded, parse_constant=fail)
    assert document["coordinates"] and isinstance(document["channel"], int) and document["datasetId"] == DATASET
