"""How good a network is on annotated images, measured through the real post-processing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from condensatenet.evaluation import Evaluation, evaluate_instances
from condensatenet.inference.instances import MAX_SIZE, MIN_SIZE, PROB_THRESHOLD, flow_to_instances
from condensatenet.training.dataset import AnnotatedImage

if TYPE_CHECKING:
    from condensatenet.network.model import CondensateNet

THRESHOLDS = tuple(round(0.1 * k, 1) for k in range(1, 10))
"""Probability thresholds that are tried when a model's best one is looked for."""

_TILE_SIZE = 1024

Output = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Foreground probabilities (H, W) and flows (2, H, W) of an image."""


@dataclass(frozen=True)
class SizeLimits:
    """Smallest and largest area in pixels of an instance that is kept."""

    min_size: int = MIN_SIZE
    max_size: int = MAX_SIZE

    @classmethod
    def of(cls, samples: Sequence[AnnotatedImage]) -> SizeLimits:
        """Return the usual limits, widened where annotated instances are smaller or larger than they allow."""
        areas = [np.bincount(np.maximum(sample.labels, 0).ravel())[1:] for sample in samples]
        area = np.concatenate([a[a > 0] for a in areas])
        if area.size == 0:
            return cls()
        # Fragments of instances that were cut at a border are small, so the smallest few do not count.
        return cls(min(MIN_SIZE, max(1, int(np.percentile(area, 2)))), max(MAX_SIZE, 2 * int(area.max())))


@dataclass(frozen=True)
class Measurement:
    """A model's predicted label masks for some annotated images, and how well they agree with the annotations."""

    predictions: list[NDArray[np.int32]]
    evaluation: Evaluation


def measure(
    network: CondensateNet, samples: Sequence[AnnotatedImage], limits: SizeLimits, check_stop: Callable[[], None]
) -> Measurement:
    """Segment annotated images at the default threshold and evaluate that; `check_stop` is called between tiles."""
    predictions = [_instances(predict(network, sample, check_stop), limits, PROB_THRESHOLD) for sample in samples]
    return Measurement(predictions, evaluate_instances([sample.labels for sample in samples], predictions))


def best_threshold(
    network: CondensateNet, samples: Sequence[AnnotatedImage], limits: SizeLimits, check_stop: Callable[[], None]
) -> tuple[float, float]:
    """Return the highest AP@0.5 over `THRESHOLDS` and its threshold (the middle one where several are equal)."""
    truths = [sample.labels for sample in samples]
    outputs = [predict(network, sample, check_stop) for sample in samples]
    scores = []
    for threshold in THRESHOLDS:
        check_stop()
        predictions = [_instances(output, limits, threshold) for output in outputs]
        scores.append(evaluate_instances(truths, predictions, (0.5,)).ap(0.5))
    best = [threshold for threshold, score in zip(THRESHOLDS, scores, strict=True) if score == max(scores)]
    return max(scores), best[len(best) // 2]


def predict(network: CondensateNet, sample: AnnotatedImage, check_stop: Callable[[], None]) -> Output:
    """Return the network's output for an image; `check_stop` is called between tiles."""
    from condensatenet.inference.tiles import predict_frame

    network.eval()
    check_stop()
    return predict_frame(
        network, sample.image, tile_size=_TILE_SIZE, progress_callback=lambda fraction, message: check_stop()
    )


def _instances(output: Output, limits: SizeLimits, threshold: float) -> NDArray[np.int32]:
    return flow_to_instances(*output, threshold, limits.min_size, limits.max_size, grouping="merged")
