"""Evaluations as plain-text tables for a terminal or a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from condensatenet.errors import InvalidOptionError

if TYPE_CHECKING:
    from condensatenet.evaluation.metrics import Evaluation

_COMPARED_THRESHOLDS = (0.5, 0.75)


def evaluation_table(evaluation: Evaluation) -> str:
    """Return one evaluation as text: counts first, then one line per IoU threshold."""
    header = ["IoU", "matched", "false", "missed", "AP", "precision", "recall", "F1", "PQ"]
    rows = [
        [
            f"{score.threshold:g}" if round(score.threshold, 2) != score.threshold else f"{score.threshold:.2f}",
            f"{score.true_positives:,}",
            f"{score.false_positives:,}",
            f"{score.false_negatives:,}",
            *(f"{value:.3f}" for value in (score.ap, score.precision, score.recall, score.f1, score.panoptic_quality)),
        ]
        for score in evaluation.scores
    ]
    images = "1 image" if evaluation.n_images == 1 else f"{evaluation.n_images:,} images"
    lines = [
        f"{images}: {evaluation.n_truth:,} instances annotated, {evaluation.n_predicted:,} predicted "
        f"({evaluation.count_error:+,})"
    ]
    if evaluation.n_images > 1:
        lines.append(f"Count per image: off by {evaluation.mean_absolute_count_error:.1f} on average")
    if evaluation.n_not_counted:
        lines.append(f"Not counted: {evaluation.n_not_counted:,} predicted that lie mostly where nobody annotated")
    return "\n".join(
        [
            *lines,
            "",
            *_aligned([header, *rows]),
            "",
            f"Mean AP {evaluation.mean_ap:.3f}   pixel Dice {evaluation.dice:.3f}",
            "A match shares at least the fraction IoU of the area the two cover together.",
            "AP = matched / (matched + false + missed); 1 is perfect.",
        ]
    )


def compare_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return evaluations side by side as text, such as ``{"before": ..., "after": ...}``.

    With exactly two, a last column shows by how much the second differs from the first. Scores at a threshold that an
    evaluation lacks are shown as "-".

    Args:
        evaluations: One evaluation per column title.

    Raises:
        InvalidOptionError: If there is nothing to compare.
    """
    if not evaluations:
        raise InvalidOptionError("There is nothing to compare. Pass at least one evaluation with its title.")
    columns = list(evaluations.values())
    with_difference = len(columns) == 2
    rows = [["", *evaluations, *(["difference"] if with_difference else [])]]
    for title, value_of, number_format in _compared_values():
        values = [value_of(evaluation) for evaluation in columns]
        cells = ["-" if value is None else format(value, number_format) for value in values]
        if with_difference:
            before, after = values
            cells.append("-" if before is None or after is None else format(after - before, "+" + number_format))
        rows.append([title, *cells])
    return "\n".join(_aligned(rows, left_aligned=1))


def _compared_values() -> list[tuple[str, Callable[[Evaluation], float | None], str]]:
    def at(threshold: float, name: str) -> Callable[[Evaluation], float | None]:
        def value_of(evaluation: Evaluation) -> float | None:
            return getattr(evaluation.at(threshold), name) if threshold in evaluation.thresholds else None

        return value_of

    low, high = _COMPARED_THRESHOLDS
    return [
        ("AP at IoU 0.50", at(low, "ap"), ".3f"),
        ("AP at IoU 0.75", at(high, "ap"), ".3f"),
        ("mean AP", lambda evaluation: evaluation.mean_ap, ".3f"),
        ("precision (0.50)", at(low, "precision"), ".3f"),
        ("recall (0.50)", at(low, "recall"), ".3f"),
        ("F1 (0.50)", at(low, "f1"), ".3f"),
        ("panoptic quality (0.50)", at(low, "panoptic_quality"), ".3f"),
        ("pixel Dice", lambda evaluation: evaluation.dice, ".3f"),
        ("annotated", lambda evaluation: evaluation.n_truth, ",d"),
        ("predicted", lambda evaluation: evaluation.n_predicted, ",d"),
        ("count error per image", lambda evaluation: evaluation.mean_absolute_count_error, ".1f"),
    ]


def _aligned(rows: Sequence[Sequence[str]], *, left_aligned: int = 0) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if position < left_aligned else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
