"""What workers say about themselves, and the helpers of workers that measure."""

from __future__ import annotations

import pickle
from typing import Any

import annotation_client_fixtures as fixtures
import numpy as np
import pytest
from scripted_server import RESET_AFTER, Answer, Request, ScriptedServer

from annotation_client import workers
from annotation_client.errors import ClientError, DatasetError
from annotation_client.workers import UPennContrastWorkerClient, UPennContrastWorkerPreviewClient

FRAMES = np.arange(4 * 6, dtype=np.uint16).reshape(4, 2, 3)
server = fixtures.server


@pytest.fixture
def measuring(server: ScriptedServer) -> ScriptedServer:
    """A server with a dataset of two channels and two planes."""
    places = [{"IndexC": number % 2, "IndexZ": number // 2, "Frame": number} for number in range(4)]
    metadata = {"sizeX": 3, "sizeY": 2, "bandCount": 1, "dtype": "uint16", "frames": places}
    server.on("GET", "/folder/d", Answer({"_id": "d", "meta": {}}))
    server.on("GET", "/item", Answer([{"_id": "i", "name": "n", "largeImage": {"fileId": "f"}}]))
    server.on("GET", "/item/i/tiles", Answer(metadata))

    def region(request: Request) -> Any:
        return Answer(pickle.dumps(FRAMES[int(request.query["frame"])][:, :, None]))

    server.on("GET", "/item/i/tiles/region", region)
    return server


def worker(server: ScriptedServer, **params: Any) -> UPennContrastWorkerClient:
    return UPennContrastWorkerClient("d", server.url, "t", {"id": "property1", "workerInterface": {}, **params})


def annotation(z: int = 0, channel: int = 0) -> dict[str, Any]:
    return {"_id": f"a{z}", "location": {"XY": 0, "Z": z, "Time": 0}, "channel": channel}


def test_an_interface_is_set_for_its_image(server: ScriptedServer) -> None:
    server.on("POST", "/worker_interface", Answer(fault=RESET_AFTER), lambda request: {"interface": request.json})
    client = UPennContrastWorkerPreviewClient(server.url, "t", connection=server.connect())
    image = "registry.example:5000/annotations/a b&c:latest"
    assert client.setWorkerImageInterface(image, {"Model": {"type": "select"}}) == {
        "interface": {"Model": {"type": "select"}}
    }
    assert server.requests[-1].query == {"image": image} and server.requests[-1].json == {"Model": {"type": "select"}}


def test_a_preview_is_set_for_its_image(server: ScriptedServer) -> None:
    server.on("POST", "/worker_preview", Answer({"_id": "1"}))
    client = UPennContrastWorkerPreviewClient(server.url, "t")
    assert client.setWorkerImagePreview("a:latest", {"text": "x", "image": ""}) == {"_id": "1"}
    assert server.requests[-1].json == {"text": "x", "image": ""}


@pytest.mark.parametrize(
    ("params", "channel"),
    [
        ({"workerInterface": {"Channel": 1}, "channel": 0}, 1),
        ({"workerInterface": {"Channel": 0}, "channel": 1}, 0),
        ({"workerInterface": {"Channel": None}, "channel": 1}, 1),
        ({"workerInterface": {"Channel": ""}, "channel": None}, 1),
        ({"workerInterface": None}, 1),
    ],
)
def test_the_frame_of_an_annotation(measuring: ScriptedServer, params: dict[str, Any], channel: int) -> None:
    client = worker(measuring, **params)
    for z in (0, 1, 1, 0):
        frame = client.get_image_for_annotation(annotation(z, 1))
        np.testing.assert_array_equal(frame, FRAMES[2 * z + channel])
    assert len(measuring.sent("GET", "/item/i/tiles/region")) == 2


def test_the_frames_in_memory_are_bounded(measuring: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_MAX_CACHE_BYTES", 20)
    client = worker(measuring)
    for z in (0, 0, 1, 1, 0):
        client.get_image_for_annotation(annotation(z))
    assert len(measuring.sent("GET", "/item/i/tiles/region")) == 3


def test_an_annotation_outside_the_dataset_is_an_error(measuring: ScriptedServer) -> None:
    with pytest.raises(DatasetError):
        worker(measuring).get_image_for_annotation(annotation(5))


@pytest.mark.parametrize("params", [{"annotationIds": ["1", "2"]}, {"annotationId": "1"}])
def test_annotations_by_id(measuring: ScriptedServer, params: dict[str, Any]) -> None:
    for number in ("1", "2"):
        measuring.on("GET", f"/upenn_annotation/{number}", Answer({"_id": number}))
    expected = [{"_id": "1"}, {"_id": "2"}] if "annotationIds" in params else [{"_id": "1"}]
    assert worker(measuring, **params).get_annotation_list_by_id() == expected
    with pytest.raises(ClientError, match="Select some"):
        worker(measuring).get_annotation_list_by_id()


def test_annotations_by_shape_are_all_of_them(measuring: ScriptedServer) -> None:
    measuring.on(
        "GET", "/upenn_annotation", lambda request: [{"_id": str(n)} for n in range(60)][: int(request.query["limit"])]
    )
    client = worker(measuring)
    assert len(client.get_annotation_list_by_shape("polygon")) == 60
    assert len(client.get_annotation_list_by_shape("polygon", limit=0)) == 60
    assert len(client.get_annotation_list_by_shape("polygon", limit=7)) == 7
    assert measuring.requests[-1].query["shape"] == "polygon"


def test_values_are_saved_without_those_that_are_none(measuring: ScriptedServer) -> None:
    measuring.on("POST", "/annotation_property_values", Answer(None))
    measuring.on("POST", "/annotation_property_values/multiple", Answer(None))
    client = worker(measuring)
    client.add_annotation_property_values({"_id": "a"}, np.float32(0.5))
    client.add_annotation_property_values({"_id": "a"}, {"mean": 1, "max": 2})
    client.add_annotation_property_values({"_id": "a"}, float("nan"))
    sent = measuring.sent("POST", "/annotation_property_values")
    assert [request.json for request in sent] == [{"property1": 0.5}, {"property1": {"mean": 1, "max": 2}}]
    assert sent[0].query == {"datasetId": "d", "annotationId": "a"}
    client.add_multiple_annotation_property_values({"d": {"a": 1, "b": np.nan, "c": np.int64(3)}})
    assert measuring.requests[-1].json == [
        {"datasetId": "d", "annotationId": "a", "values": {"property1": 1}},
        {"datasetId": "d", "annotationId": "c", "values": {"property1": 3}},
    ]
