"""What is held out of training, to choose the best epoch and to tell whether training helped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from condensatenet.labels import IGNORED
from condensatenet.training.dataset import AnnotatedImage

HELD_OUT_SHARE = 0.2
MIN_IMAGES = 5  # with fewer images than this, parts of images are held out instead of whole ones
MAX_IMAGES = 48  # more held-out images cost time in every epoch and hardly sharpen the estimate
MIN_INSTANCES = 3  # on either side of the split
GAP = 16  # pixels between what is trained on and what is held out


@dataclass(frozen=True)
class Split:
    """Images to train on, images held out (maybe none), and a sentence that says how they were chosen."""

    train: list[AnnotatedImage]
    held_out: list[AnnotatedImage]
    description: str


def split_holdout(samples: Sequence[AnnotatedImage], seed: int) -> Split:
    """Hold out about a fifth: whole images where there are enough of them, else a strip at one side of each image.

    Images of one group are held out together. They are drawn evenly over their numbers of instances, so that crowded
    and sparse ones are on both sides. A strip is separated from the rest by a gap; pixels of the other side, of the
    gap, and of instances that lie on both sides of the strip's border count as not annotated. Where there are too few
    instances for either, nothing is held out.
    """
    groups = _groups(samples)
    counts = [sum(count_instances(sample.labels) for sample in group) for group in groups]
    with_instances = [i for i in np.argsort(counts, kind="stable").tolist() if counts[i]]
    if len(with_instances) >= MIN_IMAGES:
        share = min(round(HELD_OUT_SHARE * len(with_instances)), MAX_IMAGES)
        offset = np.random.default_rng(seed).random()
        chosen = {with_instances[int((k + offset) * len(with_instances) / share)] for k in range(share)}
        held_out_instances = sum(counts[i] for i in chosen)
        if min(held_out_instances, sum(counts) - held_out_instances) >= MIN_INSTANCES:
            held_out = [sample for i in sorted(chosen) for sample in groups[i]]
            return Split(
                train=[sample for i, group in enumerate(groups) if i not in chosen for sample in group],
                held_out=held_out,
                description=f"{len(held_out)} of {len(samples)} images ({held_out_instances} instances) were held out",
            )
    split = _split_strips(samples)
    if split.held_out and len(groups) < len(samples):
        note = "slices or time points of one position are on both sides, so that the score may be too good"
        return replace(split, description=f"{split.description}; {note}")
    return split


def _groups(samples: Sequence[AnnotatedImage]) -> list[list[AnnotatedImage]]:
    groups: dict[tuple[str, int], list[AnnotatedImage]] = {}
    for number, sample in enumerate(samples):
        key = ("alone", number) if sample.group is None else ("group", sample.group)
        groups.setdefault(key, []).append(sample)
    return list(groups.values())


def count_instances(labels: NDArray[np.int32]) -> int:
    """Return the number of instances of a label mask."""
    return int(np.count_nonzero(np.unique(labels) > 0))


def _split_strips(samples: Sequence[AnnotatedImage]) -> Split:
    train, held_out, held_out_instances = [], [], 0
    for sample in samples:
        parts = _split_strip(sample)
        if parts is None:
            train.append(sample)
        else:
            train.append(parts[0])
            held_out.append(parts[1])
            held_out_instances += count_instances(parts[1].labels)
    if not held_out:
        return Split(
            train,
            [],
            "nothing was held out, because there are too few instances; annotate more to have the result checked",
        )
    description = f"a strip of {len(held_out)} of {len(samples)} images ({held_out_instances} instances) was held out"
    return Split(train, held_out, description)


def _split_strip(sample: AnnotatedImage) -> tuple[AnnotatedImage, AnnotatedImage] | None:
    """Return (rest, strip) of the best of the four sides, or None if no strip leaves enough instances on both sides."""
    boxes = {i + 1: box for i, box in enumerate(ndimage.find_objects(np.maximum(sample.labels, 0))) if box is not None}
    wanted = max(MIN_INSTANCES, round(HELD_OUT_SHARE * len(boxes)))
    best: tuple[int, AnnotatedImage, AnnotatedImage] | None = None
    for axis in (0, 1):
        length = sample.labels.shape[axis]
        for at_end in (False, True):
            # Measured from the side at which the strip lies: where each instance ends towards the middle.
            reach = sorted(length - box[axis].start if at_end else box[axis].stop for box in boxes.values())
            if len(reach) < wanted + MIN_INSTANCES:
                continue
            width = min(reach[wanted - 1], length - 1)
            strip = slice(length - width, length) if at_end else slice(0, width)
            beyond = slice(length - width - GAP, length) if at_end else slice(0, width + GAP)
            parts = _cut_apart(sample, boxes, axis, strip, slice(max(beyond.start, 0), min(beyond.stop, length)))
            left, held = count_instances(parts[0].labels), count_instances(parts[1].labels)
            if min(left, held) >= MIN_INSTANCES and (best is None or left > best[0]):
                best = (left, *parts)
    return None if best is None else best[1:]


def _cut_apart(
    sample: AnnotatedImage, boxes: dict[int, tuple[slice, ...]], axis: int, strip: slice, beyond: slice
) -> tuple[AnnotatedImage, AnnotatedImage]:
    crossing = [i for i, box in boxes.items() if _crosses(box[axis], strip)]
    rest = sample.labels.copy()
    rest[_along(axis, beyond)] = IGNORED
    rest[np.isin(rest, crossing)] = IGNORED
    held = sample.labels.copy()
    held[np.isin(held, crossing)] = IGNORED
    area = _along(axis, strip)
    return sample.with_labels(rest), sample.with_labels(held).crop(*area)


def _crosses(extent: slice, strip: slice) -> bool:
    return (
        extent.start < strip.stop
        and extent.stop > strip.start
        and not strip.start <= extent.start <= extent.stop <= strip.stop
    )


def _along(axis: int, part: slice) -> tuple[slice, slice]:
    return (part, slice(None)) if axis == 0 else (slice(None), part)
