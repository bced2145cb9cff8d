"""From probabilities and flows to instances: against plain loops over pixels, and on flows with a known answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from condensatenet.errors import InvalidOptionError
from condensatenet.evaluation import evaluate_instances
from condensatenet.inference.instances import extract_instance_properties, flow_to_instances
from condensatenet.simulation import simulate_dataset
from condensatenet.training.targets import labels_to_flows

Float32 = NDArray[np.float32]
Labels = NDArray[np.int32]

NO_LIMITS: dict[str, Any] = {"min_size": 0, "max_size": 10**6}


def numbered(group: dict[tuple[int, int], Any], shape: tuple[int, int], min_size: int, max_size: int) -> Labels:
    """Label mask of pixels with their groups: within the size limits, numbered in raster order."""
    sizes: dict[Any, int] = {}
    for member in group.values():
        sizes[member] = sizes.get(member, 0) + 1
    numbers: dict[Any, int] = {}
    labels = np.zeros(shape, np.int32)
    for pixel in sorted(group):
        if min_size <= sizes[group[pixel]] <= max_size:
            labels[pixel] = numbers.setdefault(group[pixel], len(numbers) + 1)
    return labels


def exact_by_loops(
    probabilities: Float32, flows: Float32, threshold: float, steps: int, scale: float, min_size: int, max_size: int
) -> Labels:
    """The original's definition, one pixel and one step at a time, in float32 as there."""
    height, width = probabilities.shape
    group = {}
    for row, column in np.argwhere(probabilities > threshold).tolist():
        y, x = np.float32(row), np.float32(column)
        for _ in range(steps):
            dy, dx = flows[:, int(y), int(x)]
            length = np.sqrt(dy * dy + dx * dx)
            factor = np.clip(np.float32(scale) / (length + np.float32(1e-6)), np.float32(0.1), np.float32(1))
            y = np.clip(y + dy * factor, np.float32(0), np.float32(height - 1))
            x = np.clip(x + dx * factor, np.float32(0), np.float32(width - 1))
        group[row, column] = (int(np.round(y)), int(np.round(x)))
    return numbered(group, (height, width), min_size, max_size)


def merged_by_loops(probabilities: Float32, flows: Float32, threshold: float, min_size: int, max_size: int) -> Labels:
    """Walk from pixel to pixel while there is foreground; join ends that are at most two rows and columns apart."""
    height, width = probabilities.shape
    foreground = probabilities > threshold
    after = {}
    for row, column in np.argwhere(foreground).tolist():
        direction = flows[:, row, column]
        step = np.rint(direction / np.float32(max(float(np.abs(direction).max()), 1e-6))).astype(int)
        to = (int(np.clip(row + step[0], 0, height - 1)), int(np.clip(column + step[1], 0, width - 1)))
        after[row, column] = to if foreground[to] else (row, column)
    ends = {}
    for start in after:
        ends[start] = start
        for _ in range(128):
            ends[start] = after[ends[start]]
    cluster = {end: end for end in ends.values()}

    def representative(end: tuple[int, int]) -> tuple[int, int]:
        while cluster[end] != end:
            end = cluster[end]
        return end

    for a in cluster:
        for b in cluster:
            if abs(a[0] - b[0]) <= 2 and abs(a[1] - b[1]) <= 2:
                cluster[representative(a)] = representative(b)
    return numbered({start: representative(end) for start, end in ends.items()}, (height, width), min_size, max_size)


def noisy_field(seed: int, shape: tuple[int, int] = (24, 37)) -> tuple[Float32, Float32]:
    """Probabilities and flows with sinks, noise, foreground at every border, and flows that leave the image."""
    rng = np.random.default_rng(seed)
    probabilities = ndimage.gaussian_filter(rng.random(shape), 1.5).astype(np.float32)
    probabilities = (probabilities - probabilities.min()) / np.ptp(probabilities)
    flows = ndimage.gaussian_filter(rng.standard_normal((2, *shape)), (0, 3, 3)) * 12
    flows += rng.standard_normal(flows.shape) * 0.3
    flows[:, rng.random(shape) < 0.02] = 0
    return probabilities, flows.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_exact_grouping_equals_the_plain_loop(seed: int) -> None:
    probabilities, flows = noisy_field(seed)
    # A threshold that is a probability itself: such pixels are background.
    threshold = float(np.sort(probabilities.ravel())[300])
    options = {"steps": 45, "scale": (0.1, 0.5, 2.0)[seed % 3], "min_size": seed, "max_size": 60}
    expected = exact_by_loops(probabilities, flows, threshold, **options)
    assert expected.max() > 5
    found = flow_to_instances(probabilities, flows, threshold, seed, 60, 45, options["scale"])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(4))
def test_merged_grouping_equals_the_plain_loop(seed: int) -> None:
    probabilities, flows = noisy_field(seed)
    expected = merged_by_loops(probabilities, flows, 0.4, seed, 400)
    assert expected.max() > 5
    found = flow_to_instances(probabilities, flows, 0.4, seed, 400, grouping="merged")
    np.testing.assert_array_equal(found, expected)


def test_large_frame_is_grouped_as_its_parts_are() -> None:
    # More particles than are advanced together.
    probabilities, flows = noisy_field(0)
    flows[:, :, [0, -1]] = 0
    flows[:, [0, -1]] = 0
    probabilities[[0, -1]] = 0
    probabilities[:, [0, -1]] = 0
    one = flow_to_instances(probabilities, flows, 0.3, **NO_LIMITS)
    many = flow_to_instances(np.tile(probabilities, (8, 9)), np.tile(flows, (1, 8, 9)), 0.3, **NO_LIMITS)
    assert (probabilities > 0.3).sum() * 72 > 3 * 16384
    assert many.max() > 60 * one.max()
    for row in range(8):
        for column in range(9):
            part = many[row * 24 : (row + 1) * 24, column * 37 : (column + 1) * 37]
            np.testing.assert_array_equal(part > 0, one > 0)
    assert np.unique(many[:24, :37]).size == np.unique(one).size


def test_perfect_flows_give_their_instances_back() -> None:
    truths = [labels for _, labels in simulate_dataset(8, shape=(160, 160), seed=0)]
    found = [
        flow_to_instances((labels > 0).astype(np.float32), labels_to_flows(labels), grouping="merged", **NO_LIMITS)
        for labels in truths
    ]
    scores = evaluate_instances(truths, found, (0.5, 1.0))
    assert scores.n_truth > 40
    assert scores.ap(1.0) == 1  # every instance to the pixel


def test_merged_grouping_joins_what_exact_splits() -> None:
    rows, columns = np.mgrid[:48, :48]
    disk = (rows - 22.5) ** 2 + (columns - 23.2) ** 2 < 14**2
    flows = labels_to_flows(disk.astype(np.int32))
    angle = np.random.default_rng(0).normal(0, 0.5, disk.shape)
    turned = np.stack(
        [flows[0] * np.cos(angle) - flows[1] * np.sin(angle), flows[0] * np.sin(angle) + flows[1] * np.cos(angle)]
    )
    probabilities = disk.astype(np.float32)
    exact = flow_to_instances(probabilities, turned, **NO_LIMITS)
    merged = flow_to_instances(probabilities, turned, grouping="merged", **NO_LIMITS)
    assert exact.max() > 1
    np.testing.assert_array_equal(merged, disk)


def test_touching_instances_stay_apart() -> None:
    labels = np.zeros((30, 40), np.int32)
    labels[5:20, 5:20], labels[5:20, 20:35] = 1, 2
    found = flow_to_instances(labels > 0, labels_to_flows(labels), grouping="merged", **NO_LIMITS)
    np.testing.assert_array_equal(found, labels)


def squares(sides: list[int]) -> tuple[Float32, Float32]:
    """Squares in a row, far apart, whose pixels do not move."""
    probabilities = np.zeros((max(sides) + 6, sum(sides) + 6 * len(sides)), np.float32)
    left = 3
    for side in sides:
        probabilities[3 : 3 + side, left : left + side] = 1
        left += side + 6
    return probabilities, np.zeros((2, *probabilities.shape), np.float32)


def test_size_limits_are_inclusive() -> None:
    probabilities, flows = squares([2, 3, 4, 5])

    def areas(**limits: int) -> list[int]:
        found = flow_to_instances(probabilities, flows, grouping="merged", **limits)
        return np.bincount(found.ravel())[1:].tolist()

    assert areas(min_size=0, max_size=100) == [4, 9, 16, 25]
    assert areas(min_size=9, max_size=16) == [9, 16]
    assert areas(min_size=10, max_size=15) == []
    assert areas(min_size=4, max_size=4) == [4]


@pytest.mark.parametrize("grouping", ["exact", "merged"])
def test_instances_are_numbered_in_raster_order(grouping: Any) -> None:
    probabilities, flows = noisy_field(11)
    found = flow_to_instances(probabilities, flows, 0.4, 3, 200, grouping=grouping)
    labels, first = np.unique(found[found > 0], return_index=True)
    assert labels.size > 5
    np.testing.assert_array_equal(labels, np.arange(1, labels.size + 1))
    assert (np.diff(first) > 0).all()


@pytest.mark.parametrize("grouping", ["exact", "merged"])
def test_no_foreground_gives_no_instances(grouping: Any) -> None:
    flows = noisy_field(0)[1]
    found = flow_to_instances(np.full((24, 37), 0.15, np.float32), flows, grouping=grouping)
    assert found.dtype == np.int32 and found.shape == (24, 37) and not found.any()
    assert flow_to_instances(np.zeros((0, 5)), np.zeros((2, 0, 5)), grouping=grouping).shape == (0, 5)


def test_without_steps_every_pixel_is_its_own_end() -> None:
    probabilities, flows = noisy_field(3)
    found = flow_to_instances(probabilities, flows, 0.4, 1, 1, flow_steps=0)
    np.testing.assert_array_equal(found[probabilities > 0.4], np.arange(1, (probabilities > 0.4).sum() + 1))
    assert not flow_to_instances(probabilities, flows, 0.4, 2, 100, flow_steps=0).any()


@pytest.mark.parametrize("grouping", ["exact", "merged"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)])
def test_thin_frames_work(grouping: Any, shape: tuple[int, int]) -> None:
    flows = np.full((2, *shape), 0.7, np.float32)  # towards the lower right corner
    found = flow_to_instances(np.ones(shape), flows, flow_steps=600, grouping=grouping, **NO_LIMITS)
    np.testing.assert_array_equal(found, np.ones(shape))


def test_any_number_type_and_layout_is_accepted() -> None:
    probabilities, flows = noisy_field(5)
    expected = flow_to_instances(probabilities, flows, 0.4, **NO_LIMITS)
    before = probabilities.copy(), flows.copy()
    for p, f in (
        (probabilities.astype(np.float64), flows.astype(np.float64)),
        (np.asfortranarray(probabilities), np.asfortranarray(flows)),
        (probabilities.tolist(), flows.tolist()),
    ):
        np.testing.assert_array_equal(flow_to_instances(p, f, 0.4, **NO_LIMITS), expected)
    np.testing.assert_array_equal(probabilities, before[0])
    np.testing.assert_array_equal(flows, before[1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"flows": np.zeros((2, 8, 9))}, r"mask_probs must be \(H, W\) and flows \(2, H, W\), not \(8, 8\) and"),
        ({"flows": np.zeros((8, 8, 2))}, r"flows \(2, H, W\)"),
        ({"mask_probs": np.zeros((1, 8, 8))}, r"mask_probs must be \(H, W\)"),
        ({"min_size": 601}, r"min_size \(601\) must not be larger than max_size \(600\)"),
        ({"flow_steps": -1}, "flow_steps must not be negative"),
        ({"grouping": "both"}, "grouping must be 'exact' or 'merged', not 'both'"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], reason: str) -> None:
    arguments: dict[str, Any] = {"mask_probs": np.zeros((8, 8)), "flows": np.zeros((2, 8, 8)), **change}
    with pytest.raises(InvalidOptionError, match=reason):
        flow_to_instances(**arguments)


def test_properties_are_one_dictionary_per_instance() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[2:5, 4:8], labels[10:12, 10:12] = 1, 7
    image = np.where(labels == 7, 50, 10)
    first, second = extract_instance_properties(labels, image)
    assert (first["label"], first["area_px"], first["mean_intensity"]) == (1, 12, 10)
    assert (second["label"], second["area_px"], second["mean_intensity"]) == (7, 4, 50)
    assert (first["centroid_y"], first["centroid_x"]) == (3.5, 6.0)
    assert extract_instance_properties(np.zeros((3, 3), np.int32)) == []
    assert "mean_intensity" not in extract_instance_properties(labels)[0]


def two_centres(labels: np.ndarray, centres: list[tuple[int, int]]) -> np.ndarray:
    """Return flows (2, H, W) of the foreground towards the nearest of two centres."""
    rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]]
    ways = np.stack([np.stack([y - rows, x - columns]) for y, x in centres]).astype(np.float32)
    nearest = np.argmin(np.hypot(ways[:, 0], ways[:, 1]), axis=0)
    way = np.take_along_axis(ways, nearest[None, None], axis=0)[0]
    return way / np.maximum(np.hypot(way[0], way[1]), 1e-6) * (labels > 0)


def test_merged_joins_a_disc_with_two_centres_and_keeps_touching_discs_apart() -> None:
    rows, columns = np.mgrid[:64, :96]
    disc = (np.hypot(rows - 32, columns - 40) < 20).astype(np.int32)
    split = flow_to_instances(
        disc.astype(np.float32), two_centres(disc, [(32, 36), (32, 44)]), max_size=5000, grouping="merged"
    )
    assert split.max() == 1
    pair = disc + 2 * (np.hypot(rows - 32, columns - 79) < 20)
    pair[pair == 3] = 1
    touching = flow_to_instances(
        (pair > 0).astype(np.float32), two_centres(pair, [(32, 40), (32, 79)]), max_size=5000, grouping="merged"
    )
    assert touching.max() == 2
