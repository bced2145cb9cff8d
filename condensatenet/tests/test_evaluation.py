"""Matching and scores, checked by hand and against a loop over all pairs."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from condensatenet.errors import InvalidLabelsError, InvalidOptionError
from condensatenet.evaluation import (
    THRESHOLDS,
    Evaluation,
    compare_table,
    evaluate_instances,
    match_instances,
)

Labels = NDArray[np.integer]


def naive_pairs(truth: Labels, prediction: Labels) -> tuple[set[int], set[int], dict[tuple[int, int], float]]:
    """Counted annotated and predicted labels and the IoU of each overlapping pair, by looping over everything."""
    judged = truth != -1
    truth_ids = {int(label) for label in np.unique(truth) if label > 0}
    predicted_ids = set()
    for label in np.unique(prediction[prediction > 0]):
        where = prediction == label
        if np.sum(where & ~judged) / np.sum(where) <= 0.5:
            predicted_ids.add(int(label))
    ious = {}
    for a in truth_ids:
        for b in predicted_ids:
            in_a, in_b = truth == a, (prediction == b) & judged
            if np.any(in_a & in_b):
                ious[a, b] = float(np.sum(in_a & in_b) / np.sum(in_a | in_b))
    return truth_ids, predicted_ids, ious


def naive_best(pairs: list[tuple[int, int, float]]) -> tuple[int, float]:
    """Largest number of disjoint pairs and, for that number, the largest IoU sum, by trying everything."""
    if not pairs:
        return 0, 0.0
    a, b, iou = pairs[0]
    left_out = naive_best(pairs[1:])
    count, total = naive_best([pair for pair in pairs[1:] if pair[0] != a and pair[1] != b])
    return max(left_out, (count + 1, total + iou))


def random_labels(rng: np.random.Generator, shape: tuple[int, int], count: int) -> Labels:
    labels = np.zeros(shape, np.int32)
    for label in rng.permutation(np.arange(1, count + 1)):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(2, 8, 2)
        labels[y : y + height, x : x + width] = label
    return labels


def box(shape: tuple[int, int], *boxes: tuple[slice, slice]) -> Labels:
    """Label 1, 2, ... for each (rows, columns)."""
    labels = np.zeros(shape, np.int32)
    for label, where in enumerate(boxes, start=1):
        labels[where] = label
    return labels


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_a_loop_over_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(8, 24, 2))
    truth = random_labels(rng, shape, int(rng.integers(0, 8)))
    # A shifted copy overlaps much, an independent mask in confusing ways.
    prediction = np.roll(truth, rng.integers(-2, 3, 2), (0, 1)) if seed % 2 else random_labels(rng, shape, 7)
    if seed % 3 == 0:
        truth[:, : shape[1] // 3] = -1
    truth_ids, predicted_ids, ious = naive_pairs(truth, prediction)

    matching = match_instances(truth, prediction)
    assert set(matching.truth_ids.tolist()) == truth_ids
    assert set(matching.predicted_ids.tolist()) == predicted_ids
    found = {
        (int(matching.truth_ids[a]), int(matching.predicted_ids[b])): iou
        for a, b, iou in zip(matching.pair_truth, matching.pair_predicted, matching.pair_iou, strict=True)
    }
    assert found == pytest.approx(ious)
    for threshold in (0.01, 0.1, 0.2, 0.35, *THRESHOLDS):
        chosen = matching.select(threshold)
        count, total = naive_best([(a, b, iou) for (a, b), iou in ious.items() if iou >= threshold])
        assert chosen.size == count
        assert matching.pair_iou[chosen].sum() == pytest.approx(total)
        for matched in matching.matched_ids(threshold):
            assert len(set(matched.tolist())) == count


def test_low_threshold_takes_more_matches_over_a_better_one() -> None:
    # Predicted 1 overlaps annotated 1 best, but annotated 2 has no other partner while annotated 1 has.
    truth = np.array([[1, 1, 1, 1, 1, 2, 2]])
    prediction = np.array([[2, 0, 1, 1, 1, 1, 0]])
    matching = match_instances(truth, prediction)
    truth_ids, predicted_ids = matching.matched_ids(0.1)
    assert dict(zip(truth_ids.tolist(), predicted_ids.tolist(), strict=True)) == {1: 2, 2: 1}
    assert [ids.tolist() for ids in matching.matched_ids(0.5)] == [[1], [1]]


def test_two_halves_of_one_instance_give_one_match_at_exactly_half() -> None:
    truth = np.ones((4, 4), int)
    halves = np.repeat([[1, 1, 2, 2]], 4, axis=0)
    for first, second in ((truth, halves), (halves, truth)):
        matching = match_instances(first, second)
        assert matching.pair_iou.tolist() == [0.5, 0.5]
        assert matching.select(0.5).size == 1
        assert matching.select(0.51).size == 0


def test_scores_by_hand() -> None:
    shape = (10, 30)
    # 1: IoU 16/20 = 0.8; 2: IoU 4/16 = 0.25; 3: missed; and one prediction in the background.
    truth = box(shape, np.s_[0:4, 0:5], np.s_[0:4, 10:14], np.s_[6:9, 0:3])
    prediction = box(shape, np.s_[0:4, 0:4], np.s_[0:2, 10:12], np.s_[6:9, 20:25])
    evaluation = evaluate_instances([truth], [prediction])
    at = evaluation.at(0.5)
    assert (at.true_positives, at.false_positives, at.false_negatives) == (1, 2, 2)
    assert evaluation.ap(0.5) == evaluation.ap(0.8) == pytest.approx(1 / 5)
    assert evaluation.ap(0.85) == 0
    assert evaluation.mean_ap == pytest.approx(7 / 10 * 1 / 5)
    assert (at.precision, at.recall, at.f1) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert at.panoptic_quality == pytest.approx(0.8 / 3)
    assert evaluation.dice == pytest.approx(2 * (16 + 4) / ((20 + 16 + 9) + (16 + 4 + 15)))
    assert (evaluation.n_truth, evaluation.n_predicted, evaluation.count_error) == (3, 3, 0)
    assert evaluate_instances([truth], [prediction], thresholds=[0.25]).at(0.25).true_positives == 2


def test_precision_is_about_predictions_and_recall_about_annotations() -> None:
    truth = box((4, 12), np.s_[:, 0:2], np.s_[:, 3:5], np.s_[:, 6:8], np.s_[:, 9:11])
    at = evaluate_instances([truth], [np.where(truth == 1, 1, 0)]).at(0.5)
    assert (at.precision, at.recall) == (1.0, 0.25)


def test_iou_equal_to_the_threshold_matches() -> None:
    truth = box((1, 10), np.s_[:, 0:5])
    prediction = box((1, 10), np.s_[:, 0:3])
    evaluation = evaluate_instances([truth], [prediction], thresholds=np.arange(0.5, 1.0, 0.05))
    assert evaluation.thresholds == THRESHOLDS
    assert evaluation.ap(0.6) == 1
    assert evaluation.ap(0.65) == 0


def test_images_are_pooled_by_instance_and_count_errors_do_not_cancel() -> None:
    one = box((4, 12), np.s_[:, 0:3])
    three = box((4, 12), np.s_[:, 0:3], np.s_[:, 4:7], np.s_[:, 8:11])
    evaluation = evaluate_instances([one, three], [three, one])
    assert evaluation.n_images == 2
    assert evaluation.ap(0.5) == 2 / 6
    assert evaluation.count_error == 0
    assert evaluation.mean_absolute_count_error == 2
    more = evaluate_instances([one], [three])
    fewer = evaluate_instances([three], [one])
    assert (more.count_error, fewer.count_error) == (2, -2)


class TestIgnoredPixels:
    def test_they_are_removed_from_the_prediction(self) -> None:
        truth = box((4, 10), np.s_[:, 2:5])
        truth[:, 5:] = -1
        prediction = box((4, 10), np.s_[:, 2:7])
        evaluation = evaluate_instances([truth], [prediction])
        assert evaluation.ap(0.95) == 1
        assert evaluation.dice == 1

    @pytest.mark.parametrize(("ignored", "n_counted"), [(5, 1), (6, 0)])
    def test_a_prediction_counts_unless_more_than_half_is_ignored(self, ignored: int, n_counted: int) -> None:
        truth = np.zeros((1, 12), np.int32)
        truth[:, :ignored] = -1
        prediction = box((1, 12), np.s_[:, 0:10])
        evaluation = evaluate_instances([truth], [prediction])
        assert evaluation.n_predicted == evaluation.at(0.5).false_positives == n_counted
        assert evaluation.n_not_counted == 1 - n_counted

    def test_nothing_annotated_anywhere_judges_nothing(self) -> None:
        matching = match_instances(np.full((6, 6), -1), box((6, 6), np.s_[0:3, 0:3], np.s_[4:6, 4:6]))
        assert matching.not_counted_ids.tolist() == [1, 2]
        assert matching.predicted_ids.size == matching.truth_ids.size == matching.predicted_pixels == 0

    def test_a_prediction_that_does_not_count_cannot_match(self) -> None:
        truth = np.array([[1, 1, 0, -1, -1, -1]])
        prediction = np.array([[5, 5, 0, 5, 5, 5]])
        at = evaluate_instances([truth], [prediction]).at(0.5)
        assert (at.true_positives, at.false_positives, at.false_negatives) == (0, 0, 1)


class TestNothingThere:
    nothing = np.zeros((5, 5), np.int32)
    something = box((5, 5), np.s_[1:3, 1:3])

    def scores(self, truth: Labels, prediction: Labels) -> list[float]:
        evaluation = evaluate_instances([truth], [prediction])
        at = evaluation.at(0.5)
        return [evaluation.dice, evaluation.mean_ap, at.ap, at.precision, at.recall, at.f1, at.panoptic_quality]

    def test_nothing_to_find_and_nothing_found_is_perfect(self) -> None:
        assert self.scores(self.nothing, self.nothing) == [1.0] * 7

    def test_one_sided_is_worthless(self) -> None:
        assert self.scores(self.nothing, self.something) == [0.0] * 7
        assert self.scores(self.something, self.nothing) == [0.0] * 7

    def test_an_empty_image_changes_nothing_in_a_pool(self) -> None:
        alone = evaluate_instances([self.something], [self.something])
        pooled = evaluate_instances([self.something, self.nothing], [self.something, self.nothing])
        assert pooled.scores == alone.scores

    def test_images_without_pixels(self) -> None:
        assert evaluate_instances([np.zeros((0, 7), int)], [np.zeros((0, 7), int)]).ap(0.5) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, ">i4"])
def test_any_integer_type_and_memory_layout(dtype: str) -> None:
    rng = np.random.default_rng(3)
    truth, prediction = random_labels(rng, (40, 60), 12), random_labels(rng, (40, 60), 12)
    expected = evaluate_instances([truth], [prediction], thresholds=[0.05, 0.5])
    reversed_view = truth.astype(dtype)[::-1, ::-1][::-1, ::-1]
    spaced_view = np.repeat(prediction.T.astype(dtype), 2, axis=0)[::2].T
    assert not reversed_view.flags.owndata
    assert not spaced_view.flags.c_contiguous
    assert evaluate_instances([reversed_view], [spaced_view], thresholds=[0.05, 0.5]) == expected


@pytest.mark.parametrize("factor", [1_000_003, 2**40])
def test_large_and_scattered_labels(factor: int) -> None:
    rng = np.random.default_rng(5)
    truth, prediction = random_labels(rng, (40, 60), 12), random_labels(rng, (40, 60), 12)
    truth[:5] = -1
    expected = match_instances(truth, prediction)
    found = match_instances(
        np.where(truth > 0, truth.astype(np.int64) * factor, truth), prediction.astype(np.int64) * factor
    )
    assert found.truth_ids.tolist() == (expected.truth_ids.astype(np.int64) * factor).tolist()
    assert found.pair_iou.tolist() == expected.pair_iou.tolist()
    assert found.matched_ids(0.01)[1].tolist() == (expected.matched_ids(0.01)[1].astype(np.int64) * factor).tolist()


def test_labels_beyond_int64() -> None:
    prediction = np.array([[2**63 + 5, 2**63 + 5, 2**63 + 6]], np.uint64)
    assert match_instances(np.array([[1, 1, 2]]), prediction).matched_ids()[1].tolist() == [2**63 + 5, 2**63 + 6]


def test_inputs_are_not_changed() -> None:
    truth, prediction = np.array([[1, -1, 0]]), np.array([[1, 1, 0]])
    truth.flags.writeable = prediction.flags.writeable = False
    evaluate_instances([truth], [prediction])


@pytest.mark.parametrize(
    ("truth", "prediction", "text"),
    [
        (np.zeros((4, 5), int), np.zeros((5, 4), int), "4 x 5 pixels.*5 x 4"),
        (np.zeros((4, 4)), np.zeros((4, 4), int), "annotated label mask holds float64"),
        (np.zeros((4, 4), int), np.zeros((4, 4), bool), "predicted label mask holds bool"),
        (np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), int), r"shape \(1, 4, 4\)"),
        (np.full((4, 4), -2), np.zeros((4, 4), int), "annotated label mask holds the label -2"),
        (np.zeros((4, 4), int), np.full((4, 4), -1), "predicted label mask holds the label -1"),
    ],
)
def test_unusable_masks(truth: Labels, prediction: Labels, text: str) -> None:
    with pytest.raises(InvalidLabelsError, match=text):
        evaluate_instances([truth], [prediction])


def test_unequal_numbers_of_masks() -> None:
    mask = np.zeros((4, 4), int)
    with pytest.raises(InvalidLabelsError, match=r"more annotated than predicted label masks \(1\)"):
        evaluate_instances([mask, mask], [mask])
    with pytest.raises(InvalidLabelsError, match=r"more predicted than annotated label masks \(0\)"):
        evaluate_instances([], [mask])
    with pytest.raises(InvalidLabelsError, match="nothing to evaluate"):
        evaluate_instances([], [])


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, 50, float("nan")])
def test_thresholds_outside_of_0_to_1(threshold: float) -> None:
    mask = np.zeros((4, 4), int)
    with pytest.raises(InvalidOptionError, match="IoU threshold"):
        evaluate_instances([mask], [mask], thresholds=[threshold])


def test_missing_thresholds() -> None:
    mask = np.zeros((4, 4), int)
    with pytest.raises(InvalidOptionError, match="at least one"):
        evaluate_instances([mask], [mask], thresholds=[])
    with pytest.raises(InvalidOptionError, match=r"0\.6 was not evaluated. Use one of 0\.5, 0\.75"):
        evaluate_instances([mask], [mask], thresholds=[0.75, 0.5]).ap(0.6)


def example() -> Evaluation:
    truth = box((4, 12), np.s_[:, 0:3], np.s_[:, 4:7], np.s_[:, 8:11])
    truth[3] = -1
    prediction = box((4, 12), np.s_[:, 0:3], np.s_[:3, 5:8], np.s_[3:, 8:11])
    return evaluate_instances([truth], [prediction])


def test_as_dict_is_json_and_holds_the_scores() -> None:
    evaluation = example()
    stored = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert stored["scores"][0] == evaluation.at(0.5).as_dict()
    assert stored["scores"][0]["ap"] == evaluation.ap(0.5) == pytest.approx(2 / 3)
    assert stored["n_not_counted"] == 1
    assert stored["mean_ap"] == evaluation.mean_ap


def test_table_shows_counts_and_scores() -> None:
    lines = example().table().splitlines()
    assert lines[0] == "1 image: 3 instances annotated, 2 predicted (-1)"
    assert lines[1].startswith("Not counted: 1 predicted")
    assert lines[3].split() == ["IoU", "matched", "false", "missed", "AP", "precision", "recall", "F1", "PQ"]
    assert lines[4].split() == ["0.50", "2", "0", "1", "0.667", "1.000", "0.667", "0.800", "0.600"]
    assert max(map(len, lines)) <= 80


def test_table_of_many_images_shows_how_far_counts_are_off() -> None:
    one, none = box((4, 12), np.s_[:, 0:3]), np.zeros((4, 12), int)
    lines = evaluate_instances([one, none], [none, one]).table().splitlines()
    assert lines[:2] == [
        "2 images: 1 instances annotated, 1 predicted (+0)",
        "Count per image: off by 1.0 on average",
    ]


def test_comparison_of_two_shows_the_difference() -> None:
    truth = box((4, 12), np.s_[:, 0:3], np.s_[:, 4:7])
    before = evaluate_instances([truth], [np.where(truth == 1, 1, 0)])
    after = evaluate_instances([truth], [truth])
    rows = {
        line[:24].strip(): line[24:].split() for line in compare_table({"before": before, "after": after}).splitlines()
    }
    assert rows[""] == ["before", "after", "difference"]
    assert rows["AP at IoU 0.50"] == ["0.500", "1.000", "+0.500"]
    assert rows["predicted"] == ["1", "2", "+1"]
    assert rows["count error per image"] == ["1.0", "0.0", "-1.0"]


def test_comparison_of_one_or_many_and_of_different_thresholds() -> None:
    truth = box((4, 12), np.s_[:, 0:3])
    only_half = evaluate_instances([truth], [truth], thresholds=[0.5])
    full = evaluate_instances([truth], [truth])
    for names in (["a"], ["a", "b", "c"]):
        assert "difference" not in compare_table(dict.fromkeys(names, full))
    (row,) = (line for line in compare_table({"a": only_half, "b": full}).splitlines() if "0.75" in line)
    assert row.split()[-3:] == ["-", "1.000", "-"]
    with pytest.raises(InvalidOptionError, match="nothing to compare"):
        compare_table({})


def test_thousands_of_instances_take_less_than_a_second() -> None:
    columns, rows = np.meshgrid(np.arange(2048), np.arange(2048))
    truth = (rows // 28 * 74 + columns // 28 + 1).astype(np.int32)
    truth[(rows % 28 < 5) | (columns % 28 < 5)] = 0
    prediction = np.roll(truth, (3, 2), (0, 1))
    evaluate_instances([truth[:64]], [prediction[:64]])  # imports scipy
    start = time.process_time()
    evaluation = evaluate_instances([truth], [prediction], thresholds=(0.05, *THRESHOLDS))
    seconds = time.process_time() - start
    assert evaluation.n_truth > 5000
    assert seconds < 1
