"""Selection by tag and place, axes of a dataset, lists of annotations, layers, units, points in polygons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_utilities import annotation_tools as tools
from annotation_utilities.errors import AnnotationError, InvalidGeometryError
from annotation_utilities.frames import channel_count, frame_to_large_image_params, get_frame_index, index_range
from annotation_utilities.geometry import geometries_to_labels
from annotation_utilities.point_in_polygon import point_in_polygon
from annotation_utilities.selection import find_matching_annotations_by_location, group_by_location, location_of
from annotation_utilities.units import convert_units


def element(number: int, *tags: str, **location: int) -> dict[str, Any]:
    return {"_id": number, "tags": list(tags), "location": location}


def ids(elements: list[dict[str, Any]]) -> list[int]:
    return [element["_id"] for element in elements]


TAGGED = [element(1, "a"), element(2, "a", "b"), element(3, "c"), element(4), {"_id": 5, "tags": None}, {"_id": 6}]
PLACED = [
    element(1, XY=0, Z=0, Time=0),
    element(2, XY=1, Z=0, Time=0),
    element(3, XY=1, Z=2, Time=0),
    element(4, XY=1, Z=2, Time=3),
    element(5, XY=1),
    {"_id": 6},
]


def test_tags() -> None:
    assert ids(tools.get_annotations_with_tags(TAGGED, ["a", "c"])) == [1, 2, 3]
    assert ids(tools.get_annotations_with_tags(TAGGED, ["b", "a"], exclusive=True)) == [2]
    assert ids(tools.get_annotations_with_tags(TAGGED, [])) == [1, 2, 3, 4, 5, 6]
    assert ids(tools.get_annotations_with_tags(TAGGED, [], exclusive=True)) == [4, 5, 6]
    assert ids(tools.get_annotations_with_tag(TAGGED, "a")) == [1, 2]
    assert ids(tools.get_annotations_with_tag(TAGGED, "a", exclusive=True)) == [1]
    # A tag is not looked for in the letters of another.
    assert ids(tools.get_annotations_with_tags([element(1, "abc")], ["a"])) == []


def test_places() -> None:
    assert location_of(PLACED[3]) == (1, 2, 3)
    assert location_of(PLACED[4]) == (1, 0, 0)
    assert location_of({"location": None}) == (0, 0, 0)
    groups = group_by_location(reversed(PLACED))
    assert {place: ids(group) for place, group in groups.items()} == {
        (0, 0, 0): [6, 1],
        (1, 0, 0): [5, 2],
        (1, 2, 0): [3],
        (1, 2, 3): [4],
    }
    assert list(groups) == sorted(groups)


def test_matching_places() -> None:
    source = PLACED[2]
    assert ids(find_matching_annotations_by_location(source, PLACED)) == [3]
    assert ids(find_matching_annotations_by_location(source, PLACED, Time=False)) == [3, 4]
    assert ids(find_matching_annotations_by_location(source, PLACED, Z=False)) == [2, 3, 5]
    assert ids(find_matching_annotations_by_location(source, PLACED, False, False, False)) == [1, 2, 3, 4, 5, 6]
    assert ids(tools.filter_elements_T_XY(PLACED, 0, 1)) == [2, 3, 5]
    assert ids(tools.filter_elements_T_XY_Z(PLACED, 3, 1, 2)) == [4]
    assert ids(tools.filter_elements_Z_XY(PLACED, 2, 1)) == [3, 4]


def test_axes() -> None:
    one = {"IndexXY": 1, "IndexZ": 1, "IndexT": 1, "IndexC": 1}
    for tiles in (
        {},
        {"IndexRange": None, "frames": None},
        {"IndexRange": {}, "frames": []},
        {"frames": [{"Frame": 0}]},
    ):
        assert index_range(tiles) == one
    named = {
        "IndexRange": {"IndexC": 2, "IndexT": 2, "IndexS": 5},
        "channels": ["DAPI", "GFP"],
        "frames": [{"Channel": "DAPI", "Frame": 0, "Index": 0, "IndexC": 0, "IndexT": 0}],
    }
    assert index_range(named) == {**one, "IndexC": 2, "IndexT": 2, "IndexS": 5}
    assert channel_count(named) == 2
    unnamed = {"frames": [{"Frame": k, "IndexZ": k // 2, "IndexC": k % 2} for k in range(6)]}
    assert index_range(unnamed) == {**one, "IndexZ": 3, "IndexC": 2}


def test_frames() -> None:
    frame = {"Frame": 3, "Index": 1, "IndexC": 1, "IndexZ": None, "IndexXY": 4, "Channel": "DAPI"}
    assert [get_frame_index(frame, axis) for axis in ("C", "IndexC", "Z", "T", "XY")] == [1, 1, 0, 0, 4]
    assert get_frame_index(frame, "T", default=-1) == -1
    for wrong in ("", "c", "Index", "Channel"):
        with pytest.raises(AnnotationError, match="no axis"):
            get_frame_index(frame, wrong)
    assert frame_to_large_image_params({**frame, "IndexZ": 2, "IndexS": 7}) == {"c": 1, "z": 2, "xy": 4, "s": 7}
    assert frame_to_large_image_params({"Frame": 0, "Index": 0}) == {}


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (0.000219, "mm", "µm", 0.219),
        (3, "m", "nm", 3e9),
        (3, "nm", "m", 3e-9),
        (0.5, "\u00b5m", "\u03bcm", 0.5),
        (250, "nm", "\u03bcm", 0.25),
        (1.5, "mm", "mm", 1.5),
    ],
)
def test_units(value: float, unit: str, to: str, expected: float) -> None:
    assert convert_units({"value": value, "unit": unit}, to) == {
        "value": expected,
        "unit": to,
    }


def test_units_that_are_no_length() -> None:
    for unit, to in (("s", "m"), ("m", "px")):
        with pytest.raises(AnnotationError, match="no unit of length"):
            convert_units({"value": 1, "unit": unit}, to)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-2, 12, allow_subnormal=False)] * 2), min_size=1, max_size=20))
def test_points_in_polygons(points: list[tuple[float, float]]) -> None:
    bent = [(0, 0), (10, 0), (10, 10), (5, 2), (0, 10)]
    inside = point_in_polygon(np.array(points), np.array(bent))
    assert inside.dtype == bool
    assert inside.tolist() == [shapely.Polygon(bent).contains(shapely.Point(point)) for point in points]


def test_points_in_no_polygon() -> None:
    assert point_in_polygon(np.empty((0, 2)), [(0, 0), (1, 0), (0, 1)]).shape == (0,)
    with pytest.raises(InvalidGeometryError):
        point_in_polygon([(0, 0)], [(0, 0), (1, 1)])


def test_polygons_of_annotations_and_annotations_of_row_column_polygons() -> None:
    drawn = {
        "shape": "polygon",
        "coordinates": [{"x": 1, "y": 2}, {"x": 7, "y": 2}, {"x": 7, "y": 5}, {"x": 1, "y": 5}],
    }
    (polygon,) = tools.annotations_to_polygons(drawn)
    assert polygon.bounds == (1, 2, 7, 5)
    assert len(tools.annotations_to_polygons([drawn, drawn])) == 2
    with pytest.raises(InvalidGeometryError):
        tools.annotations_to_polygons([drawn, {"coordinates": []}])

    row_column = shapely.box(2, 1, 5, 7)
    parts = shapely.MultiPolygon([shapely.box(20, 20, 21, 21), row_column])
    empty = shapely.Polygon()
    made = tools.polygons_to_annotations([row_column, empty, parts], "5f", XY=1, Time=2, Z=3, tags=["a"], channel=4)
    assert len(made) == 2
    for annotation in made:
        corners = {(vertex["x"], vertex["y"]) for vertex in annotation.pop("coordinates")}
        assert corners == {(1, 2), (7, 2), (7, 5), (1, 5)}
        assert annotation == {
            "shape": "polygon",
            "datasetId": "5f",
            "location": {"XY": 1, "Time": 2, "Z": 3},
            "tags": ["a"],
            "channel": 4,
        }
    (alone,) = tools.polygons_to_annotations(row_column, "5f")
    assert len(alone["coordinates"]) == 4
    assert alone["tags"] == []


def test_points_and_back() -> None:
    drawn = [{"coordinates": [{"x": 3.5, "y": 1.5, "z": 0}]}, {"coordinates": [{"x": 8, "y": 9}]}]
    points = tools.annotations_to_points(drawn)
    assert [(point.x, point.y) for point in points] == [(1.5, 3.5), (9, 8)]
    assert tools.annotations_to_points(drawn[0]) == points[:1]
    made = tools.points_to_annotations(points, "5f", Z=2, tags=["a"])
    assert [annotation["coordinates"] for annotation in made] == [[{"x": 3.5, "y": 1.5}], [{"x": 8.0, "y": 9.0}]]
    assert made[0]["shape"] == "point"
    assert made[0]["tags"] == ["a"]
    assert made[0]["location"] == {"XY": 0, "Time": 0, "Z": 2}


def test_samples_to_train_on() -> None:
    image = np.ones((4, 4))
    used = geometries_to_labels({1: shapely.box(0, 0, 2, 2)}, (4, 4))
    images, labels, dropped = tools.filter_usable_training_samples(
        [image, image, np.ones((0, 4)), image], [np.zeros((4, 4)), used, np.ones((0, 4)), np.full((4, 4), -1)]
    )
    assert (len(images), len(labels), dropped) == (1, 1, 3)
    assert labels[0] is used
    with pytest.raises(ValueError, match=r"longer|shorter"):
        tools.filter_usable_training_samples([image], [])


class Answers:
    """A client that knows the answers to two requests of the platform."""

    def __init__(self, views: list[dict[str, Any]], configuration: dict[str, Any]) -> None:
        self._answers = {"dataset_view": views, "upenn_collection/c1": configuration}

    def get(self, path: str, parameters: dict[str, Any] | None = None) -> Any:
        assert parameters == ({"datasetId": "5f"} if path == "dataset_view" else None)
        return self._answers[path]


def test_layers() -> None:
    views = [{"configurationId": "c1"}, {"configurationId": "c2"}]
    assert tools.get_layers(Answers(views, {"meta": {"layers": [{"channel": 0}]}}), "5f") == [{"channel": 0}]
    with pytest.raises(AnnotationError, match="Open it once"):
        tools.get_layers(Answers([], {}), "5f")
    for meta in ({}, {"meta": None}, {"meta": {"layers": []}}):
        with pytest.raises(AnnotationError, match="Save the contrast settings"):
            tools.get_layers(Answers(views, meta), "5f")


class Frames:
    """A tile client over frames in memory."""

    def __init__(self, tiles: dict[str, Any]) -> None:
        self.tiles = tiles

    def coordinatesToFrameIndex(self, XY: int, Z: int = 0, T: int = 0, channel: int = 0) -> int:
        return 1000 * XY + 100 * Z + 10 * T + channel

    def getRegion(self, datasetId: str, *, frame: int) -> Any:
        return np.full((2, 3, 1), frame)


def test_images_of_all_channels() -> None:
    images = tools.get_images_for_all_channels(Frames({"IndexRange": {"IndexC": 2}}), "5f", 3, 2, 1)
    assert [int(image[0, 0, 0]) for image in images] == [3210, 3211]
    assert len(tools.get_images_for_all_channels(Frames({}), "5f", 0, 0, 0)) == 1


def layer(channel: int, color: str, **changes: Any) -> dict[str, Any]:
    contrast = {"mode": "absolute", "blackPoint": 0, "whitePoint": 100}
    return {"channel": channel, "color": color, "visible": True, "contrast": contrast, **changes}


def test_merged_channels() -> None:
    first = np.array([[0, 50], [100, 200]], np.uint16)
    second = np.array([[100, 50], [0, 100]], np.uint16)[:, :, None]
    images = [first, second]
    lighten = tools.process_and_merge_channels(images, [layer(1, "#00ff00"), layer(0, "#ff0000")])
    np.testing.assert_allclose(lighten[..., 0], [[0, 0.5], [1, 1]])
    np.testing.assert_allclose(lighten[..., 1], [[1, 0.5], [0, 1]])
    assert not lighten[..., 2].any()
    white = [layer(0, "#FFFFFF"), layer(1, "#FFFFFF")]
    for mode, expected in (("lighten", 0.5), ("add", 1.0), ("screen", 0.75)):
        assert tools.process_and_merge_channels(images, white, mode)[0, 1, 0] == expected
    hidden = [layer(0, "#ffffff", visible=False), layer(1, "#ffffff")]
    np.testing.assert_allclose(tools.process_and_merge_channels(images, hidden)[..., 0], second[..., 0] / 100)


def test_contrast() -> None:
    image = np.arange(101.0).reshape(1, 101)
    percentile = layer(0, "#ffffff", contrast={"mode": "percentile", "blackPoint": 10, "whitePoint": 90})
    merged = tools.process_and_merge_channels([image], [percentile])[0, :, 0]
    np.testing.assert_allclose(merged, np.clip((image[0] - 10) / 80, 0, 1))
    flat = layer(0, "#ffffff", contrast={"mode": "absolute", "blackPoint": 7, "whitePoint": 7})
    assert tools.process_and_merge_channels([image], [flat]).sum() == 3 * 93


@pytest.mark.parametrize(
    ("layers", "mode", "reason"),
    [
        ([layer(0, "#ffffff")], "multiply", "no way to merge"),
        ([layer(0, "#ffffff", visible=False)], "add", "No layer is visible"),
        ([layer(1, "#ffffff")], "add", "shows channel 2; the dataset has 1"),
        ([layer(0, "red")], "add", "no colour"),
        ([layer(0, "#ffffff", contrast={"mode": "x", "blackPoint": 0, "whitePoint": 1})], "add", "no contrast mode"),
    ],
)
def test_layers_that_cannot_be_merged(layers: list[dict[str, Any]], mode: str, reason: str) -> None:
    with pytest.raises(AnnotationError, match=reason):
        tools.process_and_merge_channels([np.zeros((2, 2))], layers, mode)


def test_the_names_under_one_roof_are_there() -> None:
    assert all(callable(getattr(tools, name)) for name in tools.__all__)
