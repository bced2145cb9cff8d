"""From marked regions to samples: the right pixels of the right frame, under the right labels, and all else counted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import shapely
from coded_dataset import COUNTS, HEIGHT, WIDTH, CodedDataset, Location, box, origin_of, shape
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_modules import load_worker_module

from condensatenet.inference.normalize import HIGH_PERCENTILE, LOW_PERCENTILE

training_set = load_worker_module("train/training_set.py")


def collect(
    regions: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    dataset: CodedDataset | None = None,
    channel: int = 0,
) -> Any:
    """Run both steps and return the training set."""
    selection = training_set.select_by_position(regions, annotations)
    return training_set.collect_samples(dataset or CodedDataset(), selection, channel, lambda done, of: None)


def only(samples: Sequence[Any]) -> Any:
    (sample,) = samples
    return sample


# ---- pixels and labels


def test_a_sample_is_the_crop_of_its_own_frame() -> None:
    place = (1, 2, 3)
    dataset = CodedDataset()
    result = collect([box(5, 7, 17, 12, place)], [box(6, 8, 9, 10, place)], dataset, channel=1)
    sample = only(result.samples)
    assert sample.image.shape == (5, 12)
    assert origin_of(sample.image[0, 0]) == (1, 2, 3, 1, 7, 5)
    assert origin_of(sample.image[-1, -1]) == (1, 2, 3, 1, 11, 16)
    assert np.array_equal(sample.image, dataset.frame(1, 2, 3, 1)[7:12, 5:17])
    expected = np.zeros((5, 12), np.int32)
    expected[1:3, 1:4] = 1
    assert np.array_equal(sample.labels, expected)
    assert sample.labels.dtype == np.int32
    assert sample.position == 1
    assert dataset.crops == [(1, 2, 3, 1, (5, 7, 17, 12))]
    assert (result.region_count, result.instance_count) == (1, 1)
    assert (result.without_annotations, result.outside, result.repeated) == (0, 0, 0)


def test_the_intensity_range_is_that_of_the_whole_frame() -> None:
    dataset = CodedDataset()
    sample = only(collect([box(0, 0, 4, 4, (2, 3, 4))], [box(1, 1, 3, 3, (2, 3, 4))], dataset, channel=1).samples)
    expected = np.percentile(dataset.frame(2, 3, 4, 1), (LOW_PERCENTILE, HIGH_PERCENTILE))
    assert sample.intensity_range == tuple(expected)
    assert dataset.measured == [(2, 3, 4, 1)]


def test_pixels_outside_a_triangular_region_are_not_annotated() -> None:
    triangle = shape([(4, 2), (24.2, 2), (4, 22.2)])
    sample = only(collect([triangle], [box(6, 3, 9, 5), box(20, 2, 40, 9)]).samples)
    y, x = np.mgrid[2:23, 4:25]
    expected = np.zeros((21, 21), np.int32)
    expected[(x >= 20) & (y < 9)] = 1  # the larger one has the first number
    expected[1:3, 2:5] = 2
    expected[(x - 4 + 0.5) + (y - 2 + 0.5) > 20.2] = -1
    assert np.array_equal(sample.labels, expected)
    assert 0 < (sample.labels == 1).sum() < 20 and (sample.labels == -1).any()


def test_an_annotation_is_cut_at_the_border_of_its_region_and_of_the_image() -> None:
    dataset = CodedDataset()
    result = collect([box(-20, -10, 8, 6)], [box(-5, -5, 3, 2), box(6, 4, 30, 30)], dataset)
    sample = only(result.samples)
    expected = np.zeros((6, 8), np.int32)
    expected[:2, :3] = 2
    expected[4:, 6:] = 1
    assert np.array_equal(sample.labels, expected)
    assert dataset.crops[0][-1] == (0, 0, 8, 6)


def test_corners_between_pixels_count_by_pixel_centres() -> None:
    result = collect([box(2.6, 2.4, 9.4, 9.6)], [box(4.4, 4.6, 6.6, 6.4)])
    sample = only(result.samples)
    assert origin_of(sample.image[0, 0])[-2:] == (2, 2) and sample.image.shape == (8, 8)
    expected = np.zeros((8, 8), np.int32)
    expected[:, 0] = expected[:, -1] = -1  # columns 2 and 9: their centres are outside
    expected[3:4, 2:5] = 1  # row 5, columns 4 to 6
    assert np.array_equal(sample.labels, expected)


def test_samples_come_in_the_order_of_their_positions_and_progress_is_reported() -> None:
    places = [(2, 0, 0), (0, 3, 0), (0, 0, 4), (1, 1, 1), (0, 0, 0)]
    selection = training_set.select_by_position(
        [box(0, 0, 9, 9, place) for place in places], [box(2, 2, 4, 4, place) for place in places]
    )
    reports: list[tuple[int, int]] = []
    result = training_set.collect_samples(
        CodedDataset(lacking=[(1, 1, 1)]), selection, 0, lambda done, of: reports.append((done, of))
    )
    found = [origin_of(sample.image[0, 0])[:3] for sample in result.samples]
    assert found == [(0, 0, 0), (0, 0, 4), (0, 3, 0), (2, 0, 0)]
    assert [sample.position for sample in result.samples] == [0, 0, 0, 2]
    assert reports == [(done, 5) for done in range(5)]


# ---- regions


def test_overlapping_regions_are_one_sample() -> None:
    regions = [box(2, 2, 12, 12), box(8, 8, 20, 16)]
    result = collect(regions, [box(3, 3, 5, 5), box(9, 9, 14, 11), box(17, 13, 19, 15)])
    sample = only(result.samples)
    assert result.region_count == 2 and result.instance_count == 3
    expected = np.full((14, 18), -1, np.int32)
    expected[:10, :10] = expected[6:, 6:] = 0
    expected[7:9, 7:12] = 1  # whole, although each region cuts it
    (first,), (second,) = np.unique(sample.labels[1:3, 1:3]), np.unique(sample.labels[11:13, 15:17])
    assert {first, second} == {2, 3}
    expected[1:3, 1:3], expected[11:13, 15:17] = first, second
    assert np.array_equal(sample.labels, expected)


def test_regions_side_by_side_are_samples_of_their_own() -> None:
    result = collect([box(0, 0, 5, 5), box(10, 0, 15, 5)], [box(1, 1, 3, 3), box(11, 1, 13, 3)])
    assert sorted(origin_of(sample.image[0, 0])[-1] for sample in result.samples) == [0, 10]
    assert [sample.labels.max() for sample in result.samples] == [1, 1]
    assert result.region_count == 2


def test_regions_of_different_slices_are_never_merged() -> None:
    result = collect([box(0, 0, 9, 9), box(4, 4, 12, 12, (0, 1, 0))], [box(5, 5, 7, 7), box(5, 5, 7, 7, (0, 1, 0))])
    assert [origin_of(sample.image[0, 0])[:3] for sample in result.samples] == [(0, 0, 0), (0, 1, 0)]
    assert result.repeated == 0


@pytest.mark.parametrize(
    "annotation",
    [
        pytest.param(box(20, 10, 25, 15), id="shares an edge"),
        pytest.param(box(20, 20, 25, 25), id="shares a corner"),
        pytest.param(box(19.8, 10, 25, 15), id="covers no pixel centre inside"),
        pytest.param(box(30, 20, 35, 25), id="elsewhere"),
        pytest.param(box(12, 12, 15, 15, (0, 1, 0)), id="on another slice"),
        pytest.param(box(12, 12, 15, 15, (0, 0, 1)), id="at another time"),
    ],
)
def test_a_region_without_an_annotation_inside_is_counted(annotation: dict[str, Any]) -> None:
    dataset = CodedDataset()
    used = [box(0, 0, 8, 8, place) for place in ((0, 0, 0), (0, 1, 0), (0, 0, 1))]
    known = [box(2, 2, 4, 4, place) for place in ((0, 0, 0), (0, 1, 0), (0, 0, 1))]
    result = collect([box(10, 10, 20, 20), *used], [annotation, *known], dataset)
    assert result.without_annotations == 1
    assert result.region_count == 3 and len(result.samples) == 3
    assert {crop[-1] for crop in dataset.crops} == {(0, 0, 8, 8)}


def test_a_position_without_any_annotation_costs_only_its_own_regions() -> None:
    dataset = CodedDataset()
    empty = (1, 0, 0)
    result = collect([box(0, 0, 9, 9, empty), box(0, 0, 9, 9)], [box(2, 2, 4, 4)], dataset)
    assert (result.without_annotations, result.region_count, len(result.samples)) == (1, 1, 1)
    assert dataset.measured == [(0, 0, 0, 0)]


def test_regions_outside_and_at_positions_that_are_lacking_are_counted() -> None:
    dataset = CodedDataset(lacking=[(1, 1, 1)])
    lacking = [box(0, 0, 9, 9, (1, 1, 1)), box(10, 0, 19, 9, (1, 1, 1)), box(0, 0, 9, 9, (0, 4, 0))]
    outside = [
        box(WIDTH, 0, WIDTH + 9, 9),
        box(-9, 0, 0, 9),
        box(0, HEIGHT, 9, HEIGHT + 9),
        box(0, -9, 9, -1),
    ]
    annotations = [box(-50, -50, 90, 90, place) for place in ((0, 0, 0), (1, 1, 1), (0, 4, 0))]
    result = collect([*lacking, *outside, box(3, 3, 9, 9)], annotations, dataset)
    assert result.outside == 7
    assert result.region_count == 1 and only(result.samples).image.shape == (6, 6)
    assert result.without_annotations == 0


def test_a_channel_that_a_position_lacks_leaves_its_regions_out() -> None:
    result = collect([box(0, 0, 9, 9)], [box(1, 1, 3, 3)], channel=COUNTS[3])
    assert (result.outside, result.samples, result.instance_count) == (1, [], 0)


# ---- which annotations


def test_only_annotations_at_positions_of_regions_are_kept() -> None:
    selection = training_set.select_by_position(
        [box(0, 0, 9, 9, (1, 2, 3))],
        [box(1, 1, 2, 2, (1, 2, 3)), box(1, 1, 2, 2, (1, 3, 2)), box(1, 1, 2, 2), shape([(0, 0)], (2, 0, 0))],
    )
    assert list(selection.regions) == list(selection.annotations) == [(1, 2, 3)]
    assert (selection.region_count, selection.annotation_count, selection.malformed) == (1, 1, 0)


def test_a_region_that_has_the_annotation_tag_is_no_object() -> None:
    region, other = box(0, 0, 20, 20), box(21, 0, 30, 9)
    selection = training_set.select_by_position([region, other], [dict(region), dict(other), box(2, 2, 5, 5)])
    assert selection.regions_with_annotation_tag == 2
    assert selection.annotation_count == 1
    result = training_set.collect_samples(CodedDataset(), selection, 0, lambda done, of: None)
    assert (only(result.samples).labels == 1).sum() == 9
    assert result.repeated == 0


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(shape([]), id="no corner"),
        pytest.param(shape([(1, 1), (9, 9)]), id="two corners"),
        pytest.param(shape([(1, 1), (9, 9), (1, 1), (9, 9)]), id="two different corners"),
        pytest.param(shape([(1, 1), (5, 5), (9, 9)]), id="no area"),
        pytest.param(shape([(1, 1), (float("nan"), 5), (9, 1)]), id="nan"),
        pytest.param({**shape([]), "coordinates": None}, id="no coordinates"),
        pytest.param({**shape([]), "coordinates": [{"x": 1}, {"x": 2}, {"x": 3}]}, id="no y"),
        pytest.param({**shape([]), "coordinates": [{"x": "1", "y": "2"}] * 3}, id="texts"),
    ],
)
def test_malformed_shapes_are_counted_and_cost_only_themselves(document: dict[str, Any]) -> None:
    selection = training_set.select_by_position(
        [document, box(0, 0, 9, 9)], [{**document, "_id": "another"}, box(2, 2, 4, 4)]
    )
    assert selection.malformed == 2
    assert (selection.region_count, selection.annotation_count) == (1, 1)


def test_an_outline_that_crosses_itself_is_repaired() -> None:
    bow_tie = shape([(2, 2), (8, 8), (8, 2), (2, 8)])
    sample = only(collect([box(0, 0, 10, 10)], [bow_tie]).samples)
    assert (sample.labels[4:6, 2] == 1).all() and (sample.labels[4:6, 7] == 1).all()
    assert set(np.unique(sample.labels)) == {0, 1}


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ({"XY": 1.0, "Z": 2.0, "Time": 3.0}, (1, 2, 3)),
        ({"XY": "1", "Z": "2", "Time": "3"}, (1, 2, 3)),
        ({"XY": 1, "Z": None}, (1, 0, 0)),
        ({"Time": 4}, (0, 0, 4)),
        ({}, (0, 0, 0)),
        (None, (0, 0, 0)),
    ],
)
def test_locations_of_other_types_mean_the_same_place(location: dict[str, Any] | None, place: Location) -> None:
    corners = [(1, 1), (9, 1), (9, 9)]
    region = {**shape(corners), "location": location}
    selection = training_set.select_by_position([region], [shape(corners, place)])
    assert list(selection.regions) == list(selection.annotations) == [place]
    assert all(isinstance(index, int) for index in next(iter(selection.regions)))


@pytest.mark.parametrize("location", [{"XY": "here"}, {"Z": "1, 2"}, {"Time": float("nan")}])
def test_a_location_that_is_no_number_is_not_taken_for_another_place(location: dict[str, Any]) -> None:
    document = {**box(0, 0, 9, 9), "location": location}
    with pytest.raises(ValueError):
        training_set.select_by_position([document], [])


# ---- repeated outlines


def rectangle(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    return shapely.box(left, top, right, bottom)


def same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return sorted(shape.wkb for shape in first) == sorted(shape.wkb for shape in second)


def test_no_outlines_have_no_repetitions() -> None:
    assert training_set.without_repetitions([]) == []


@pytest.mark.parametrize(
    ("outlines", "kept"),
    [
        pytest.param([rectangle(0, 0, 9, 9)] * 4, [0], id="the same four times"),
        pytest.param([rectangle(0, 0, 10, 10), rectangle(1, 1, 10, 10)], [0], id="the larger one stays"),
        pytest.param([rectangle(0, 0, 10, 10), rectangle(0, 0, 10, 5)], [0, 1], id="exactly half"),
        pytest.param([rectangle(0, 0, 10, 10), rectangle(0, 0, 10, 5.1)], [0], id="more than half"),
        pytest.param([rectangle(0, 0, 10, 10), rectangle(4, 4, 6, 6)], [0, 1], id="a small one inside"),
        pytest.param([rectangle(0, 0, 10, 10), rectangle(10, 0, 20, 10)], [0, 1], id="neighbours"),
        pytest.param(
            [rectangle(0, 0, 12, 10), rectangle(2, 0, 13, 10), rectangle(5, 0, 15, 10)],
            [0, 2],
            id="a dropped one drops nothing",
        ),
        pytest.param([rectangle(20, 20, 30, 30), rectangle(0, 0, 9, 9), rectangle(0, 0, 9, 8)], [0, 1], id="elsewhere"),
    ],
)
def test_outlines_of_one_object_are_dropped_in_any_order(outlines: list[shapely.Polygon], kept: list[int]) -> None:
    for order in permutations(outlines):
        given_order = list(order)
        assert same(training_set.without_repetitions(given_order), [outlines[number] for number in kept])
        assert given_order == list(order)


def test_repeated_outlines_are_counted_and_drawn_once() -> None:
    known = [box(2, 2, 8, 8), box(2, 2, 8, 8), box(2, 2, 8, 7.4), box(4, 4, 6, 6), box(20, 20, 25, 25)]
    result = collect([box(0, 0, 12, 12)], known)
    expected = np.zeros((12, 12), np.int32)
    expected[2:8, 2:8] = only(result.samples).labels[2, 2]
    expected[4:6, 4:6] = only(result.samples).labels[4, 4]  # a small one inside lies on top
    assert result.repeated == 2
    assert np.array_equal(only(result.samples).labels, expected)
    assert result.instance_count == 2


def test_the_order_of_the_documents_does_not_matter() -> None:
    rng = random.Random(3)
    regions = [box(2, 2, 12, 12), box(8, 8, 20, 16), box(25, 3, 35, 20), box(0, 0, 9, 9, (1, 0, 2))]
    annotations = [
        box(x, y, x + rng.choice([2, 3, 3.5]), y + rng.choice([2, 2.5, 3]), place)
        for place in ((0, 0, 0), (1, 0, 2))
        for x, y in ((rng.uniform(0, 35), rng.uniform(0, 20)) for _ in range(60))
    ]
    reference = collect(regions, annotations)
    assert reference.repeated > 0 and len(reference.samples) == 3
    for _ in range(5):
        rng.shuffle(regions)
        rng.shuffle(annotations)
        result = collect(regions, annotations)
        assert (result.repeated, result.region_count) == (reference.repeated, reference.region_count)
        for sample, expected in zip(by_origin(result), by_origin(reference), strict=True):
            assert np.array_equal(sample.image, expected.image)
            assert np.array_equal(sample.labels, expected.labels)
            assert (sample.intensity_range, sample.position) == (expected.intensity_range, expected.position)


def by_origin(result: Any) -> list[Any]:
    return sorted(result.samples, key=lambda sample: origin_of(sample.image[0, 0]))


rectangles = st.builds(
    lambda x, y, width, height: (x, y, x + width, y + height),
    st.integers(-8, WIDTH + 3),
    st.integers(-8, HEIGHT + 3),
    st.integers(1, 15),
    st.integers(1, 15),
)


@settings(max_examples=100, deadline=None)
@given(regions=st.lists(rectangles, max_size=5), objects=st.lists(rectangles, min_size=1, max_size=6))
def test_every_annotated_pixel_is_in_one_sample_under_the_right_label(
    regions: list[tuple[int, int, int, int]], objects: list[tuple[int, int, int, int]]
) -> None:
    """Against rectangles that are painted pixel by pixel."""
    place, channel = (2, 3, 4), 1
    result = collect([box(*r, place) for r in regions], [box(*r, place) for r in objects], channel=channel)
    different = training_set.without_repetitions([rectangle(*r) for r in objects]) if regions else []
    ordered = sorted(different, key=lambda outline: (-outline.area, outline.bounds, outline.wkb))
    painted = np.zeros((HEIGHT, WIDTH), np.int32)
    for number, outline in enumerate(ordered, start=1):
        painted[pixels_of(outline.bounds)] = number
    used = np.zeros((HEIGHT, WIDTH), bool)
    counts = {"region_count": 0, "outside": 0, "without_annotations": 0}
    for region in regions:
        inside = painted[pixels_of(region)]
        counts["outside" if inside.size == 0 else "region_count" if inside.any() else "without_annotations"] += 1
        if inside.any():
            used[pixels_of(region)] = True
    assert {name: getattr(result, name) for name in counts} == counts
    assert result.repeated == (len(objects) - len(different) if regions else 0)

    seen = np.zeros((HEIGHT, WIDTH), int)
    for sample in result.samples:
        same_object: dict[int, set[int]] = {}
        for pixel, label in zip(sample.image.flat, sample.labels.flat, strict=True):
            *origin, y, x = origin_of(pixel)
            assert origin == [*place, channel]
            if label >= 0:
                seen[y, x] += 1
                same_object.setdefault(int(label), set()).add(int(painted[y, x]))
        # Instances are numbered anew in each sample, but none is split, joined or lost.
        assert all(len(numbers) == 1 for numbers in same_object.values())
        assert len(set.union(*same_object.values())) == len(same_object)
        assert same_object.get(0, {0}) == {0}
    assert np.array_equal(seen, used.astype(int))


def pixels_of(bounds: Sequence[float]) -> tuple[slice, slice]:
    left, top, right, bottom = (max(0, round(edge)) for edge in bounds)
    return slice(top, bottom), slice(left, right)
