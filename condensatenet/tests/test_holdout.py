"""What is held out of training: whole images, strips of images, or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from condensatenet.training.dataset import AnnotatedImage, CondensateNetDataset, annotate
from condensatenet.training.holdout import GAP, MAX_IMAGES, MIN_INSTANCES, Split, count_instances, split_holdout

Labels = NDArray[Any]


def picture_of(labels: Labels, seed: int = 0) -> AnnotatedImage:
    """An image with the given labels, in which no two pixels are equal."""
    image = np.random.default_rng(seed).permutation(labels.size).reshape(labels.shape)
    return annotate(image, labels)


def with_instances(count: int, seed: int = 0) -> AnnotatedImage:
    labels = np.zeros((8, 6 * max(count, 1) + 2), np.int32)
    for number in range(count):
        labels[2:6, 6 * number + 2 : 6 * number + 6] = number + 1
    return picture_of(labels, seed)


def scattered(shape: tuple[int, int], count: int, seed: int, largest: int = 20) -> AnnotatedImage:
    """Rectangles anywhere, also across each other and the border."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for number in range(1, count + 1):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(3, largest, 2)
        labels[y : y + height, x : x + width] = number
    return picture_of(labels, seed)


# ---- whole images


@pytest.mark.parametrize("count", [5, 7, 12, 40])
def test_a_fifth_of_the_images_is_held_out(count: int) -> None:
    samples = [with_instances(4 + number % 6, number) for number in range(count)]
    split = split_holdout(samples, seed=0)
    assert len(split.held_out) == round(0.2 * count)
    assert sorted(map(id, split.train + split.held_out)) == sorted(map(id, samples))  # each once, and unchanged
    instances = sum(count_instances(sample.labels) for sample in split.held_out)
    assert split.description == f"{len(split.held_out)} of {count} images ({instances} instances) were held out"


def test_crowded_and_sparse_images_are_on_both_sides() -> None:
    order = np.random.default_rng(0).permutation(30).tolist()
    samples = [with_instances(number + 1, number) for number in order]
    for seed in range(5):
        counts = sorted(count_instances(sample.labels) for sample in split_holdout(samples, seed).held_out)
        assert counts[0] <= 5 and counts[-1] >= 26
        assert np.diff(counts).max() <= 6


def test_images_without_instances_are_trained_on() -> None:
    empty = [with_instances(0, seed) for seed in range(10)]
    split = split_holdout([*empty, *(with_instances(5, seed) for seed in range(5))], seed=1)
    assert [count_instances(sample.labels) for sample in split.held_out] == [5]
    assert sum(count_instances(sample.labels) == 0 for sample in split.train) == 10


def test_no_more_images_are_held_out_than_needed() -> None:
    samples = [with_instances(3, seed) for seed in range(6)] * 60
    assert len(split_holdout(samples, seed=0).held_out) == MAX_IMAGES


def test_split_depends_on_the_seed_alone() -> None:
    samples = [with_instances(5, number) for number in range(40)]

    def held_out(seed: int) -> list[int]:
        chosen = set(map(id, split_holdout(samples, seed).held_out))
        return [number for number, sample in enumerate(samples) if id(sample) in chosen]

    assert held_out(3) == held_out(3)
    assert len({tuple(held_out(seed)) for seed in range(10)}) > 1


# ---- strips


def assert_apart(sample: AnnotatedImage, split: Split) -> None:
    """Check one strip split: the strip, the gap, and what crosses from one to the other."""
    (train,), (held,) = split.train, split.held_out
    windows = np.lib.stride_tricks.sliding_window_view(sample.image, held.image.shape)
    ((top, left),) = np.argwhere((windows == held.image).all((2, 3)))
    height, width = held.image.shape
    strip = np.zeros(sample.labels.shape, bool)
    strip[top : top + height, left : left + width] = True
    across = 0 if width == sample.image.shape[1] else 1
    assert held.image.shape[1 - across] == sample.image.shape[1 - across]  # from one side to the other
    assert (top, left) == (0, 0) or (top + height, left + width) == sample.image.shape  # at the border

    np.testing.assert_array_equal(train.image, sample.image)
    np.testing.assert_array_equal(train.flows, sample.flows)
    distance = np.zeros(sample.labels.shape[across], int)  # from the strip, in pixels
    inside = np.flatnonzero(strip.any(1 - across))
    positions = np.arange(distance.size)
    distance = np.maximum(inside[0] - positions, positions - inside[-1])
    near = np.expand_dims(distance <= GAP, 1 - across) & np.ones_like(strip)
    assert (train.labels[near] == -1).all()

    both = set(np.unique(sample.labels[strip])) & set(np.unique(sample.labels[~strip])) - {0, -1}
    crossing = np.isin(sample.labels, list(both))
    np.testing.assert_array_equal(train.labels, np.where(near | crossing, -1, sample.labels))
    np.testing.assert_array_equal(held.labels, np.where(crossing, -1, sample.labels)[strip].reshape(held.labels.shape))
    assert count_instances(held.labels) >= MIN_INSTANCES
    assert count_instances(train.labels) >= MIN_INSTANCES
    assert split.description == f"a strip of 1 of 1 images ({count_instances(held.labels)} instances) was held out"


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", [(150, 150), (60, 400), (400, 60)])
def test_strip_is_apart_from_the_rest(shape: tuple[int, int], seed: int) -> None:
    sample = scattered(shape, 40, seed, largest=20 if seed % 2 else 40)
    split = split_holdout([sample], seed=0)
    assert split.held_out
    assert_apart(sample, split)


def test_instances_across_the_border_of_the_strip_count_for_nobody() -> None:
    crossings = 0
    for seed in range(12):
        sample = scattered((150, 150), 40, seed, largest=40)
        split = split_holdout([sample], seed=0)
        known = {int(label) for part in (split.train[0], split.held_out[0]) for label in np.unique(part.labels)}
        crossings += len(set(np.unique(sample.labels).tolist()) - known)
        assert not set(np.unique(split.train[0].labels)) & set(np.unique(split.held_out[0].labels)) - {0, -1}
    assert crossings > 5


def test_a_fifth_of_the_instances_is_held_out_where_they_lie_evenly() -> None:
    labels = np.zeros((300, 300), np.int32)
    labels.reshape(10, 30, 10, 30)[:, 10:20, :, 10:20] = np.arange(1, 101).reshape(10, 1, 10, 1)
    split = split_holdout([picture_of(labels)], seed=0)
    assert count_instances(split.held_out[0].labels) == 20
    assert count_instances(split.train[0].labels) == 80


def test_nothing_of_the_strip_is_trained_on() -> None:
    sample = scattered((150, 150), 40, 1)
    split = split_holdout([sample], seed=0)
    held = split.held_out[0]
    taught = {
        float(value)
        for index, dataset in [
            (index, CondensateNetDataset.from_samples(split.train, patch_size=64, augment=False, seed=seed))
            for seed in range(3)
            for index in range(32)
        ]
        for image, mask, _ in [dataset[index]]
        for value in image[mask >= 0]
    }
    assert len(taught) > 0.3 * sample.image.size
    inside = held.image[(held.image > 0) & (held.image < 1)]  # values that occur once
    assert not taught & set(map(float, inside))


def test_what_was_unknown_stays_unknown() -> None:
    sample = scattered((150, 150), 40, 3)
    labels = sample.labels.copy()
    labels[40:70] = -1
    split = split_holdout([sample.with_labels(labels)], seed=0)
    assert (split.train[0].labels[40:70] == -1).all()
    assert_apart(sample.with_labels(labels), split)


def test_images_that_cannot_be_split_are_trained_on_whole() -> None:
    large, small = scattered((150, 150), 40, 4), with_instances(2)
    split = split_holdout([small, large, small], seed=0)
    assert len(split.held_out) == 1
    assert split.train[0] is split.train[2] is small
    assert "a strip of 1 of 3 images" in split.description


# ---- too little


@pytest.mark.parametrize(
    "samples",
    [
        [with_instances(0)],
        [with_instances(5)],
        [with_instances(1, seed) for seed in range(4)],
        [with_instances(0, seed) for seed in range(9)],
        [with_instances(1, seed) for seed in range(5)],
    ],
    ids=["no instance", "one image", "few images", "no instances", "one instance each"],
)
def test_too_few_instances_are_not_held_out(samples: list[AnnotatedImage]) -> None:
    split = split_holdout(samples, seed=0)
    assert split.held_out == []
    assert len(split.train) == len(samples)
    assert all(a is b for a, b in zip(split.train, samples, strict=True))
    assert split.description.startswith("nothing was held out, because there are too few instances")
