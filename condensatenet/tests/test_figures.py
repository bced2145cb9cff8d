"""Pictures: the right pixels in the right colours, files that can be read back, nothing heavy imported early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from condensatenet.errors import InvalidImageError, InvalidLabelsError, InvalidOptionError
from condensatenet.evaluation import evaluate_instances
from condensatenet.figures import Panel, draw_overlay, draw_panels, draw_training_curves
from condensatenet.figures.overlays import FALSE_COLOR, MATCHED_COLOR, MISSED_COLOR, NOT_COUNTED_COLOR

STRIP = 40
LARGE = (700, 900)  # drawn pixel by pixel


def where(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Pixels of a colour above the legend."""
    return (picture[:-STRIP] == color).all(axis=2)


def scene() -> tuple[NDArray[np.uint16], NDArray[np.int32], NDArray[np.int32]]:
    """A frame with one matched, one missed and one false instance; the right third was not annotated."""
    rng = np.random.default_rng(0)
    image = rng.integers(100, 4000, LARGE).astype(np.uint16)
    truth, prediction = np.zeros(LARGE, np.int32), np.zeros(LARGE, np.int32)
    truth[100:140, 100:150] = 7
    prediction[102:142, 100:150] = 3
    truth[300:320, 100:150] = 2
    prediction[500:520, 100:150] = 9
    truth[:, 600:] = -1
    prediction[400:420, 700:750] = 4
    return image, truth, prediction


def frame_of(rows: slice, columns: slice) -> NDArray[np.bool_]:
    """The outermost pixels of a rectangle."""
    outline = np.zeros(LARGE, bool)
    outline[rows, columns] = True
    outline[rows.start + 1 : rows.stop - 1, columns.start + 1 : columns.stop - 1] = False
    return outline


def test_each_outcome_is_outlined_in_its_colour_inside_of_the_instance() -> None:
    _, truth, prediction = scene()
    picture = draw_overlay(np.zeros(LARGE), truth, prediction)
    assert picture.dtype == np.uint8
    assert picture.shape == (LARGE[0] + STRIP, LARGE[1], 3)
    for color, rows, columns in (
        (MATCHED_COLOR, slice(102, 142), slice(100, 150)),
        (MISSED_COLOR, slice(300, 320), slice(100, 150)),
        (FALSE_COLOR, slice(500, 520), slice(100, 150)),
        (NOT_COUNTED_COLOR, slice(400, 420), slice(700, 750)),
    ):
        np.testing.assert_array_equal(where(picture, color), frame_of(rows, columns))


def test_image_is_grey_between_its_percentiles_and_not_hidden() -> None:
    image, truth, prediction = scene()
    picture = draw_overlay(image, truth, prediction)[:-STRIP]
    low, high = np.percentile(image, [0.5, 99.5])
    expected = 255 * np.clip((image - low) / (high - low), 0, 1)
    # Away from outlines and the area without annotations.
    assert np.abs(picture[:90, :590] - expected[:90, :590, None]).max() <= 1
    assert np.abs(picture[110:130, 110:140] - expected[110:130, 110:140, None]).max() <= 1


def test_area_without_annotations_is_dimmed_and_can_be_seen_on_black() -> None:
    image, truth, prediction = scene()
    picture = draw_overlay(image, truth, prediction)[:-STRIP].astype(int)
    assert picture[:300, 610:].mean() < 0.75 * picture[:300, :590].mean()
    black = draw_overlay(np.zeros(LARGE), truth, prediction)[:-STRIP]
    assert not black[:90, :600].any()
    # No square of 12 pixels without a line.
    assert black[:396, 600:].any(axis=2).reshape(33, 12, 25, 12).any(axis=(1, 3)).all()


def test_threshold_decides_what_is_matched() -> None:
    image, truth, prediction = scene()
    assert not where(draw_overlay(image, truth, prediction, iou_threshold=0.95), MATCHED_COLOR).any()
    assert where(draw_overlay(image, truth, prediction, iou_threshold=0.95), FALSE_COLOR)[102, 100]


def test_without_annotations_everything_is_found() -> None:
    image, _, prediction = scene()
    picture = draw_overlay(image, None, prediction)
    assert where(picture, MATCHED_COLOR).sum() == 2 * (40 + 50) - 4 + 2 * (2 * (20 + 50) - 4)
    assert not where(picture, FALSE_COLOR).any()


def test_touching_instances_are_separated() -> None:
    labels = np.zeros(LARGE, np.int32)
    labels[100:120, 100:120] = 1
    labels[100:120, 120:140] = 2
    outlines = where(draw_overlay(np.zeros(LARGE), None, labels), MATCHED_COLOR)
    assert outlines[105, 119] & outlines[105, 120]
    assert not outlines[105, 118]
    assert not outlines[105, 121]


def test_small_images_are_enlarged_to_squares() -> None:
    image = np.arange(20 * 10).reshape(20, 10)
    labels = np.zeros((20, 10), np.int32)
    labels[5:8, 2:6] = 1
    picture = draw_overlay(image, labels, labels)
    assert picture.shape[0] == 20 * 50 + STRIP
    outline = where(picture, MATCHED_COLOR)
    assert (outline[5 * 50, 2 * 50 : 6 * 50]).all()
    assert not outline[5 * 50 - 1].any()
    # Three pixels wide, and the inside stays visible.
    assert np.flatnonzero(outline[6 * 50 + 25]).tolist() == [100, 101, 102, 297, 298, 299]
    np.testing.assert_array_equal(picture[50:100, :50], np.broadcast_to(picture[50, 0], (50, 50, 3)))


def test_single_pixel_instances_and_narrow_images_can_be_drawn() -> None:
    labels = np.zeros((900, 3), np.int32)
    labels[4, 1] = 1
    picture = draw_overlay(np.zeros((900, 3)), labels, labels)
    assert np.argwhere(where(picture, MATCHED_COLOR)).tolist() == [[4, 1]]
    # The legend is wider than the image and still complete, down to the empty margin at its right.
    assert picture.shape[1] > 300
    assert (picture[-STRIP:, -4:] == picture[-1, -1]).all()


def test_legend_shows_only_what_the_picture_holds() -> None:
    image, truth, prediction = scene()

    def colors(picture: NDArray[np.uint8]) -> set[tuple[int, ...]]:
        return set(map(tuple, picture[-STRIP:].reshape(-1, 3).tolist()))

    assert {MATCHED_COLOR, MISSED_COLOR, FALSE_COLOR, NOT_COUNTED_COLOR} <= colors(
        draw_overlay(image, truth, prediction)
    )
    assert NOT_COUNTED_COLOR not in colors(draw_overlay(image, np.maximum(truth, 0), prediction))
    assert MISSED_COLOR not in colors(draw_overlay(image, None, prediction))


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.uint32])
def test_types_do_not_matter_and_inputs_are_not_changed(dtype: type) -> None:
    image, truth, prediction = scene()
    truth = np.maximum(truth, 0)
    expected = draw_overlay(image, truth, prediction)
    inputs = [image.astype(np.float32), truth.astype(dtype), prediction.astype(dtype)]
    for array in inputs:
        array.flags.writeable = False
    np.testing.assert_array_equal(draw_overlay(*inputs), expected)


def test_the_file_holds_the_returned_picture(tmp_path: Path) -> None:
    image, truth, prediction = scene()
    overlay = draw_overlay(image, truth, prediction, tmp_path / "overlay.png")
    panels = draw_panels([[Panel("one", image, truth, prediction)]], tmp_path / "panels.png")
    for name, picture in (("overlay.png", overlay), ("panels.png", panels)):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), picture)
        picture[0, 0] = 0  # the caller's own


def test_unusable_input() -> None:
    image, truth, prediction = scene()
    with pytest.raises(InvalidLabelsError, match=r"image has the shape \(700, 900\) but a label mask \(699, 900\)"):
        draw_overlay(image, truth, prediction[1:])
    with pytest.raises(InvalidLabelsError, match=r"label mask \(700, 899\)"):
        draw_overlay(image, truth[:, 1:], prediction)
    with pytest.raises(InvalidImageError):
        draw_overlay(np.stack([image] * 3, axis=2), truth, prediction)
    for nothing in ([], [[]], [[], []]):
        with pytest.raises(InvalidOptionError, match="nothing to draw"):
            draw_panels(nothing)


def test_panels_form_a_grid_with_titles() -> None:
    image, truth, prediction = scene()
    small = np.s_[:256, :256]
    panels = [
        [Panel("before", image, truth, prediction), Panel("after", image, truth, np.maximum(truth, 0))],
        [Panel("crop", image[small], truth[small], prediction[small])],
    ]
    picture = draw_panels(panels, panel_side=450)
    # The frame is reduced by 2 to 350 x 450, the crop enlarged by 2 to 512 x 512.
    assert picture.shape == (STRIP + 350 + STRIP + 512 + STRIP, 12 + 512 + 12 + 450 + 12, 3)
    background = picture[-1, -1]
    drawn = (picture != background).any(axis=2)
    assert drawn[STRIP : STRIP + 350, 12 : 12 + 450].all()
    assert not drawn[:, :12].any()
    for title in (np.s_[:STRIP, 12:100], np.s_[:STRIP, 536:600], np.s_[STRIP + 350 : STRIP + 350 + STRIP, 12:100]):
        assert drawn[title].any()
    # Nothing but the legend, which starts at the left, where the second row has no panel.
    assert not drawn[STRIP + 350 :, 600:].any()
    assert drawn[-STRIP:].any()
    # Missed before training, matched after it.
    before, after = picture[:390, :536], picture[:390, 536:]
    assert (before == MISSED_COLOR).all(axis=2).any()
    assert not (after == MISSED_COLOR).all(axis=2).any()


def test_a_long_title_ends_before_the_score() -> None:
    image, truth, prediction = scene()
    short = draw_panels([[Panel("", image, truth, prediction)]])
    long = draw_panels([[Panel("position " * 40 + "7.tif", image, truth, prediction)]])
    changed = np.flatnonzero((short != long)[:STRIP].any(axis=(0, 2)))
    score = np.flatnonzero((short != short[-1, -1])[:STRIP].any(axis=(0, 2)))
    assert changed.min() < 30
    assert score.min() - 40 < changed.max() < score.min()


def test_matches_are_those_of_the_evaluation() -> None:
    rng = np.random.default_rng(2)
    truth = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((40, 40), int))
    rows, columns = np.ogrid[:800, :800]
    truth[(rows % 40 < 8) | (columns % 40 < 8)] = 0
    prediction = np.where(np.isin(truth, rng.choice(400, 150)), 0, np.roll(truth, (4, 4), (0, 1)))
    at = evaluate_instances([truth], [prediction]).at(0.5)
    picture = draw_overlay(rng.random((800, 800)), truth, prediction)
    # Count outlines by their upper left corners, which every rectangle has one of.
    missed = where(picture, MISSED_COLOR)[8::40, 8::40]
    assert missed.sum() == at.false_negatives > 50


def epochs(count: int) -> list[dict[str, float | int | None]]:
    return [
        {
            "epoch": epoch,
            "loss": 1 / epoch,
            "mask_loss": 0.7 / epoch,
            "flow_loss": 0.3 / epoch,
            "learning_rate": 1e-4 / epoch,
            "seconds": 2.0,
            **({"ap50": 0.5 + 0.01 * epoch} if epoch % 2 == 0 else {"ap50": None} if epoch % 3 == 0 else {}),
        }
        for epoch in range(1, count + 1)
    ]


class TestTrainingCurves:
    def test_png(self, tmp_path: Path) -> None:
        draw_training_curves(epochs(10), tmp_path / "curves.png", best_epoch=8, start_ap=0.4)
        picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
        assert min(picture.shape[:2]) > 800
        for color in ("#0072b2", "#d55e00", "#cc79a7", "#009e73"):
            expected = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
            assert (np.abs(picture.astype(int) - expected).max(axis=2) < 8).sum() > 50

    def test_best_epoch_and_start_model_are_named(self, tmp_path: Path) -> None:
        draw_training_curves(epochs(10), tmp_path / "curves.svg", best_epoch=8, start_ap=0.4)
        text = (tmp_path / "curves.svg").read_text()
        assert "best: epoch 8 (0.580)" in text
        assert "start model (0.400)" in text
        draw_training_curves(epochs(10), tmp_path / "plain.svg")
        text = (tmp_path / "plain.svg").read_text()
        assert "best" not in text
        assert "start model" not in text
        assert "held-out images" in text

    @pytest.mark.parametrize("start_ap", [None, 0.0])
    def test_one_epoch_without_held_out_images(self, tmp_path: Path, start_ap: float | None) -> None:
        draw_training_curves(epochs(1), tmp_path / "curves.svg", best_epoch=1, start_ap=start_ap)
        text = (tmp_path / "curves.svg").read_text()
        assert "not measured on held-out images" in text
        assert ("start model (0.000)" in text) == (start_ap is not None)

    def test_a_score_of_zero_is_a_score(self, tmp_path: Path) -> None:
        history = [{**entry, "ap50": 0.0} for entry in epochs(3)]
        draw_training_curves(history, tmp_path / "curves.svg", best_epoch=1)
        assert "best: epoch 1 (0.000)" in (tmp_path / "curves.svg").read_text()

    def test_a_loss_that_is_no_number_leaves_a_gap(self, tmp_path: Path) -> None:
        history = epochs(5)
        history[2]["loss"] = float("nan")
        draw_training_curves(history, tmp_path / "curves.png")
        assert (tmp_path / "curves.png").stat().st_size > 10_000

    def test_nothing_to_draw(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidOptionError, match="holds no epoch"):
            draw_training_curves([], tmp_path / "curves.png")
        assert not (tmp_path / "curves.png").exists()


def test_importing_is_cheap_and_drawing_needs_no_pyplot(tmp_path: Path) -> None:
    code = """
import sys
import condensatenet.evaluation, condensatenet.figures
early = {"torch", "scipy", "matplotlib", "PIL", "skimage"} & set(sys.modules)
assert not early, early
condensatenet.figures.draw_training_curves(
    [{"epoch": 1, "loss": 1.0, "mask_loss": 1.0, "flow_loss": 1.0, "learning_rate": 1.0}], sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "curves.png")], check=True)
