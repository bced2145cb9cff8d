"""Annotated images and the patches that a network is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from condensatenet.errors import CondensateNetError, InvalidLabelsError, InvalidOptionError, TrainingError
from condensatenet.inference.normalize import normalize_image
from condensatenet.labels import IGNORED, check_labels
from condensatenet.network.variants import INPUT_MULTIPLE
from condensatenet.training.augment import (
    DIHEDRAL_COUNT,
    resample,
    resample_image,
    transform_dihedral,
    transform_flows,
    vary_intensity,
)
from condensatenet.training.targets import labels_to_flows, without_large_ids

MIN_PATCHES_PER_EPOCH = 32
_INSTANCE_CENTRED = 0.85  # share of patches that are placed on an instance; the rest falls anywhere that is annotated
_ZOOM = 0.4  # largest zoom in or out, as a natural logarithm

Patch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class AnnotatedImage:
    """A normalised image with its annotations and the flow field computed from them once.

    Attributes:
        image: (H, W) float32 in [0, 1].
        labels: (H, W) int32; -1 where nobody annotated.
        flows: (2, H, W) float32 of the complete instances, also where `labels` was set to -1 later.
        group: images of one group may show the same objects, such as slices of one stack; None is a group of its own.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int32]
    flows: NDArray[np.float32]
    group: int | None = None

    def with_labels(self, labels: NDArray[np.int32]) -> AnnotatedImage:
        """Return the same image and flows under other labels."""
        return replace(self, labels=labels)

    def crop(self, rows: slice, columns: slice) -> AnnotatedImage:
        """Return a part of the image."""
        return AnnotatedImage(
            self.image[rows, columns], self.labels[rows, columns], self.flows[:, rows, columns], self.group
        )


def annotate(
    image: ArrayLike,
    label_mask: ArrayLike,
    intensity_range: tuple[float, float] | None = None,
    group: int | None = None,
) -> AnnotatedImage:
    """Check and normalise an image and its label mask, and compute the flow field.

    Args:
        image: (H, W), any integer or floating dtype.
        label_mask: (H, W) whole numbers: 0 background, 1 and up instances, -1 not annotated.
        intensity_range: intensities that become 0 and 1, for a crop those of its frame; the image's own percentiles by
            default.
        group: see `AnnotatedImage`.

    Raises:
        InvalidImageError, InvalidLabelsError: the image or the labels cannot be trained on.
    """
    labels = without_large_ids(check_labels(np.asarray(label_mask)))
    normalized = normalize_image(image, intensity_range=intensity_range)
    if normalized.shape != labels.shape:
        raise InvalidLabelsError(
            f"the label mask has shape {labels.shape}, its image {normalized.shape}; they must be equal"
        )
    return AnnotatedImage(normalized, labels, labels_to_flows(labels), group)


class CondensateNetDataset:
    """Patches of annotated images, cut anew in every epoch.

    Indexing yields `(image (1, P, P), mask target (1, P, P), flow target (2, P, P))`, all float32: the image in [0, 1];
    the mask 1 in instances, 0 on background, -1 where nothing is known (not annotated, or padding of an image smaller
    than a patch); the flows as unit vectors (dy, dx), zero outside instances. A patch depends on the random seed, the
    epoch and its index alone.

    Args:
        images: (H, W) arrays.
        label_masks: (H, W) arrays of whole numbers, one per image; -1 marks pixels that nobody annotated.
        patch_size: side of a patch in pixels, a multiple of 32.
        augment: whether patches are flipped, rotated, zoomed and varied in intensity.
        rng: source of the dataset's random seed; a fixed seed by default.
        intensity_ranges: for each image the intensities (low, high) that become 0 and 1, or None for its own
            percentiles.
        groups: for each image the number of its group, or None: images of one group may show the same objects, so that
            none of them is held out while another one is trained on, where that can be avoided.

    Raises:
        InvalidImageError, InvalidLabelsError, InvalidOptionError: with the number of the image that is at fault.
    """

    def __init__(
        self,
        images: Sequence[ArrayLike],
        label_masks: Sequence[ArrayLike],
        patch_size: int = 256,
        augment: bool = True,
        rng: np.random.Generator | None = None,
        *,
        intensity_ranges: Sequence[tuple[float, float] | None] | None = None,
        groups: Sequence[int | None] | None = None,
    ) -> None:
        ranges = [None] * len(images) if intensity_ranges is None else intensity_ranges
        groups = [None] * len(images) if groups is None else groups
        if not len(images) == len(label_masks) == len(ranges) == len(groups):
            raise InvalidOptionError(
                f"there are {len(images)} images, {len(label_masks)} label masks, {len(ranges)} intensity ranges and "
                f"{len(groups)} groups; give one each"
            )
        check_patch_size(patch_size)  # before the flow fields, which take a while
        samples = []
        given = zip(images, label_masks, ranges, groups, strict=True)
        for number, (image, labels, limits, group) in enumerate(given, start=1):
            try:
                samples.append(annotate(image, labels, limits, group))
            except CondensateNetError as error:
                raise type(error)(f"image {number} of {len(images)}: {error}") from error
        seed = int((rng or np.random.default_rng(0)).integers(2**32))
        self._set(samples, patch_size, augment, seed)

    @classmethod
    def from_samples(
        cls, samples: Sequence[AnnotatedImage], *, patch_size: int, augment: bool, seed: int
    ) -> CondensateNetDataset:
        """Make a dataset of images whose targets are computed already."""
        dataset = cls.__new__(cls)
        dataset._set(samples, patch_size, augment, seed)
        return dataset

    def _set(self, samples: Sequence[AnnotatedImage], patch_size: int, augment: bool, seed: int) -> None:
        check_patch_size(patch_size)
        self.samples = [sample for sample in samples if (sample.labels != IGNORED).any()]
        if not self.samples:
            raise TrainingError("there is nothing to train on: no image has an annotated pixel")
        self.patch_size, self.augment, self.seed = patch_size, augment, seed
        self._epoch = 0
        self._centres = [_instance_centres(sample.labels) for sample in self.samples]
        self._annotated = [ndimage.find_objects((sample.labels != IGNORED).view(np.int8))[0] for sample in self.samples]
        areas = [max(1, round(sample.labels.size / patch_size**2)) for sample in self.samples]
        repeats = max(1, -(-MIN_PATCHES_PER_EPOCH // sum(areas)))
        self._sample_of_patch = np.repeat(np.arange(len(areas)), np.array(areas) * repeats)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose patches the dataset yields."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sample_of_patch)

    def __getitem__(self, index: int) -> Patch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, self._epoch, index])
        number = self._sample_of_patch[index]
        size = round(self.patch_size * np.exp(rng.uniform(-_ZOOM, _ZOOM))) if self.augment else self.patch_size
        patch = _cut(self.samples[number], *self._place(number, size, rng), size)
        image, labels, flows = patch.image, patch.labels, patch.flows
        if size != self.patch_size:
            image = resample_image(image, self.patch_size)
            labels, flows = resample(labels, self.patch_size), resample(flows, self.patch_size)
        if self.augment:
            element = int(rng.integers(DIHEDRAL_COUNT))
            image, labels = transform_dihedral(image, element), transform_dihedral(labels, element)
            flows = transform_flows(flows, element)
            image = vary_intensity(image, rng)
        mask = np.clip(labels, -1, 1).astype(np.float32)
        return (
            np.ascontiguousarray(image[None]),
            np.ascontiguousarray(mask[None]),
            np.where(mask == 1, flows, np.float32(0)),
        )

    def _place(self, number: int, size: int, rng: np.random.Generator) -> tuple[int, int]:
        """Return (top, left) of a patch on an instance or on the annotated area, inside an image if that is larger."""
        height, width = self.samples[number].labels.shape
        centres = self._centres[number]
        if len(centres) and rng.random() < _INSTANCE_CENTRED:
            y, x = centres[rng.integers(len(centres))]
        else:
            y, x = (rng.integers(extent.start, extent.stop) for extent in self._annotated[number])
        top, left = int(y - rng.integers(size)), int(x - rng.integers(size))
        return _inside(top, size, height), _inside(left, size, width)


def prepare_training_data(
    images: Sequence[ArrayLike],
    label_masks: Sequence[ArrayLike],
    patch_size: int = 256,
    augment: bool = True,
    random_seed: int = 42,
    *,
    intensity_ranges: Sequence[tuple[float, float] | None] | None = None,
    groups: Sequence[int | None] | None = None,
) -> CondensateNetDataset:
    """Return the dataset for `train_model`: see `CondensateNetDataset` for the arguments and errors."""
    rng = np.random.default_rng(random_seed)
    return CondensateNetDataset(
        images, label_masks, patch_size, augment, rng, intensity_ranges=intensity_ranges, groups=groups
    )


def check_patch_size(patch_size: int) -> None:
    """Raise `InvalidOptionError` unless the side of a patch is a positive multiple of 32 pixels."""
    if not isinstance(patch_size, int) or patch_size < INPUT_MULTIPLE or patch_size % INPUT_MULTIPLE:
        raise InvalidOptionError(f"patch_size must be a multiple of {INPUT_MULTIPLE}, not {patch_size!r}")


def _instance_centres(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    boxes = [box for box in ndimage.find_objects(np.maximum(labels, 0)) if box is not None]
    return np.array([[(s.start + s.stop) // 2 for s in box] for box in boxes], dtype=np.intp).reshape(-1, 2)


def _inside(start: int, size: int, length: int) -> int:
    """Move an interval into [0, length), or keep it anywhere that covers all of [0, length) if it is longer."""
    low, high = sorted((0, length - size))
    return min(max(start, low), high)


def _cut(sample: AnnotatedImage, top: int, left: int, size: int) -> AnnotatedImage:
    """Cut a square patch; what lies outside the image repeats its border and is labelled as not annotated."""
    height, width = sample.labels.shape
    rows = slice(max(top, 0), min(top + size, height))
    columns = slice(max(left, 0), min(left + size, width))
    part = sample.crop(rows, columns)
    if part.labels.shape == (size, size):
        return part
    margins = ((rows.start - top, top + size - rows.stop), (columns.start - left, left + size - columns.stop))
    return AnnotatedImage(
        np.pad(part.image, margins, mode="symmetric"),
        np.pad(part.labels, margins, constant_values=IGNORED),
        np.pad(part.flows, ((0, 0), *margins)),
    )
