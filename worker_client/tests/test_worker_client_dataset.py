"""`WorkerClient` against a server: positions, images, stacks, and what is uploaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shapely
from worker_client_platform import Platform
from worker_client_processes import DATASET, TOKEN, Output

from annotation_utilities.errors import BatchRangeError, InterfaceValueError
from worker_client import WorkerClient, WorkerError

SHAPE = (2, 3, 4, 2, 5, 7)  # XY, Z, Time, channel, height, width
SQUARE = [(1, 1), (4, 1), (4, 4), (1, 4)]
HERE = {"XY": 1, "Z": 2, "Time": 3}


@pytest.fixture
def platform() -> Iterator[Platform]:
    pixels = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE) * 7
    with Platform(pixels) as server:
        yield server


def make_worker(platform: Platform, values: dict[str, Any] | None = None, **params: Any) -> WorkerClient:
    """A worker whose tool was started at XY 1, Z 2, Time 3 in channel 1."""
    complete = {
        "assignment": HERE,
        "channel": 1,
        "connectTo": {"tags": [], "layer": None, "channel": None},
        "tags": ["spot"],
        "tile": HERE,
        "workerInterface": values or {},
        **params,
    }
    return WorkerClient(DATASET, platform.url, TOKEN, complete)


@pytest.mark.parametrize("name", ["channel", "connectTo", "tags", "tile", "workerInterface"])
def test_incomplete_parameters_are_named(name: str, platform: Platform) -> None:
    params = {"channel": 0, "connectTo": {}, "tags": [], "tile": {}, "workerInterface": {}}
    del params[name]
    with pytest.raises(WorkerError, match="incomplete settings") as caught:
        WorkerClient(DATASET, platform.url, TOKEN, params)
    assert caught.value.info == f"missing or not understood: {name}"


@pytest.mark.parametrize("wrong", [{"tile": None}, {"workerInterface": []}])
def test_parameters_of_the_wrong_kind_are_named(wrong: dict[str, Any], platform: Platform) -> None:
    with pytest.raises(WorkerError, match="incomplete settings"):
        make_worker(platform, **wrong)


@pytest.mark.parametrize("channel", [1.5, "x", -1])
def test_a_channel_that_is_none(channel: Any, platform: Platform) -> None:
    with pytest.raises(InterfaceValueError, match="Channel"):
        make_worker(platform, channel=channel)


def test_null_where_the_platform_leaves_things_out(platform: Platform) -> None:
    worker = make_worker(platform, channel=None, connectTo=None)
    assert worker.channel == 0
    assert worker.create_point_annotations(HERE, [[1, 2]]) == 1
    assert platform.connections == []


def test_positions_are_the_tools_own_without_batch_fields(platform: Platform) -> None:
    worker = make_worker(platform)
    assert worker.positions() == [HERE]
    assert (worker.batch_xy, worker.batch_z, worker.batch_time) == ([1], [2], [3])


def test_positions_of_the_batch_fields(platform: Platform) -> None:
    worker = make_worker(platform, {"Batch XY": "all", "Batch Z": "3, 1", "Batch Time": 2})
    places = [(place["XY"], place["Z"], place["Time"]) for place in worker.positions()]
    assert places == [(0, 0, 1), (0, 2, 1), (1, 0, 1), (1, 2, 1)]


@pytest.mark.parametrize("text", ["4", "0", "3-1", "first"])
def test_a_batch_field_outside_the_dataset_is_named(text: str, platform: Platform) -> None:
    worker = make_worker(platform, {"Batch Z": text})
    with pytest.raises(BatchRangeError, match="Batch Z"):
        worker.positions()
    with pytest.raises(BatchRangeError, match="Batch Z"):
        worker.validate_coordinates()
    with pytest.raises(BatchRangeError, match="Batch Z"):
        worker.process(lambda image: [], "polygon")
    assert platform.frames == []


def test_the_batch_field_of_a_stacked_axis_is_ignored(platform: Platform) -> None:
    worker = make_worker(platform, {"Batch Z": "nonsense", "Batch Time": "1-2"})
    worker.validate_coordinates(stack_zs="all")
    assert [(place["Z"], place["Time"]) for place in worker.positions(stack_zs="all")] == [(2, 0), (2, 1)]


@pytest.mark.parametrize(
    ("stacks", "text"),
    [
        ({"stack_channels": [0, 2]}, "no channel 3; in this dataset there are 2 channels"),
        ({"stack_channels": []}, "No channel is chosen"),
        ({"stack_zs": [-1]}, "no Z slice 0; in this dataset there are 3 Z slices"),
        ({"stack_xys": (2,)}, "no XY position 3"),
        ({"stack_times": [4]}, "no time point 5"),
    ],
)
def test_stacks_outside_the_dataset(stacks: dict[str, Any], text: str, platform: Platform) -> None:
    worker = make_worker(platform)
    with pytest.raises(WorkerError, match=text):
        worker.validate_coordinates(**stacks)
    with pytest.raises(WorkerError, match=text):
        worker.get_image_stack(HERE, **stacks)
    assert platform.frames == []


def test_the_tools_channel_must_be_in_the_dataset(platform: Platform) -> None:
    worker = make_worker(platform, channel=2)
    with pytest.raises(WorkerError, match="no channel 3; in this dataset there are 2 channels"):
        worker.validate_coordinates()
    with pytest.raises(WorkerError, match="no channel 3"):
        worker.get_image()
    worker.validate_coordinates(stack_channels=[0])


def test_an_image_is_exact(platform: Platform) -> None:
    worker = make_worker(platform)
    image = worker.get_image(0, 1, 2, 0)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, platform.pixels[0, 1, 2, 0])
    np.testing.assert_array_equal(worker.get_image(), platform.pixels[1, 2, 3, 1])
    np.testing.assert_array_equal(worker.get_image(z=0), platform.pixels[1, 0, 3, 1])


@pytest.mark.parametrize("place", [(2, 0, 0, 0), (0, 3, 0, 0), (0, 0, -1, 0), (0, 0, 0, 2)])
def test_an_image_outside_the_dataset(place: tuple[int, int, int, int], platform: Platform) -> None:
    with pytest.raises(WorkerError, match="There is no"):
        make_worker(platform).get_image(*place)


@pytest.mark.parametrize("location", [HERE, (1, 2, 3), (1, 2, 3, 1)])
def test_stacks_keep_only_stacked_axes(location: Any, platform: Platform) -> None:
    worker, pixels = make_worker(platform), platform.pixels
    np.testing.assert_array_equal(worker.get_image_stack(location), pixels[1, 2, 3, 1])
    np.testing.assert_array_equal(worker.get_image_stack(location, stack_channels=[0]), pixels[1, 2, 3, :1])
    stack = worker.get_image_stack(location, stack_zs="all", stack_channels=[1, 0])
    np.testing.assert_array_equal(stack, pixels[1, :, 3, ::-1])
    stack = worker.get_image_stack(location, "all", "all", [2, 0], "all")
    np.testing.assert_array_equal(stack, pixels[:, :, [2, 0]])
    assert stack.dtype == np.uint16


def test_a_location_may_name_another_channel(platform: Platform) -> None:
    np.testing.assert_array_equal(make_worker(platform).get_image_stack((1, 2, 3, 0)), platform.pixels[1, 2, 3, 0])


def test_a_dataset_with_a_single_frame() -> None:
    with Platform(np.full((1, 1, 1, 1, 3, 4), 9, np.uint8)) as platform:
        worker = make_worker(platform, {"Batch Z": "all"}, channel=0, tile={"XY": 0, "Z": 0, "Time": 0})
        assert worker.positions() == [{"XY": 0, "Z": 0, "Time": 0}]
        assert worker.get_image_stack((0, 0, 0), stack_zs="all").shape == (1, 3, 4)


def test_rings_and_geometries_are_uploaded(platform: Platform) -> None:
    worker = make_worker(platform)
    polygons = [
        SQUARE,
        [*SQUARE, SQUARE[0]],
        np.array(SQUARE, float),
        shapely.Polygon(SQUARE, [[(2, 2), (3, 2), (3, 3)]]),
    ]
    assert worker.create_polygon_annotations(HERE, polygons) == 4
    assert platform.uploads == [4]
    for annotation in platform.annotations:
        corners = [(vertex["x"], vertex["y"]) for vertex in annotation.pop("coordinates")]
        assert len(corners) == 4
        assert shapely.Polygon(corners).equals(shapely.Polygon(SQUARE))
        assert annotation == {
            "_id": annotation["_id"],
            "channel": 1,
            "datasetId": DATASET,
            "location": HERE,
            "shape": "polygon",
            "tags": ["spot"],
        }


def test_an_outline_in_several_parts_counts_once(platform: Platform) -> None:
    parts = shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(4, 0, 6, 2)])
    bow_tie = [(0, 0), (2, 2), (2, 0), (0, 2)]
    assert make_worker(platform).create_polygon_annotations((1, 2, 3), [parts, bow_tie]) == 2
    assert platform.uploads == [4]


def test_outlines_without_area_are_left_out(platform: Platform) -> None:
    worker = make_worker(platform)
    nothing = [
        [],
        [(0, 0), (1, 1)],
        [(0, 0), (1, 1), (2, 2)],
        [(0, 0), (1, np.nan), (2, 0)],
        [(0, 0), (0, np.inf), (2, 0)],
    ]
    nothing += [shapely.Polygon(), shapely.Point(1, 1), shapely.LineString([(0, 0), (1, 1)]), [(1, 2, 3)] * 4]
    assert worker.create_polygon_annotations(HERE, nothing) == 0
    assert platform.uploads == []
    assert worker.create_polygon_annotations(HERE, [*nothing, SQUARE]) == 1


def test_refused_annotations_cost_only_themselves(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    worker = make_worker(platform)
    refused = [(0, 0), (2, 0), (3, 1), (2, 2), (0, 2)]  # the server of these tests does not like five vertices
    two_parts = shapely.MultiPolygon([shapely.Polygon(refused), shapely.box(5, 5, 6, 6)])
    assert worker.create_polygon_annotations(HERE, [SQUARE, refused, SQUARE, two_parts]) == 3
    assert worker.create_polygon_annotations(HERE, [SQUARE, refused]) == 1
    assert len(platform.annotations) == 4
    [warning] = Output(capsys.readouterr().out)
    assert "2 of 5 annotations were not saved" in warning["warning"]
    assert "five is too many" in warning["warning"]


def test_points_are_uploaded(platform: Platform) -> None:
    worker = make_worker(platform)
    assert worker.create_point_annotations(HERE, np.array([[1.5, 2.5], [3.0, np.nan], [4, 5]])) == 2
    first, second = platform.annotations
    assert first["shape"] == "point"
    assert first["location"] == HERE
    assert first["coordinates"] == [{"x": 2.5, "y": 1.5, "z": 2}]
    assert second["coordinates"] == [{"x": 5, "y": 4, "z": 2}]


def test_points_with_a_depth_get_their_own_slice(platform: Platform) -> None:
    assert make_worker(platform).create_point_annotations(HERE, [[0.8, 1, 2], [2.0, 3, 4]]) == 2
    assert [annotation["location"] for annotation in platform.annotations] == [{**HERE, "Z": 0}, {**HERE, "Z": 2}]
    assert platform.annotations[0]["coordinates"] == [{"x": 2, "y": 1, "z": 0.8}]


def test_no_points_are_no_upload(platform: Platform) -> None:
    worker = make_worker(platform)
    assert worker.create_point_annotations(HERE, []) == 0
    assert worker.create_point_annotations(HERE, np.zeros((0, 2))) == 0
    assert worker.create_point_annotations(HERE, [[np.nan, 1]]) == 0
    with pytest.raises(ValueError, match=r"not \(4, 4\)"):
        worker.create_point_annotations(HERE, np.zeros((4, 4)))
    assert platform.uploads == []


@pytest.mark.parametrize("connect_to", [{"tags": ["cell"], "channel": 0}, {"tags": ["cell"]}])
def test_annotations_are_connected(connect_to: dict[str, Any], platform: Platform) -> None:
    worker = make_worker(platform, connectTo=connect_to)
    worker.create_polygon_annotations(HERE, [SQUARE, SQUARE])
    ids = [annotation["_id"] for annotation in platform.annotations]
    assert platform.connections == [{"annotationsIds": ids, "tags": ["cell"], "channelId": connect_to.get("channel")}]
    worker.create_polygon_annotations(HERE, [])
    assert len(platform.connections) == 1


def test_process_uploads_every_position_by_itself(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    worker = make_worker(platform, {"Batch XY": "all", "Batch Time": "1-2"})
    seen: list[Any] = []

    def find(image: Any) -> list[Any]:
        assert len(platform.uploads) == len(seen)
        seen.append(image)
        return [SQUARE] * len(seen)

    assert worker.process(find, "polygon", progress_text="Finding") == 10
    assert platform.uploads == [1, 2, 3, 4]
    expected = [platform.pixels[xy, 2, time, 1] for xy in (0, 1) for time in (0, 1)]
    np.testing.assert_array_equal(seen, expected)
    assert [annotation["location"]["XY"] for annotation in platform.annotations] == [0] * 3 + [1] * 7
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"progress": 0, "title": "Finding", "info": "0/4"}
    assert lines[-1] == {"progress": 1, "title": "Finding", "info": "4/4"}


def test_process_with_points_in_a_stack(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    worker = make_worker(platform, {"Batch XY": "all"})
    assert worker.process(lambda stack: [[z, 1, 1] for z in range(len(stack))], "point", stack_zs="all") == 6
    assert [annotation["location"]["Z"] for annotation in platform.annotations] == [0, 1, 2] * 2
    assert len(platform.frames) == 6
    assert capsys.readouterr().out


def test_process_with_a_function_of_its_own(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    worker = make_worker(platform, {"Batch Z": "1-2"})
    calls = []
    worker.process(lambda image: int(image[0, 0]), lambda location, output: calls.append((location, output)))
    assert calls == [({**HERE, "Z": z}, int(platform.pixels[1, z, 3, 1, 0, 0])) for z in (0, 1)]
    assert platform.uploads == []
    assert capsys.readouterr().out


def test_positions_before_a_failure_are_kept(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    worker = make_worker(platform, {"Batch Z": "all"})
    outputs = iter([[SQUARE], [SQUARE]])
    with pytest.raises(StopIteration):
        worker.process(lambda image: next(outputs), "polygon")
    assert platform.uploads == [1, 1]
    assert capsys.readouterr().out
