"""The boxes and label masks of annotated regions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from annotation_utilities.errors import InvalidGeometryError
from annotation_utilities.geometry import annotation_to_geometry, geometries_to_labels
from annotation_utilities.regions import Box, crop_box, region_label_mask

FRAME = (20, 24)

outlines = st.lists(st.tuples(st.floats(-8, 32), st.floats(-8, 28)), min_size=3, max_size=9)


def polygon(vertices: list[tuple[float, float]]) -> Any:
    try:
        return annotation_to_geometry({"coordinates": [{"x": x, "y": y} for x, y in vertices]})
    except InvalidGeometryError:
        return shapely.box(2, 2, 9, 9)


polygons = outlines.map(polygon)


@pytest.mark.parametrize(
    ("region", "box"),
    [
        (shapely.box(3, 4, 10, 12), (3, 4, 10, 12)),
        (shapely.box(3.2, 4.9, 10.1, 12.0), (3, 4, 11, 12)),
        (shapely.box(-5, -5, 100, 100), (0, 0, 24, 20)),
        (shapely.box(20, 15, 100, 100), (20, 15, 24, 20)),
        (shapely.box(0.2, 0.2, 0.4, 0.4), (0, 0, 1, 1)),
        (shapely.box(24, 0, 30, 5), None),
        (shapely.box(-5, -5, 0, 0), None),
        (shapely.box(30, 30, 40, 40), None),
        # Its bounds meet the frame, it does not.
        (shapely.Polygon([(-10, 5), (-10, -10), (5, -10)]), None),
        # Only one of its two arms is inside the frame.
        (
            shapely.union_all([shapely.box(2, 2, 4, 6), shapely.box(3, -8, 40, -2), shapely.box(2, -8, 4, 2)]),
            (2, 0, 4, 6),
        ),
    ],
)
def test_boxes(region: Any, box: Box | None) -> None:
    assert crop_box(region, FRAME) == box


@settings(max_examples=200, deadline=None)
@given(polygons)
def test_a_box_holds_all_pixels_of_its_region_and_is_no_larger(region: Any) -> None:
    box = crop_box(region, FRAME)
    inside = geometries_to_labels({1: region}, FRAME) == 1
    if box is None:
        assert not inside.any()
        return
    left, top, right, bottom = box
    assert all(type(side) is int for side in box)
    assert 0 <= left < right <= FRAME[1]
    assert 0 <= top < bottom <= FRAME[0]
    assert inside[top:bottom, left:right].sum() == inside.sum()
    x0, y0, x1, y1 = shapely.intersection(region, shapely.box(0, 0, FRAME[1], FRAME[0])).bounds
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(FRAME[1], x1), min(FRAME[0], y1)
    assert (left <= x0 < left + 1, top <= y0 < top + 1, right - 1 < x1 <= right, bottom - 1 < y1 <= bottom) == (
        True,
    ) * 4


def test_annotations_are_cut_at_the_outline_and_never_moved() -> None:
    region = shapely.box(5, 5, 12, 12)
    across = shapely.box(10, 6, 16, 9)
    beside = shapely.box(12, 5, 14, 12)
    outside = shapely.box(15, 15, 18, 18)
    labels = region_label_mask(region, [across, beside, outside], (4, 4, 14, 13))
    expected = np.full((9, 10), -1)
    expected[1:8, 1:8] = 0
    expected[2:5, 6:8] = labels[2, 6]
    assert labels[2, 6] > 0
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.int32


def test_outside_the_outline_is_ignored_inside_the_box() -> None:
    triangle = shapely.Polygon([(0, 0), (10, 0), (0, 10)])
    labels = region_label_mask(triangle, [], (0, 0, 10, 10))
    rows, columns = np.indices((10, 10))
    clear = rows + columns != 9  # the centres of these lie on the outline
    np.testing.assert_array_equal(labels[clear], np.where(rows + columns < 9, 0, -1)[clear])


def test_a_region_may_have_holes_and_parts() -> None:
    ring = shapely.box(0, 0, 9, 9) - shapely.box(3, 3, 6, 6)
    labels = region_label_mask(ring, [shapely.box(2, 2, 7, 7)], (0, 0, 9, 9))
    assert (labels[3:6, 3:6] == -1).all()
    assert (labels == 1).sum() == 16
    two = shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(4, 4, 6, 6)])
    assert (region_label_mask(two, [], (0, 0, 6, 6)) == 0).sum() == 8


@settings(max_examples=150, deadline=None)
@given(polygons, st.lists(polygons, max_size=6), st.randoms(use_true_random=False))
def test_the_mask_does_not_depend_on_the_order(region: Any, annotations: list[Any], random: Any) -> None:
    box = crop_box(region, FRAME)
    if box is None:
        return
    labels = region_label_mask(region, annotations, box)
    shuffled = list(annotations)
    random.shuffle(shuffled)
    np.testing.assert_array_equal(region_label_mask(region, shuffled, box), labels)
    # The same, drawn over the whole frame and then cut.
    left, top, right, bottom = box
    union = geometries_to_labels(dict(enumerate(annotations, start=1)), FRAME)[top:bottom, left:right]
    inside = geometries_to_labels({1: region}, FRAME)[top:bottom, left:right]
    np.testing.assert_array_equal(labels > 0, (union > 0) & (inside > 0))
    np.testing.assert_array_equal(labels == -1, inside == 0)
    assert labels.max(initial=0) <= len(annotations)


def same_instances(a: NDArray[Any], b: NDArray[Any]) -> bool:
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


def test_of_overlapping_annotations_of_one_size_always_the_same_wins() -> None:
    region = shapely.box(0, 0, 10, 10)
    first, second = shapely.box(1, 1, 5, 5), shapely.box(3, 3, 7, 7)
    masks = [region_label_mask(region, order, (0, 0, 10, 10)) for order in ([first, second], [second, first])]
    np.testing.assert_array_equal(*masks)
    assert same_instances(*masks)
    assert set(np.unique(masks[0])) == {0, 1, 2}


def test_a_small_annotation_stays_visible_in_a_large_one() -> None:
    region = shapely.box(0, 0, 10, 10)
    large, small = shapely.box(1, 1, 9, 9), shapely.box(3, 3, 5, 5)
    for order in ([large, small], [small, large]):
        labels = region_label_mask(region, order, (0, 0, 10, 10))
        assert sorted(np.bincount(labels.ravel())[1:].tolist()) == [4, 60]
