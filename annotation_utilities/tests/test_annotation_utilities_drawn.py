"""Annotations as people draw them, and as nobody should."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import shapely
from drawn_annotations import annotation
from hypothesis import example, given, settings
from hypothesis import strategies as st

from annotation_utilities.errors import InvalidGeometryError
from annotation_utilities.geometry import (
    annotation_to_geometry,
    geometries_to_labels,
    geometry_to_coordinates,
    geometry_to_polygon_coords,
)

numbers = st.one_of(
    st.integers(-3, 12),
    st.floats(-5, 15),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.1, 1e-300, 5e-324, 1e9, -1e9, 1e18, 10**400, np.float32(2.5), np.int64(3)]),
)
junk = st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.sampled_from(["3", "nan", [], {}]))
values = st.one_of(numbers, numbers, numbers, junk)
vertices_of_any_kind = st.one_of(
    st.fixed_dictionaries({"x": values, "y": values}),
    st.fixed_dictionaries({"x": numbers}, optional={"y": numbers, "z": numbers}),
    junk,
)
drawn_vertices = st.fixed_dictionaries(
    {"x": st.integers(-3, 12), "y": st.one_of(st.integers(-3, 12), st.floats(-3, 12))}
)

NEARLY_REPEATED = [(-1, 0), (1, 0), (0, -2.9999999999999996), (1, -1), (0, -3), (1, 2), (0, -3)]


def check_geometry(geometry: Any) -> None:
    assert geometry.geom_type in {"Polygon", "MultiPolygon"}
    assert geometry.is_valid
    assert geometry.area > 0
    labels = geometries_to_labels({1: geometry}, (10, 10))
    assert set(np.unique(labels)) <= {0, 1}
    for ring in geometry_to_polygon_coords(geometry):
        assert len(ring) >= 4
        assert ring[0] == ring[-1]
    coordinates = geometry_to_coordinates(geometry)
    assert len(coordinates) >= 3
    assert all(type(value) is float for vertex in coordinates for value in vertex.values())


@settings(max_examples=400, deadline=None)
@given(st.one_of(junk, st.lists(vertices_of_any_kind, max_size=8)))
def test_vertices_of_any_kind_give_a_geometry_or_the_one_error(coordinates: Any) -> None:
    try:
        geometry = annotation_to_geometry({"coordinates": coordinates})
    except InvalidGeometryError as error:
        assert str(error).endswith("Delete this annotation or draw it again.")
    else:
        check_geometry(geometry)


@settings(max_examples=400, deadline=None)
@given(st.lists(drawn_vertices, min_size=3, max_size=15))
@example([{"x": x, "y": y} for x, y in NEARLY_REPEATED])
def test_outlines_that_cross_touch_or_repeat_themselves(coordinates: list[dict[str, float]]) -> None:
    try:
        geometry = annotation_to_geometry({"coordinates": coordinates})
    except InvalidGeometryError:
        # Then all vertices are on one line, or the outline goes back the way that it came.
        assert shapely.Polygon([(v["x"], v["y"]) for v in coordinates]).buffer(0).area < 1e-9
    else:
        check_geometry(geometry)


@pytest.mark.parametrize("broken", [None, [], "text", 3, {}, {"coordinates": None}, {"coordinates": {"x": 1}}])
def test_what_is_no_annotation(broken: Any) -> None:
    with pytest.raises(InvalidGeometryError, match="no list of vertices"):
        annotation_to_geometry(broken)


@pytest.mark.parametrize(
    ("vertices", "reason"),
    [
        ([], "fewer than three"),
        ([(1, 1), (2, 2)], "fewer than three"),
        ([(1, 1), (2, 2), (1, 1), (2, 2)], "fewer than three"),
        ([(0, 0), (1, 1), (2, 2)], "no area"),
        ([(0, 0), (5, 5), (9, 9), (5, 5)], "no area"),
        ([(0, 0), (1, math.nan), (2, 0)], "no number"),
        ([(0, 0), (1, math.inf), (2, 0)], "no number"),
        ([(0, 0), (1, 1e12), (2, 0)], "no number"),
        ([(0, 0), (1, 10**400), (2, 0)], "no number"),
        ([(0, 0), (1, "2"), (2, 0)], "no number"),
        ([(0, 0), (1, True), (2, 0)], "no number"),
        ([(0, 0), (1, None), (2, 0)], "no number"),
    ],
)
def test_outlines_without_an_area(vertices: list[Any], reason: str) -> None:
    with pytest.raises(InvalidGeometryError, match=reason):
        annotation_to_geometry(annotation(*vertices))


def test_vertices_without_an_axis() -> None:
    for point in ({"x": 1}, {"y": 1}, {}):
        with pytest.raises(InvalidGeometryError, match="no number"):
            annotation_to_geometry({"coordinates": [{"x": 0, "y": 0}, {"x": 4, "y": 0}, point]})
    with pytest.raises(InvalidGeometryError, match="no x and y"):
        annotation_to_geometry({"coordinates": [{"x": 0, "y": 0}, (4, 0), (4, 4)]})


def test_the_order_of_the_keys_does_not_matter() -> None:
    corners = [{"y": 0, "x": 5}, {"x": 9, "y": 0}, {"z": 3, "y": 2, "x": 9}, {"y": 2, "x": 5}]
    assert annotation_to_geometry({"coordinates": corners}).bounds == (5, 0, 9, 2)


def test_outlines_that_cross_themselves_are_repaired() -> None:
    eight = annotation_to_geometry(annotation((0, 0), (10, 10), (10, 0), (0, 10)))
    assert (eight.geom_type, eight.area) == ("MultiPolygon", 50)
    twice = [(0, 0), (10, 0), (10, 10), (0, 10)] * 2
    assert annotation_to_geometry(annotation(*twice)).area == 100
    # A lasso that overlaps its own beginning: the overlap is inside, not a hole.
    lasso = annotation_to_geometry(
        annotation((0, 0), (10, 0), (10, 10), (0, 10), (0, 0), (0, -1), (3, -1), (3, 3), (-1, 3))
    )
    assert lasso.contains(shapely.Point(1, 1))
    assert not lasso.interiors
    spike = annotation_to_geometry(annotation((0, 0), (4, 0), (9, 0), (4, 0), (4, 4), (0, 4)))
    assert (spike.geom_type, spike.area) == ("Polygon", 16)
