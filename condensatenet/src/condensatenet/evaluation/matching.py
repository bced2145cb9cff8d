"""Which predicted instance belongs to which annotated one.

Overlaps are counted once, as a sparse table of (annotated, predicted) pairs that share a pixel; every IoU threshold is
then answered from that table. Nothing here loops over instances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from condensatenet.errors import InvalidLabelsError, InvalidOptionError
from condensatenet.labels import IGNORED


@dataclass(frozen=True, eq=False)
class Matching:
    """Overlaps between the instances of one annotated and one predicted label mask.

    Attributes:
        truth_ids: Labels of the annotated instances, sorted, shape (n_truth,).
        predicted_ids: Labels of the predicted instances that count, sorted, shape (n_predicted,).
        not_counted_ids: Labels of the predicted instances that lie mostly where nobody annotated.
        pair_truth: For each pair that shares a pixel, the place of its annotated instance in `truth_ids`, (n_pairs,).
        pair_predicted: The same for its predicted instance in `predicted_ids`.
        pair_iou: Intersection over union of each pair in (0, 1], float64.
        truth_pixels: Number of annotated foreground pixels.
        predicted_pixels: Number of predicted foreground pixels outside of ignored areas.
        common_pixels: Number of pixels that are foreground in both.
    """

    truth_ids: NDArray[np.integer]
    predicted_ids: NDArray[np.integer]
    not_counted_ids: NDArray[np.integer]
    pair_truth: NDArray[np.intp]
    pair_predicted: NDArray[np.intp]
    pair_iou: NDArray[np.float64]
    truth_pixels: int
    predicted_pixels: int
    common_pixels: int

    def select(self, threshold: float = 0.5) -> NDArray[np.intp]:
        """Choose one-to-one pairs with an IoU of at least `threshold`.

        As many pairs as possible are chosen and, among the choices with as many, the one with the largest sum of IoUs.

        Args:
            threshold: Smallest IoU of a match, in (0, 1].

        Returns:
            Positions of the chosen pairs in `pair_truth`, `pair_predicted` and `pair_iou`, sorted.

        Raises:
            InvalidOptionError: If the threshold is outside (0, 1].
        """
        kept = np.flatnonzero(self.pair_iou >= check_threshold(threshold))
        truth, predicted = self.pair_truth[kept], self.pair_predicted[kept]
        # Two pairs with an IoU above 0.5 cannot share an instance, so a conflict needs a low threshold or a tie at 0.5.
        contested = (np.bincount(truth)[truth] > 1) | (np.bincount(predicted)[predicted] > 1)
        if not contested.any():
            return kept
        # A pair that is itself uncontested shares no instance with a contested one, so the rest can be solved alone.
        rest = kept[contested]
        chosen = rest[_best_assignment(truth[contested], predicted[contested], self.pair_iou[rest])]
        return np.sort(np.concatenate([kept[~contested], chosen]))

    def matched_ids(self, threshold: float = 0.5) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Return the labels of matched instances as (annotated, predicted), the same position in both being a pair."""
        chosen = self.select(threshold)
        return self.truth_ids[self.pair_truth[chosen]], self.predicted_ids[self.pair_predicted[chosen]]


def match_instances(truth: NDArray[np.integer], prediction: NDArray[np.integer]) -> Matching:
    """Count the overlaps between annotated and predicted instances.

    Pixels where `truth` is -1 were annotated by nobody: they are removed from both masks before anything is measured. A
    predicted instance that loses more than half of its pixels that way is neither right nor wrong and does not count.
    The pixel counts are about pixels, not instances: they hold every pixel outside of ignored areas.

    Args:
        truth: Annotated label mask (H, W), any integer dtype: 0 background, > 0 instances, -1 ignored.
        prediction: Predicted label mask (H, W), any integer dtype: 0 background, > 0 instances.

    Returns:
        The overlapping pairs with their IoUs.

    Raises:
        InvalidLabelsError: If a mask is not a 2-D integer array, the shapes differ, or there are other negative labels.
    """
    from scipy import sparse

    truth, prediction = np.asarray(truth), np.asarray(prediction)
    _check_labels(truth, "annotated", lowest=IGNORED)
    _check_labels(prediction, "predicted", lowest=0)
    if truth.shape != prediction.shape:
        raise InvalidLabelsError(
            f"The annotated label mask has {truth.shape[0]} x {truth.shape[1]} pixels but the predicted one "
            f"{prediction.shape[0]} x {prediction.shape[1]}. Compare masks of the same image at the same magnification."
        )
    # Background on both sides is most of a frame and says nothing.
    somewhere = (truth != 0) | (prediction != 0)
    truth_ids, rows = _compact(truth[somewhere])
    predicted_ids, columns = _compact(prediction[somewhere])
    shape = (truth_ids.size, predicted_ids.size)
    overlaps = sparse.coo_array((np.ones(rows.size, np.int64), (rows, columns)), shape=shape).tocsr()

    # Pixels in all and pixels that are not ignored of each predicted label; background (label 0) drops out by `counts`.
    judged = truth_ids != IGNORED
    all_pixels = np.bincount(columns, minlength=predicted_ids.size)
    overlaps, truth_ids = overlaps[np.flatnonzero(judged)], truth_ids[judged]
    truth_areas, predicted_areas = overlaps.sum(axis=1), overlaps.sum(axis=0)
    is_truth, is_predicted = truth_ids != 0, predicted_ids != 0
    counts = is_predicted & (2 * (all_pixels - predicted_areas) <= all_pixels)

    pairs = overlaps.tocoo()
    in_both = is_truth[pairs.row] & is_predicted[pairs.col]
    common_pixels = int(pairs.data[in_both].sum())
    used = in_both & counts[pairs.col]
    row, column, common = pairs.row[used], pairs.col[used], pairs.data[used]
    return Matching(
        truth_ids=truth_ids[is_truth],
        predicted_ids=predicted_ids[counts],
        not_counted_ids=predicted_ids[is_predicted & ~counts],
        pair_truth=(np.cumsum(is_truth) - 1)[row],
        pair_predicted=(np.cumsum(counts) - 1)[column],
        pair_iou=common / (truth_areas[row] + predicted_areas[column] - common),
        truth_pixels=int(truth_areas[is_truth].sum()),
        predicted_pixels=int(predicted_areas[is_predicted].sum()),
        common_pixels=common_pixels,
    )


def check_threshold(threshold: float) -> float:
    """Return an IoU threshold as a float without rounding noise (0.1 + 0.2 means 0.3)."""
    value = round(float(threshold), 9)
    if not 0 < value <= 1:
        raise InvalidOptionError(f"An IoU threshold is above 0 and at most 1, not {threshold}. Use for example 0.5.")
    return value


def _check_labels(labels: NDArray[np.integer], kind: str, *, lowest: int) -> None:
    if labels.ndim != 2:
        raise InvalidLabelsError(
            f"The {kind} label mask has the shape {labels.shape}, not (height, width). Pass one 2-D mask per image."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidLabelsError(
            f"The {kind} label mask holds {labels.dtype} values. Labels are whole numbers: 0 for background and "
            "another one for each instance. Convert it to int32, or number the objects of a yes/no mask first."
        )
    if labels.size and labels.min() < lowest:
        allowed = "Only -1 (nobody annotated this) may be negative." if lowest < 0 else "Use 0 for background."
        raise InvalidLabelsError(f"The {kind} label mask holds the label {labels.min()}. {allowed}")


def _compact(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.intp]]:
    """Return the sorted labels that occur in a 1-D array and, for each entry, its position among them."""
    if labels.size == 0:
        return labels, np.zeros(0, np.intp)
    low, high = int(labels.min()), int(labels.max())
    # A lookup table is many times faster than sorting, but only fits into memory if the labels are not spread widely.
    if high - low > 4 * labels.size + 65536 or high > np.iinfo(np.intp).max:
        return np.unique(labels, return_inverse=True)
    offsets = labels.astype(np.intp) - low
    occurs = np.zeros(high - low + 1, bool)
    occurs[offsets] = True
    return (np.flatnonzero(occurs) + low).astype(labels.dtype), (np.cumsum(occurs) - 1)[offsets]


def _best_assignment(
    truth: NDArray[np.intp], predicted: NDArray[np.intp], iou: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return positions of a largest set of disjoint pairs, of largest total IoU among those.

    Solved as a sparse assignment in which each annotated instance may also stay alone (a private partner), at a price
    that no gain in IoU can outweigh.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    _, truth = np.unique(truth, return_inverse=True)
    _, predicted = np.unique(predicted, return_inverse=True)
    n_truth, n_predicted = int(truth.max()) + 1, int(predicted.max()) + 1
    alone = np.arange(n_truth)
    # The solver takes a cost of 0 for "no edge", hence 2 - IoU and not 1 - IoU; scipy 1.11 wants 32-bit indices.
    costs = np.concatenate([2.0 - iou, np.full(n_truth, 2.0 * n_truth + 2.0)])
    rows = np.concatenate([truth, alone]).astype(np.int32)
    columns = np.concatenate([predicted, n_predicted + alone]).astype(np.int32)
    graph = sparse.coo_array((costs, (rows, columns)), shape=(n_truth, n_predicted + n_truth)).tocsr()
    _, partner = min_weight_full_bipartite_matching(graph)
    return np.flatnonzero(partner[truth] == predicted)
