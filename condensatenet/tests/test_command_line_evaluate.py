"""`condensatenet evaluate`: scores, pictures, and files that cannot be compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import command_line_examples
import pytest
from command_line_examples import ALL_SIZES, frame, squares, write_image
from PIL import Image

from condensatenet import CondensateNetPipeline
from condensatenet.command_line import main
from condensatenet.evaluation import evaluate_instances
from condensatenet.files.images import find_images, read_image, read_labels, write_labels

pipeline = command_line_examples.pipeline


@pytest.fixture
def known_case(tmp_path: Path) -> tuple[str, ...]:
    """Two images with 4 instances: 2 found (with an IoU of 1 and 0.6), 1 false, and 1 found where nobody annotated."""
    truth = squares((5, 5), (30, 30), (45, 70))
    truth[:20, 60:] = -1
    prediction = squares((5, 5), (5, 70))
    prediction[30:36, 30:40] = 9
    write_labels(tmp_path / "truth" / "a_masks.tif", truth)
    write_labels(tmp_path / "found" / "a_labels.tif", prediction)
    write_labels(tmp_path / "truth" / "b.tif", squares((20, 20)))
    write_labels(tmp_path / "found" / "b.tif", squares((20, 50)))
    return "evaluate", "--labels", str(tmp_path / "truth"), "--predictions", str(tmp_path / "found")


def test_scores_of_a_known_case(
    known_case: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*known_case, "--json", str(tmp_path / "new" / "scores.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 images: 4 instances annotated, 3 predicted (-1)"
    # matched, false, missed, AP = 2 / 5, precision 2 / 3, recall 2 / 4, F1 = 2 / 3.5, PQ = 1.6 / 3.5
    assert "0.50 2 1 2 0.400 0.667 0.500 0.571 0.457" in [" ".join(line.split()) for line in lines]
    assert "0.65 1 2 3 0.167 0.333 0.250 0.286 0.286" in [" ".join(line.split()) for line in lines]
    scores = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert scores["predictions"]["scores"][0]["ap"] == pytest.approx(0.4)
    assert scores["predictions"]["n_not_counted"] == 1


def test_predictions_are_drawn_on_images(known_case: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.tif", frame())
    overlay = ["--overlay", str(tmp_path / "pictures")]
    assert main([*known_case, *overlay]) == 2
    assert main([*known_case, *overlay, "--images", str(tmp_path / "images")]) == 0
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"a_overlay.png", "b_overlay.png"}


def test_models_side_by_side(
    model_path: Path, pipeline: CondensateNetPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--output", str(tmp_path), "--count", "2", "--size", "64", "96"]) == 0
    other = tmp_path / "other"
    shutil.copytree(model_path, other)
    command = ["evaluate", "--labels", str(tmp_path / "labels"), "--images", str(tmp_path / "images"), *ALL_SIZES]
    command += ["--json", str(tmp_path / "scores.json"), "--overlay", str(tmp_path / "pictures"), "--device", "cpu"]
    capsys.readouterr()
    assert main([*command, "--model", str(model_path), "--model", str(other)]) == 0
    header = capsys.readouterr().out.splitlines()[0].split()
    assert header == [str(model_path), str(other), "difference"]
    truths = [read_labels(path) for path in find_images([tmp_path / "labels"])]
    predictions = [pipeline.segment(read_image(path)) for path in find_images([tmp_path / "images"])]
    expected = json.loads(json.dumps(evaluate_instances(truths, predictions).as_dict()))
    assert expected["n_predicted"] > 2
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores == {str(model_path): expected, str(other): expected}
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pictures] == ["frame_1_overlay.png", "frame_2_overlay.png"]
    with Image.open(pictures[0]) as picture:
        width = picture.width
    assert main([*command, "--model", str(model_path)]) == 0
    assert "Mean AP" in capsys.readouterr().out
    with Image.open(pictures[0]) as picture:
        assert picture.width < width


def test_files_that_cannot_be_compared_are_named(
    known_case: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found"

    def error_of(*more: str) -> str:
        assert main([*known_case, *more]) == 2
        return capsys.readouterr().err

    write_labels(found / "b.tif", squares((20, 50))[:-1])
    assert f"{tmp_path / 'truth' / 'b.tif'} has 64 x 96 pixels, {found / 'b.tif'} 63 x 96" in error_of()
    write_labels(found / "b.tif", squares((20, 50)) - 1)
    assert f"{found / 'b.tif'} holds -1" in error_of()
    (found / "b.tif").unlink()
    assert f"{found} has no label mask that belongs to b.tif" in error_of()
    write_labels(found / "b.tif", squares((20, 50)))
    write_labels(found / "c_labels.tif", squares((20, 50)))
    assert f"{tmp_path / 'truth'} has no label mask that belongs to c_labels.tif" in error_of()
    (found / "c_labels.tif").rename(found / "b_labels.tif")
    assert f"two files in {found} are label masks of one name" in error_of()
    assert "leave out --model" in error_of("--model", "pretrained")
    assert "is a folder" in error_of("--json", str(tmp_path))
    assert main(["evaluate", "--labels", str(tmp_path / "truth")]) == 2
    assert "give --images, or --predictions" in capsys.readouterr().err
