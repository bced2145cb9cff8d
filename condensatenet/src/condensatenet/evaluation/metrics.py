"""How good a segmentation is: instance scores at several IoU thresholds, counts and pixels, pooled over images."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condensatenet.errors import InvalidLabelsError, InvalidOptionError
from condensatenet.evaluation.matching import check_threshold, match_instances

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""The IoU thresholds of the COCO and Data Science Bowl 2018 benchmarks."""


@dataclass(frozen=True)
class ThresholdScores:
    """Scores at one IoU threshold.

    A score that would divide by zero is 1 where nothing was annotated and nothing was predicted (full agreement), and
    otherwise 0 (a precision without any prediction, a recall without any annotation). No score is ever NaN.

    Attributes:
        threshold: Smallest IoU of a match.
        true_positives: Matched instances.
        false_positives: Predicted instances without a match.
        false_negatives: Annotated instances without a match.
        matched_iou: Sum of the IoUs of the matches.
    """

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    matched_iou: float

    @property
    def ap(self) -> float:
        """Average precision as in cell segmentation benchmarks: TP / (TP + FP + FN)."""
        return self._share(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """Share of the predicted instances that are matched."""
        return self._share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the annotated instances that are matched."""
        return self._share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self._share(self.true_positives, self._mean_count)

    @property
    def panoptic_quality(self) -> float:
        """Sum of matched IoUs / (TP + FP/2 + FN/2) (Kirillov et al., 2019, https://arxiv.org/abs/1801.00868)."""
        return self._share(self.matched_iou, self._mean_count)

    @property
    def _mean_count(self) -> float:
        return self.true_positives + (self.false_positives + self.false_negatives) / 2

    def _share(self, part: float, whole: float) -> float:
        if whole:
            return part / whole
        return 0.0 if self.false_positives or self.false_negatives else 1.0

    def as_dict(self) -> dict[str, float | int]:
        """Return counts and scores as plain numbers."""
        return {
            "threshold": self.threshold,
            "true_positives": self.true_positives,
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
            "ap": self.ap,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "panoptic_quality": self.panoptic_quality,
        }


@dataclass(frozen=True)
class Evaluation:
    """Scores of a segmentation, pooled over images: instances of all images are counted together.

    Attributes:
        scores: One entry per IoU threshold, ascending.
        n_images: Number of images.
        n_truth: Annotated instances.
        n_predicted: Predicted instances, without those that lie mostly where nobody annotated.
        n_not_counted: Predicted instances that lie mostly where nobody annotated.
        mean_absolute_count_error: Mean over images of abs(predicted - annotated instances).
        dice: 2 x common foreground pixels / (annotated + predicted foreground pixels); 1 if neither has any.
    """

    scores: tuple[ThresholdScores, ...]
    n_images: int
    n_truth: int
    n_predicted: int
    n_not_counted: int
    mean_absolute_count_error: float
    dice: float

    @property
    def count_error(self) -> int:
        """Predicted minus annotated instances over all images; errors of opposite sign cancel."""
        return self.n_predicted - self.n_truth

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The evaluated IoU thresholds, ascending."""
        return tuple(score.threshold for score in self.scores)

    @property
    def mean_ap(self) -> float:
        """Mean of the average precision over the thresholds."""
        return float(np.mean([score.ap for score in self.scores]))

    def at(self, threshold: float = 0.5) -> ThresholdScores:
        """Return the scores at one of the evaluated IoU thresholds.

        Raises:
            InvalidOptionError: If that threshold was not evaluated.
        """
        value = check_threshold(threshold)
        for score in self.scores:
            if score.threshold == value:
                return score
        known = ", ".join(f"{known:g}" for known in self.thresholds)
        raise InvalidOptionError(f"IoU threshold {value:g} was not evaluated. Use one of {known}, or evaluate it too.")

    def ap(self, threshold: float = 0.5) -> float:
        """Return TP / (TP + FP + FN) at an IoU threshold."""
        return self.at(threshold).ap

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, lists and dictionaries that JSON can hold."""
        return {
            "n_images": self.n_images,
            "n_truth": self.n_truth,
            "n_predicted": self.n_predicted,
            "n_not_counted": self.n_not_counted,
            "count_error": self.count_error,
            "mean_absolute_count_error": self.mean_absolute_count_error,
            "dice": self.dice,
            "mean_ap": self.mean_ap,
            "scores": [score.as_dict() for score in self.scores],
        }

    def table(self) -> str:
        """Return the scores as plain text for a terminal."""
        from condensatenet.evaluation.tables import evaluation_table

        return evaluation_table(self)


def evaluate_instances(
    truths: Iterable[NDArray[np.integer]],
    predictions: Iterable[NDArray[np.integer]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> Evaluation:
    """Compare predicted with annotated label masks, image by image, and pool the counts.

    Pixels labelled -1 in an annotated mask are left out, see :func:`condensatenet.evaluation.match_instances`.

    Args:
        truths: Annotated label masks (H, W), integer: 0 background, > 0 instances, -1 nobody annotated this.
        predictions: Predicted label masks in the same order, each of the shape of its annotated one.
        thresholds: IoU thresholds in (0, 1]. A pair matches if its IoU is at least the threshold.

    Returns:
        The pooled scores.

    Raises:
        InvalidLabelsError: If there is no image, one side has more images, or a mask is unusable.
        InvalidOptionError: If there is no threshold or one is outside (0, 1].
    """
    levels = sorted({check_threshold(threshold) for threshold in thresholds})
    if not levels:
        raise InvalidOptionError("Pass at least one IoU threshold, for example 0.5.")
    matches = np.zeros(len(levels), int)
    matched_iou = np.zeros(len(levels))
    count_errors: list[int] = []
    n_truth = n_predicted = n_not_counted = common_pixels = foreground_pixels = 0
    for truth, prediction in itertools.zip_longest(truths, predictions):
        if truth is None or prediction is None:
            more, fewer = ("predicted", "annotated") if truth is None else ("annotated", "predicted")
            raise InvalidLabelsError(
                f"There are more {more} than {fewer} label masks ({len(count_errors)}). Pass one of each per image."
            )
        matching = match_instances(truth, prediction)
        for level, threshold in enumerate(levels):
            chosen = matching.select(threshold)
            matches[level] += chosen.size
            matched_iou[level] += matching.pair_iou[chosen].sum()
        count_errors.append(matching.predicted_ids.size - matching.truth_ids.size)
        n_truth += matching.truth_ids.size
        n_predicted += matching.predicted_ids.size
        n_not_counted += matching.not_counted_ids.size
        common_pixels += matching.common_pixels
        foreground_pixels += matching.truth_pixels + matching.predicted_pixels
    if not count_errors:
        raise InvalidLabelsError("There is nothing to evaluate. Pass at least one annotated mask and its prediction.")
    return Evaluation(
        scores=tuple(
            ThresholdScores(threshold, int(found), n_predicted - int(found), n_truth - int(found), float(iou))
            for threshold, found, iou in zip(levels, matches, matched_iou, strict=True)
        ),
        n_images=len(count_errors),
        n_truth=n_truth,
        n_predicted=n_predicted,
        n_not_counted=n_not_counted,
        mean_absolute_count_error=float(np.mean(np.abs(count_errors))),
        dice=2 * common_pixels / foreground_pixels if foreground_pixels else 1.0,
    )
