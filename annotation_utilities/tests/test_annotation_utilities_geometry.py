"""Annotations, geometries and label masks: round trips, other rasterisers, simplifying and padding."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import shapely
from drawn_annotations import annotation
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from skimage.draw import polygon2mask
from skimage.measure import label as connected_parts

from annotation_utilities.errors import AnnotationError, InvalidGeometryError
from annotation_utilities.geometry import (
    annotation_to_geometry,
    geometries_to_labels,
    geometry_to_coordinates,
    geometry_to_polygon_coords,
    labels_to_geometries,
    pad_geometry,
    simplify_geometry,
)

Labels = NDArray[np.int32]
small_masks = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([-1, 0, 0, 1, 1, 2, 700])
)


def through_annotations(labels: Labels) -> Labels:
    """The mask of the annotations that show a mask's instances."""
    shown = {
        number: annotation_to_geometry({"coordinates": geometry_to_coordinates(geometry)})
        for number, geometry in labels_to_geometries(labels).items()
    }
    return geometries_to_labels(shown, labels.shape)


def discs(seed: int, size: int = 96) -> Labels:
    """Overlapping discs and rings, cut by the borders, some in several parts and with specks missing."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size + 7), np.int32)
    y, x = np.indices(labels.shape)
    for number in rng.permutation(np.arange(1, 60)):
        distance = np.hypot(y - rng.uniform(-3, size + 3), x - rng.uniform(-3, size + 10))
        radius = rng.uniform(1, 12)
        labels[(distance < radius) & (distance >= rng.choice([0, 0.5]) * radius)] = number * 1000
    labels[rng.random(labels.shape) < 0.02] = -1
    return labels


# --- label mask -> geometries -> label mask


@settings(max_examples=300, deadline=None)
@given(small_masks)
@example(np.array([[1, 0], [0, 1]], np.int32))  # a diagonal contact
@example(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.int32))  # a hole that touches the outside at a corner
@example(np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]], np.int32))  # an instance in another's hole
@example(np.zeros((0, 4), np.int32))
def test_labels_survive_the_way_through_geometries(labels: Labels) -> None:
    geometries = labels_to_geometries(labels)
    assert list(geometries) == sorted(set(labels[labels > 0].tolist()))
    for number, geometry in geometries.items():
        assert geometry.is_valid
        assert geometry.area == (labels == number).sum()
        parts = connected_parts(labels == number, connectivity=1).max()
        assert geometry.geom_type == ("Polygon" if parts == 1 else "MultiPolygon")
    np.testing.assert_array_equal(geometries_to_labels(geometries, labels.shape), np.maximum(labels, 0))


@pytest.mark.parametrize("seed", range(5))
def test_discs_survive_the_way_through_geometries(seed: int) -> None:
    labels = discs(seed)
    np.testing.assert_array_equal(
        geometries_to_labels(labels_to_geometries(labels), labels.shape), np.maximum(labels, 0)
    )


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int64, np.uint64])
def test_every_whole_type_is_a_label_mask(dtype: Any) -> None:
    labels = np.array([[0, 1], [1, 0]], dtype)[:, ::-1]
    assert labels_to_geometries(labels)[1].area == 2


def test_large_labels_keep_their_number() -> None:
    labels = np.array([[2**31 - 1, 2**24 + 1]], np.int64)  # neither fits a 32-bit float
    geometries = labels_to_geometries(labels)
    assert list(geometries) == [2**24 + 1, 2**31 - 1]
    np.testing.assert_array_equal(geometries_to_labels(geometries, (1, 2)), labels)


@pytest.mark.parametrize("labels", [np.zeros((2, 2)), np.zeros(4, int), np.full((1, 1), 2**31, np.int64)])
def test_what_is_no_label_mask_is_refused(labels: NDArray[Any]) -> None:
    with pytest.raises(AnnotationError, match=r"label mask|too large"):
        labels_to_geometries(labels)


# --- label mask -> annotations -> label mask


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 2)), st.data()
)
def test_instances_in_one_part_survive_the_way_through_annotations(pattern: NDArray[Any], data: st.DataObject) -> None:
    # Every connected patch is an instance, also those in the holes of others; background only where no hole can be.
    labels = connected_parts(pattern, background=-1, connectivity=1).astype(np.int32)
    at_border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])).tolist()
    background = data.draw(st.sets(st.sampled_from(at_border)))
    labels[np.isin(labels, list(background))] = 0
    np.testing.assert_array_equal(through_annotations(labels), labels)


def test_an_annotation_shows_the_largest_part_without_holes() -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[1:8, 1:8] = 3
    labels[3:6, 3:6] = 0
    labels[10, 10] = 3
    coordinates = geometry_to_coordinates(labels_to_geometries(labels)[3])
    assert sorted((vertex["x"], vertex["y"]) for vertex in coordinates) == [(1, 1), (1, 8), (8, 1), (8, 8)]
    expected = np.zeros_like(labels)
    expected[1:8, 1:8] = 3
    np.testing.assert_array_equal(through_annotations(labels), expected)


# --- filling


def test_a_square_of_seven_pixels() -> None:
    square = annotation_to_geometry(annotation((5, 5), (12, 5), (12, 12), (5, 12)))
    labels = geometries_to_labels({1: square}, (20, 20))
    assert labels.dtype == np.int32
    assert labels.sum() == 49
    assert np.flatnonzero(labels.any(axis=1)).tolist() == list(range(5, 12))
    assert np.flatnonzero(labels.any(axis=0)).tolist() == list(range(5, 12))


star_shapes = st.lists(st.floats(0.5, 14), min_size=3, max_size=14).map(
    lambda radii: [
        (10.1 + radius * math.cos(2 * math.pi * k / len(radii)), 9.7 + radius * math.sin(2 * math.pi * k / len(radii)))
        for k, radius in enumerate(radii)
    ]
)


@settings(max_examples=200, deadline=None)
@given(star_shapes)
def test_filling_agrees_with_scikit_image(vertices: list[tuple[float, float]]) -> None:
    polygon = annotation_to_geometry(annotation(*vertices))
    ours = geometries_to_labels({1: polygon}, (20, 22)) == 1
    # Its coordinates are (row, column) with pixel centres at whole numbers.
    theirs = polygon2mask((20, 22), np.array(vertices)[:, ::-1] - 0.5)
    sure = ~near_outline(polygon, ours.shape)
    np.testing.assert_array_equal(ours[sure], theirs[sure])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-10, 30), st.floats(-10, 30)), min_size=3, max_size=12),
    st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
)
def test_filling_takes_the_pixels_whose_centre_is_inside(
    vertices: list[tuple[float, float]], origin: tuple[int, int]
) -> None:
    try:
        polygon = annotation_to_geometry(annotation(*vertices))
    except InvalidGeometryError:
        return
    ours = geometries_to_labels({1: polygon}, (20, 22), origin=origin) == 1
    x, y = centres(ours.shape, origin)
    sure = ~near_outline(polygon, ours.shape, origin)
    np.testing.assert_array_equal(ours[sure], shapely.contains_xy(polygon, x, y)[sure])


def centres(shape: tuple[int, ...], origin: tuple[int, int] = (0, 0)) -> tuple[NDArray[Any], NDArray[Any]]:
    rows, columns = np.indices(shape)
    return columns + 0.5 + origin[0], rows + 0.5 + origin[1]


def near_outline(polygon: Any, shape: tuple[int, ...], origin: tuple[int, int] = (0, 0)) -> NDArray[np.bool_]:
    """Pixels whose centre is so close to the outline that rounding decides."""
    with np.errstate(all="ignore"):
        distance: NDArray[Any] = shapely.distance(polygon.boundary, shapely.points(*centres(shape, origin)))
    return distance < 1e-6


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 6)] * 2), min_size=2, max_size=6),
    st.randoms(use_true_random=False),
)
def test_overlaps_do_not_depend_on_the_order(boxes: list[tuple[int, ...]], random: Any) -> None:
    geometries = {n: shapely.box(x, y, x + w, y + h) for n, (x, y, w, h) in enumerate(boxes, start=1)}
    labels = geometries_to_labels(geometries, (18, 18))
    shuffled = list(geometries.items())
    random.shuffle(shuffled)
    np.testing.assert_array_equal(geometries_to_labels(dict(shuffled), (18, 18)), labels)
    x, y = centres(labels.shape)
    for number, geometry in geometries.items():
        rivals = [
            other
            for other in geometries
            if (geometries[other].area, -other) < (geometry.area, -number)  # smaller, or of one size and a later label
        ]
        covered = shapely.contains_xy(shapely.union_all([geometries[other] for other in rivals]), x, y)
        np.testing.assert_array_equal(labels == number, shapely.contains_xy(geometry, x, y) & ~covered)


def test_the_smaller_lies_on_top_and_of_equal_ones_the_later() -> None:
    large, small = shapely.box(0, 0, 4, 4), shapely.box(1, 1, 3, 3)
    for geometries in ({1: large, 2: small}, {2: small, 1: large}):
        assert (geometries_to_labels(geometries, (4, 4)) == 2).sum() == 4
    assert (geometries_to_labels({9: small, 1: large}, (4, 4)) == 9).sum() == 4
    assert (geometries_to_labels({5: small, 4: small}, (4, 4)) == 5).sum() == 4


def test_nothing_to_fill() -> None:
    assert geometries_to_labels({}, (2, 3)).shape == (2, 3)
    assert not geometries_to_labels({1: shapely.Polygon()}, (2, 3)).any()
    assert not geometries_to_labels({1: shapely.box(5, 5, 6, 6)}, (2, 3)).any()
    assert geometries_to_labels({1: shapely.box(0, 0, 1, 1)}, (0, 3)).shape == (0, 3)
    for number in (0, -1, 2**31):
        with pytest.raises(AnnotationError, match="numbered from 1"):
            geometries_to_labels({number: shapely.box(0, 0, 1, 1)}, (2, 3))


def test_a_polygon_far_larger_than_the_frame_fills_it() -> None:
    far = 9.9e8
    polygon = annotation_to_geometry(annotation((-far, -far), (far, -far), (far, far), (-far, far)))
    assert geometries_to_labels({1: polygon}, (5, 6), origin=(100, 200)).sum() == 30


# --- rings, simplifying, padding


def test_rings_of_the_parts() -> None:
    parts = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(5, 5, 9, 9)])
    assert [len(ring) for ring in geometry_to_polygon_coords(parts)] == [5, 5]
    (largest,) = geometry_to_polygon_coords(parts, keep_largest_only=True)
    assert set(largest) == {(5, 5), (5, 9), (9, 5), (9, 9)}
    assert geometry_to_polygon_coords(shapely.Polygon([(0, 0), (1, 1), (2, 2)])) == []
    assert geometry_to_polygon_coords(shapely.Polygon()) == []
    assert geometry_to_coordinates(shapely.LineString([(0, 0), (1, 1)])) == []
    mixed = shapely.GeometryCollection([shapely.Point(0, 0), parts])
    assert len(geometry_to_polygon_coords(mixed)) == 2
    assert len(geometry_to_polygon_coords(shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]))) == 2


@settings(max_examples=100, deadline=None)
@given(small_masks, st.floats(0, 5))
def test_simplified_geometries_are_valid_and_near(labels: Labels, tolerance: float) -> None:
    for geometry in labels_to_geometries(labels).values():
        simple = simplify_geometry(geometry, tolerance)
        assert simple.is_valid
        assert simple.area > 0
        assert shapely.get_num_coordinates(simple) <= shapely.get_num_coordinates(geometry)
        assert geometry.hausdorff_distance(simple) <= tolerance + 1e-9 or geometry.geom_type == "MultiPolygon"


def test_simplifying_leaves_out_steps() -> None:
    y, x = np.indices((40, 40))
    disc = labels_to_geometries((np.hypot(y - 20, x - 20) < 15).astype(int))[1]
    simple = simplify_geometry(disc, 1.0)
    assert shapely.get_num_coordinates(simple) < 0.5 * shapely.get_num_coordinates(disc)
    assert simple.area == pytest.approx(disc.area, rel=0.05)
    assert simplify_geometry(disc, 0).equals(disc)


def test_padding_grows_shrinks_splits_and_empties() -> None:
    square = shapely.box(0, 0, 10, 10)
    assert pad_geometry(square, 0).equals(square)
    assert pad_geometry(square, 2).area == pytest.approx(100 + 4 * 20 + math.pi * 4, rel=0.01)
    assert pad_geometry(square, -2).equals(shapely.box(2, 2, 8, 8))
    assert pad_geometry(square, -6).is_empty
    dumbbell = shapely.union_all([square, shapely.box(10, 4, 20, 6), shapely.box(20, 0, 30, 10)])
    assert pad_geometry(dumbbell, -2).geom_type == "MultiPolygon"
    assert geometry_to_coordinates(pad_geometry(square, -6)) == []


def test_many_instances_take_a_fraction_of_a_second() -> None:
    tile = np.zeros((40, 40), np.int32)
    y, x = np.indices(tile.shape)
    tile[np.hypot(y - 20, x - 20) < 15] = 1
    labels = np.zeros((2048, 2048), np.int32)
    labels[:2000, :2000] = np.kron(np.arange(1, 2501, dtype=np.int32).reshape(50, 50), tile)
    start = time.process_time()
    geometries = labels_to_geometries(labels)
    filled = geometries_to_labels(geometries, labels.shape)
    assert time.process_time() - start < 3  # a pass over the mask for each label takes over ten seconds
    assert len(geometries) == 2500
    np.testing.assert_array_equal(filled, labels)
