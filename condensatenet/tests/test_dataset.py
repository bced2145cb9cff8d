"""Patches for training: what their images, masks and flows hold, and how they are varied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from condensatenet.errors import InvalidImageError, InvalidLabelsError, InvalidOptionError, TrainingError
from condensatenet.inference.normalize import normalize_image
from condensatenet.simulation import simulate_dataset
from condensatenet.training.augment import (
    DIHEDRAL_COUNT,
    resample,
    resample_image,
    transform_dihedral,
    transform_flows,
    vary_intensity,
)
from condensatenet.training.dataset import MIN_PATCHES_PER_EPOCH, CondensateNetDataset, prepare_training_data
from condensatenet.training.targets import labels_to_flows

Array = NDArray[Any]
Frame = tuple[Array, Array]


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(simulate_dataset(4, shape=(96, 128), seed=3))


def dataset_of(frames: list[Frame], **options: Any) -> CondensateNetDataset:
    images, labels = zip(*frames, strict=True)
    return prepare_training_data(images, labels, **{"patch_size": 64, **options})


def place_of(patch: Array, image: Array) -> tuple[int, int]:
    """Where a patch was cut from an image."""
    windows = np.lib.stride_tricks.sliding_window_view(image, patch.shape)
    found = np.argwhere((windows == patch).all((2, 3)))
    assert len(found) == 1
    return int(found[0, 0]), int(found[0, 1])


# ---- the eight flips and rotations


def test_there_are_eight_different_transforms() -> None:
    image = np.arange(12).reshape(3, 4)
    results = {transform_dihedral(image, element).tobytes() for element in range(DIHEDRAL_COUNT)}
    assert DIHEDRAL_COUNT == len(results) == 8
    np.testing.assert_array_equal(transform_dihedral(image, 1), np.rot90(image))
    np.testing.assert_array_equal(transform_dihedral(image, 4), image[:, ::-1])


@pytest.mark.parametrize("element", range(DIHEDRAL_COUNT))
def test_flows_move_and_turn_like_vectors(element: int) -> None:
    # A vector is the way from one pixel to another one: move both pixels, and compare the ways.
    shape = (7, 5)
    for tail, tip in (((2, 1), (5, 1)), ((2, 1), (2, 4)), ((6, 4), (3, 0)), ((0, 3), (4, 2))):
        flows = np.zeros((2, *shape), np.float32)
        flows[:, tail[0], tail[1]] = np.subtract(tip, tail)
        marks = np.zeros((2, *shape))
        marks[0][tail] = marks[1][tip] = 1
        moved_tail, moved_tip = (np.argwhere(mark)[0] for mark in transform_dihedral(marks, element))
        moved = transform_flows(flows, element)
        assert moved.dtype == np.float32
        np.testing.assert_array_equal(moved[:, moved_tail[0], moved_tail[1]], moved_tip - moved_tail)
        assert np.count_nonzero(moved.any(0)) == 1


# ---- zoom and intensities


@pytest.mark.parametrize("size", [20, 64, 47, 90])
def test_zoom_keeps_labels_and_image_together(size: int) -> None:
    rows, columns = np.mgrid[:64, :64]
    labels = np.where((rows - 40) ** 2 + (columns - 20) ** 2 < 120, 3, 0)
    labels[:, 50:] = -1
    zoomed, image = resample(labels, size), resample_image((labels == 3).astype(np.float32), size)
    assert zoomed.shape == image.shape == (size, size)
    assert set(np.unique(zoomed)) == {-1, 0, 3}
    assert np.mean((image > 0.5) != (zoomed == 3)) < 0.02
    centre = np.array(ndimage.center_of_mass(zoomed == 3)) + 0.5
    np.testing.assert_allclose(centre * 64 / size, [40.5, 20.5], atol=0.5)
    assert np.sum(zoomed == 3) * (64 / size) ** 2 == pytest.approx(np.sum(labels == 3), rel=0.12)
    assert image.min() >= 0 and image.max() <= 1


def test_zoom_takes_all_channels_alike() -> None:
    flows = np.random.default_rng(0).random((2, 30, 30))
    np.testing.assert_array_equal(resample(flows, 45)[1], resample(flows[1], 45))
    np.testing.assert_array_equal(resample(flows, 30), flows)
    np.testing.assert_array_equal(resample(flows, 60), flows.repeat(2, 1).repeat(2, 2))


def test_varied_intensities_stay_in_range_and_keep_the_picture() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :40]
    image = np.exp(-((rows - 20) ** 2 + (columns - 14) ** 2) / 60).astype(np.float32)
    before = image.copy()
    varied = [vary_intensity(image, rng) for _ in range(60)]
    for result in varied:
        assert result.dtype == np.float32 and result.shape == image.shape
        assert result.min() >= 0 and result.max() <= 1
        assert np.corrcoef(result.ravel(), image.ravel())[0, 1] > 0.8
    assert len({result.tobytes() for result in varied}) == 60
    means = [result.mean() for result in varied]
    assert max(means) > 1.5 * min(means)
    np.testing.assert_array_equal(image, before)


# ---- patches


@pytest.mark.parametrize("augment", [False, True])
def test_patches_are_what_training_needs(frames: list[Frame], augment: bool) -> None:
    dataset = dataset_of(frames, augment=augment)
    assert len(dataset) >= MIN_PATCHES_PER_EPOCH
    found = 0
    for index in range(len(dataset)):
        image, mask, flows = dataset[index]
        assert image.shape == mask.shape == (1, 64, 64) and flows.shape == (2, 64, 64)
        for array in (image, mask, flows):
            assert array.dtype == np.float32 and array.flags.writeable
        assert image.min() >= 0 and image.max() <= 1
        assert set(np.unique(mask)) <= {-1, 0, 1}
        assert not flows[:, mask[0] < 1].any()
        length = np.hypot(*flows)[mask[0] == 1]
        assert np.all((np.abs(length - 1) < 1e-5) | (length == 0)) and np.sum(length == 0) <= 0.1 * length.size
        found += (mask == 1).any()
    assert found > 0.8 * len(dataset)


def test_patch_without_augmentation_is_a_cut_of_the_normalised_frame(frames: list[Frame]) -> None:
    image, labels = frames[0]
    dataset = dataset_of(frames[:1], augment=False)
    places = set()
    for index in range(len(dataset)):
        patch, mask, flows = dataset[index]
        top, left = place_of(patch[0], normalize_image(image))
        window = (slice(top, top + 64), slice(left, left + 64))
        np.testing.assert_array_equal(mask[0], np.clip(labels[window], -1, 1))
        # The flows are those of the whole instances, also where the patch cuts them.
        np.testing.assert_array_equal(flows, labels_to_flows(labels)[:, window[0], window[1]])
        places.add((top, left))
    assert len(places) > 10


def test_augmented_patches_keep_image_mask_and_flows_together(frames: list[Frame]) -> None:
    # The picture shows its own labels and flows, so that a patch can be compared with itself.
    labels = frames[1][1]
    dataset = dataset_of([((labels > 0) * np.uint8(200), labels)], augment=True)
    agreement, cosine = [], []
    for index in range(len(dataset)):
        image, mask, flows = dataset[index]
        if not (mask == 1).any() or image.std() < 0.01:
            continue
        inside, outside = image[mask == 1], image[mask == 0]
        agreement.append(np.median(inside) > np.median(outside))
        numbered, _ = ndimage.label(mask[0] == 1)
        expected = labels_to_flows(numbered)
        whole = ~np.isin(numbered, np.concatenate([numbered[[0, -1]].ravel(), numbered[:, [0, -1]].ravel()]))
        cosine.append((flows * expected).sum(0)[whole & (numbered > 0)])
    assert np.mean(agreement) > 0.95
    together = np.concatenate(cosine)
    assert together.size > 1000
    assert np.median(together) > 0.95  # 0 if the vectors did not turn with the pixels


def test_patch_depends_on_seed_epoch_and_index_alone(frames: list[Frame]) -> None:
    dataset = dataset_of(frames)
    dataset.set_epoch(3)
    first = [dataset[index] for index in range(len(dataset))]
    assert len({image.tobytes() for image, _, _ in first}) == len(first)
    again = dataset_of(frames)
    again.set_epoch(3)
    for index in reversed(range(len(dataset))):  # in any order
        for a, b in zip(again[index], first[index], strict=True):
            np.testing.assert_array_equal(a, b)
    for changed, epoch in ((again, 4), (dataset_of(frames, random_seed=43), 3)):
        changed.set_epoch(epoch)
        assert not any(np.array_equal(changed[index][0], first[index][0]) for index in range(len(first)))


def test_generator_is_the_source_of_the_seed(frames: list[Frame]) -> None:
    images, labels = zip(*frames, strict=True)
    one, other, same = (CondensateNetDataset(images, labels, 64, rng=np.random.default_rng(seed)) for seed in (1, 2, 1))
    np.testing.assert_array_equal(one[0][0], same[0][0])
    assert not np.array_equal(one[0][0], other[0][0])
    np.testing.assert_array_equal(
        CondensateNetDataset(images, labels, 64)[0][0], CondensateNetDataset(images, labels, 64)[0][0]
    )


def test_number_of_patches_follows_the_area(frames: list[Frame]) -> None:
    large = (np.tile(frames[0][0], (4, 4)), np.tile(frames[0][1], (4, 4)))
    dark = (np.zeros((96, 128)), np.zeros((96, 128), int))
    dataset = dataset_of([dark, large], augment=False)
    assert len(dataset) == 3 + 48
    assert sum(image.any() for image, _, _ in dataset) == 48
    assert sum(1 for _ in dataset) == len(dataset)  # a plain sequence: it ends
    for index in (-1, len(dataset)):
        with pytest.raises(IndexError):
            dataset[index]


# ---- what nobody annotated


@pytest.mark.parametrize("augment", [False, True])
def test_unknown_pixels_stay_unknown(frames: list[Frame], augment: bool) -> None:
    # A picture that is bright exactly where nothing is known.
    labels = frames[2][1].copy()
    labels[:, :60] = -1
    dataset = dataset_of([((labels == -1) * np.uint8(200), labels)], augment=augment)
    seen = 0
    for index in range(len(dataset)):
        image, mask, _ = dataset[index]
        if 0.1 < (mask == -1).mean() < 0.9 and image.std() > 0.05:
            seen += 1
            assert np.median(image[mask == -1]) > np.median(image[mask != -1])
    assert seen > 5


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("shape", [(40, 30), (1, 1), (20, 200)])
def test_image_smaller_than_a_patch_is_padded_with_unknown(shape: tuple[int, int], augment: bool) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    dataset = prepare_training_data([image], [np.ones(shape, np.uint8)], 64, augment)
    for index in range(len(dataset)):
        patch, mask, flows = dataset[index]
        known = mask[0] == 1
        if shape == (1, 1) and augment and not known.any():
            continue  # a patch that shows more than its own size leaves some pixels out
        assert known.any() and not (mask == 0).any()
        rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
        assert known.sum() == rows.size * columns.size == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # one rectangle
        if not augment:
            assert (rows.size, columns.size) == (min(shape[0], 64), min(shape[1], 64))
        assert not flows[:, ~known].any() and np.isfinite(patch).all()
    assert max(shape) == 1 or patch.std() > 0  # the border is repeated, not filled with a constant


def test_patches_fall_on_what_is_annotated() -> None:
    labels = np.full((600, 600), -1, np.int32)
    labels[500:560, 40:100] = 0
    image = np.random.default_rng(0).integers(0, 255, labels.shape, np.uint8)
    for instances in (0, 1):
        if instances:
            labels[510:520, 50:60] = 1
            labels[540:550, 80:95] = 2
        dataset = prepare_training_data([image], [labels], 64, augment=False)
        masks = [dataset[index][1] for index in range(len(dataset))]
        assert all((mask != -1).any() for mask in masks)
        assert np.mean([(mask == 1).any() for mask in masks]) >= 0.8 * instances


def test_most_patches_show_an_instance() -> None:
    labels = np.zeros((600, 600), np.int32)
    labels[100:110, 500:510], labels[400:412, 50:60] = 1, 2
    dataset = prepare_training_data([labels + 5], [labels], 64, augment=False)
    share = np.mean([(dataset[index][1] == 1).any() for index in range(len(dataset))])
    assert 0.75 < share < 1


def test_flows_are_of_what_is_known(frames: list[Frame]) -> None:
    sample = dataset_of(frames[:1]).samples[0]
    hidden = sample.labels.copy()
    hidden[:, 40:80] = -1
    dataset = CondensateNetDataset.from_samples([sample.with_labels(hidden)], patch_size=64, augment=False, seed=0)
    assert sample.flows[:, hidden == -1].any()
    for _, mask, flows in dataset:
        assert not flows[:, mask[0] != 1].any()


def test_images_that_nobody_annotated_are_left_out(frames: list[Frame]) -> None:
    unknown = (frames[0][0], np.full((96, 128), -1))
    dataset = dataset_of([unknown, frames[1], unknown], augment=False)
    assert len(dataset.samples) == 1
    place_of(dataset[0][0][0], normalize_image(frames[1][0]))
    with pytest.raises(TrainingError, match="nothing to train on: no image has an annotated pixel"):
        dataset_of([unknown, unknown])
    with pytest.raises(TrainingError, match="nothing to train on"):
        prepare_training_data([], [])


def test_image_without_instances_teaches_background() -> None:
    image = np.random.default_rng(0).integers(0, 255, (80, 80), np.uint8)
    dataset = prepare_training_data([image], [np.zeros((80, 80), int)], 64, augment=False)
    assert all(not dataset[index][1].any() for index in range(len(dataset)))


# ---- images and labels


def test_crop_is_normalised_by_the_range_of_its_frame(frames: list[Frame]) -> None:
    image, labels = frames[3]
    dataset = prepare_training_data(
        [image, image[:64, :64]], [labels, labels[:64, :64]], 64, False, intensity_ranges=[None, (-100, 3000)]
    )
    np.testing.assert_array_equal(dataset.samples[0].image, normalize_image(image))
    np.testing.assert_array_equal(
        dataset.samples[1].image, normalize_image(image[:64, :64], intensity_range=(-100, 3000))
    )


def test_constant_image_becomes_zero() -> None:
    dataset = prepare_training_data([np.full((70, 70), 9)], [np.ones((70, 70), int)], 64, augment=False)
    assert not dataset[0][0].any() and dataset[0][1].all()


def test_large_ids_need_no_more_memory(frames: list[Frame]) -> None:
    image, labels = frames[0]
    large = np.where(labels > 0, labels * 10_000_000, labels)
    expected, dataset = dataset_of([(image, labels)]), dataset_of([(image, large)])
    assert dataset.samples[0].labels.max() <= labels.size
    for a, b in zip(dataset[5], expected[5], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("patch_size", [0, 16, 31, 33, 100, -64, 64.0, "64", None, True])
def test_wrong_patch_size_is_refused(frames: list[Frame], patch_size: Any) -> None:
    with pytest.raises(InvalidOptionError, match="patch_size must be a multiple of 32, not"):
        dataset_of(frames, patch_size=patch_size)


def test_every_image_needs_its_labels(frames: list[Frame]) -> None:
    image, labels = frames[0]
    for arguments, ranges in ((([image], []), None), (([image], [labels, labels]), None), (([image], [labels]), [])):
        with pytest.raises(InvalidOptionError, match="give one each"):
            prepare_training_data(*arguments, intensity_ranges=ranges)


@pytest.mark.parametrize(
    ("image", "labels", "error", "reason"),
    [
        (np.zeros((9, 9, 3)), np.zeros((9, 9), int), InvalidImageError, "3 channels"),
        (np.full((9, 9), np.nan), np.zeros((9, 9), int), InvalidImageError, "NaN"),
        (np.zeros((9, 9)), np.full((9, 9), 0.5), InvalidLabelsError, "fractions"),
        (np.zeros((9, 9)), np.full((9, 9), -2), InvalidLabelsError, "-2"),
        (np.zeros((9, 9)), np.zeros((9, 8), int), InvalidLabelsError, r"\(9, 8\).*\(9, 9\)"),
    ],
)
def test_error_tells_which_image(frames: list[Frame], image: Any, labels: Any, error: Any, reason: str) -> None:
    with pytest.raises(error, match=f"image 3 of 4: .*{reason}"):
        dataset_of([frames[0], frames[1], (image, labels), frames[2]])
