"""Training targets: flows against a plain diffusion per instance, and the properties that training relies on."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from condensatenet.errors import InvalidLabelsError
from condensatenet.simulation import simulate_dataset
from condensatenet.training.augment import DIHEDRAL_COUNT, transform_dihedral, transform_flows
from condensatenet.training.targets import labels_to_binary_mask, labels_to_flows

Labels = NDArray[np.int32]
Float32 = NDArray[np.float32]


@pytest.fixture(scope="module")
def masks() -> list[Labels]:
    """Simulated instances: round, elongated, fused, touching, cut by the border."""
    return [labels for _, labels in simulate_dataset(7, shape=(128, 112), seed=7)]


def diffused(labels: Labels) -> Float32:
    """Flows by Cellpose's definition, one instance at a time: heat from its central pixel, averaged over neighbours."""
    flows = np.zeros((2, *labels.shape), np.float32)
    for label in np.unique(labels[labels > 0]):
        inside = np.pad(labels == label, 1)
        rows, columns = np.nonzero(inside)
        middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        heat = np.zeros(inside.shape)
        for _ in range(2 * (np.ptp(rows) + np.ptp(columns) + 4)):
            heat[rows[middle], columns[middle]] += 1
            heat = ndimage.uniform_filter(heat, 3, mode="constant") * inside
        heat = np.log1p(heat)
        flow = np.stack([np.roll(heat, -1, axis) - np.roll(heat, 1, axis) for axis in (0, 1)])[:, 1:-1, 1:-1]
        flow = np.where(inside[1:-1, 1:-1], flow, 0)
        flows += flow / np.maximum(np.linalg.norm(flow, axis=0), 1e-20)
    return flows


def cosines(a: Float32, b: Float32, where: NDArray[np.bool_]) -> NDArray[Any]:
    return (a * b).sum(0)[where]


def test_flows_equal_a_plain_diffusion_per_instance(masks: list[Labels]) -> None:
    assert sum(labels.max() for labels in masks) > 30
    agreement = np.concatenate([cosines(labels_to_flows(labels), diffused(labels), labels > 0) for labels in masks])
    # Where two pixels are equally near to the centre, either may be the source.
    assert agreement.mean() > 0.995
    assert np.median(agreement) > 0.9999


def test_flows_are_unit_vectors_in_instances_and_zero_elsewhere(masks: list[Labels]) -> None:
    for labels in masks:
        flows = labels_to_flows(labels)
        assert flows.dtype == np.float32 and flows.shape == (2, *labels.shape)
        length = np.hypot(*flows)
        assert not length[labels == 0].any()
        zero = length[labels > 0] == 0
        assert zero.sum() <= labels.max()  # at most the central pixel of a symmetric instance
        np.testing.assert_allclose(length[labels > 0][~zero], 1, atol=1e-6)


def test_flows_lead_to_the_centre() -> None:
    rows, columns = np.mgrid[:41, :61]
    disk = ((rows - 20) ** 2 + (columns - 30) ** 2 <= 18**2).astype(np.int32)
    flows = labels_to_flows(disk)
    towards = np.stack([20 - rows, 30 - columns]).astype(np.float32)
    towards /= np.maximum(np.hypot(*towards), 1e-6)
    away_from_centre = (disk > 0) & (np.hypot(rows - 20, columns - 30) > 2)
    assert cosines(flows, towards, away_from_centre).min() > 0.97
    assert flows[0, 5, 30] > 0.99 and flows[1, 20, 15] > 0.99  # (dy, dx): down from above, right from the left


@pytest.mark.parametrize("element", range(1, DIHEDRAL_COUNT))
def test_flows_turn_with_the_image(masks: list[Labels], element: int) -> None:
    agreement = [
        cosines(
            labels_to_flows(np.ascontiguousarray(transform_dihedral(labels, element))),
            transform_flows(labels_to_flows(labels), element),
            transform_dihedral(labels, element) > 0,
        )
        for labels in masks
    ]
    assert np.concatenate(agreement).mean() > 0.99


def test_pixels_that_nobody_annotated_have_no_flow(masks: list[Labels]) -> None:
    labels = masks[0].copy()
    expected = labels_to_flows(labels)
    empty = ndimage.binary_erosion(labels == 0, iterations=2)
    labels[empty] = -1
    np.testing.assert_array_equal(labels_to_flows(labels), expected)
    labels[:, :40] = -1
    flows = labels_to_flows(labels)
    assert not flows[:, labels == -1].any()
    assert flows[:, labels > 0].any()
    assert not labels_to_flows(np.full((5, 5), -1)).any()


def test_ids_need_not_be_consecutive(masks: list[Labels]) -> None:
    labels = masks[1]
    expected = labels_to_flows(labels)
    ids = np.random.default_rng(0).permutation(5000)[: labels.max() + 1] + 1
    ids[0] = 0
    for dtype in (np.int16, np.uint16, np.int64):
        np.testing.assert_array_equal(labels_to_flows(ids[labels].astype(dtype)), expected)


def test_memory_does_not_depend_on_the_ids(masks: list[Labels]) -> None:
    labels = np.where(masks[1] > 0, masks[1] + 100_000_000, masks[1])
    labels[:2] = -1
    small = masks[1].copy()
    small[:2] = -1
    tracemalloc.start()
    flows = labels_to_flows(labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    np.testing.assert_array_equal(flows, labels_to_flows(small))


def test_instances_do_not_see_each_other() -> None:
    labels = np.zeros((20, 40), np.int32)
    labels[3:17, 3:20] = 1
    alone = labels_to_flows(labels)
    labels[3:17, 20:37] = 2
    together = labels_to_flows(labels)
    np.testing.assert_array_equal(together[:, labels == 1], alone[:, labels == 1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_instance_may_fill_a_thin_image(shape: tuple[int, int]) -> None:
    flows = labels_to_flows(np.ones(shape, np.int32))
    assert np.isfinite(flows).all()
    if shape == (1, 9):
        np.testing.assert_allclose(np.delete(flows[1, 0], 4), [1, 1, 1, 1, -1, -1, -1, -1], atol=1e-6)


def test_separate_parts_of_an_instance_do_no_harm() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[2:9, 2:9] = labels[2:4, 25:28] = 1
    flows = labels_to_flows(labels)
    assert np.isfinite(flows).all()
    assert np.hypot(*flows)[2:9, 2:9].mean() > 0.9


def test_binary_mask_tells_object_background_and_unknown() -> None:
    mask = labels_to_binary_mask(np.array([[0, 1, 70000], [-1, 0, 2]]))
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, [[0, 1, 1], [-1, 0, 1]])


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.full((4, 4), 0.5), "holds fractions"),
        (np.full((4, 4), np.nan), "fractions or NaN"),
        (np.zeros((4, 4), complex), "labels are whole numbers"),
        (np.zeros((4, 4, 1), int), r"shape \(4, 4, 1\); a label mask is one \(height, width\) plane"),
        (np.zeros(4, int), r"shape \(4,\)"),
        (np.zeros((0, 4), int), r"shape \(0, 4\)"),
        (np.full((4, 4), -2), r"value -2; the only negative label is -1"),
        (np.full((4, 4), 2**31), "label 2147483648, which is too large"),
        (np.full((4, 4), 2**63, np.uint64), "too large"),
    ],
)
def test_label_mask_that_is_none_is_refused(labels: Any, reason: str) -> None:
    for function in (labels_to_flows, labels_to_binary_mask):
        with pytest.raises(InvalidLabelsError, match=reason):
            function(labels)
