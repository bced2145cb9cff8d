"""The command `condensatenet` without training: what it writes, prints, returns, and says when something is wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from condensatenet import CondensateNetPipeline, simulate_frame
from condensatenet.command_line import main
from condensatenet.evaluation import evaluate_instances
from condensatenet.files.images import find_images, read_frames, read_image, read_labels, write_labels

ALL_SIZES = ["--min-size", "1", "--max-size", "100000"]
VERBS = ("segment", "train", "evaluate", "simulate", "download", "info")


@pytest.fixture(scope="module")
def pipeline(model_path: Path) -> CondensateNetPipeline:
    return CondensateNetPipeline.from_local(model_path, "cpu", min_size=1, max_size=100_000)


@pytest.fixture
def segment(model_path: Path, tmp_path: Path) -> Callable[..., int]:
    """Segments into the folder `results`, keeping instances of any size."""

    def run(*arguments: str | Path) -> int:
        output = ["--output", tmp_path / "results", "--model", model_path, "--device", "cpu"]
        return main([str(argument) for argument in ("segment", *output, *ALL_SIZES, *arguments)])

    return run


def frame(seed: int = 2, shape: tuple[int, int] = (64, 96)) -> NDArray[np.uint16]:
    return simulate_frame(shape, rng=np.random.default_rng(seed), bit_depth=16)[0]


def write_image(path: Path, image: NDArray[np.uint16]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image)
    return path


def squares(*corners: tuple[int, int], side: int = 10) -> NDArray[np.int32]:
    """A label mask with a square at each corner (y, x)."""
    labels = np.zeros((64, 96), np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# The command as a process


def test_help_of_every_verb_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        text = capsys.readouterr().out
        assert stop.value.code == 0
        assert f"examples:\n  condensatenet {verb}" in text, verb


def test_module_can_be_run() -> None:
    command = [sys.executable, "-m", "condensatenet"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert all(f"  {verb} " in shown.stdout for verb in VERBS)
    command += ["evaluate", "--labels", "no_such_folder", "--predictions", "."]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.startswith("condensatenet: error: There is no file or folder")
    assert "Traceback" not in failed.stderr


def test_what_needs_no_network_does_not_import_torch(tmp_path: Path, model_path: Path) -> None:
    code = """
import sys
sys.modules["torch"] = None  # importing it fails
from condensatenet.command_line import main
output, model = sys.argv[1:]
for verb in ("segment", "train", "evaluate"):
    try:
        main([verb, "--help"])
    except SystemExit as stop:
        assert stop.code == 0
assert main(["simulate", "--output", output, "--count", "1"]) == 0
masks = output + "/labels"
assert main(["evaluate", "--labels", masks, "--predictions", masks]) == 0
assert main(["segment", output + "/images", "--output", output, "--model", model, "--overlap", "0.9"]) == 2
assert main(["train", "--images", output + "/images", "--labels", masks, "--output", output]) == 2
assert main(["info", model]) == 0
"""
    result = run_python(code, tmp_path / "out", model_path)
    assert result.returncode == 0, result.stderr
    assert "overlap must be from 0 to 0.5, not 0.9" in result.stderr
    assert "exists and is not a model" in result.stderr
    parameters = sum(
        parameter.numel() for parameter in CondensateNetPipeline.from_local(model_path).network.parameters()
    )
    assert f"parameters               {parameters:,} (" in result.stdout
    assert "no torch (import of torch halted" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_told_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "condensatenet", "simulate", "--output", str(tmp_path), "--count", "1"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=buffered, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("condensatenet: error: ")
    assert "space on the disk" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_bar_is_for_terminals(tmp_path: Path) -> None:
    import fcntl
    import pty
    import termios

    code = "import sys; from condensatenet.command_line import main; main(sys.argv[1:])"
    simulate = ["simulate", "--count", "2", "--output"]
    quiet = run_python(code, *simulate, tmp_path / "quiet")
    assert quiet.stdout.startswith("2 images with")
    assert quiet.stderr == ""
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", code, *simulate, str(tmp_path / "shown")]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=stderr, check=True)
    assert b"0/2" in os.read(terminal, 10_000)
    os.close(stderr)
    os.close(terminal)


def test_missing_and_unknown_options_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["no_such_verb"], ["segment", "a.tif"], ["simulate", "--outp", "x"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert "usage: condensatenet" in capsys.readouterr().err


# segment


def test_every_kind_of_result_is_written(
    segment: Callable[..., int], pipeline: CondensateNetPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = frame()
    assert segment(write_image(tmp_path / "cells.tif", image)) == 0
    results = tmp_path / "results"
    assert sorted(path.relative_to(results).as_posix() for path in results.rglob("*.*")) == [
        "cells.csv",
        "cells.geojson",
        "cells_labels.tif",
        "overlays/cells_overlay.png",
    ]
    labels = read_labels(results / "cells_labels.tif")
    np.testing.assert_array_equal(labels, pipeline.segment(image))
    count = int(labels.max())
    assert count > 1
    assert len((results / "cells.csv").read_text().splitlines()) == 1 + count
    assert len(json.loads((results / "cells.geojson").read_text())["features"]) == count
    with Image.open(results / "overlays" / "cells_overlay.png") as overlay:
        assert overlay.mode == "RGB"
    assert f"cells: {count} instances" in capsys.readouterr().out


def test_intensities_in_the_table_are_those_of_the_file(segment: Callable[..., int], tmp_path: Path) -> None:
    image = frame()
    segment(write_image(tmp_path / "cells.tif", image), "--only", "csv,labels")
    labels = read_labels(tmp_path / "results" / "cells_labels.tif")
    with (tmp_path / "results" / "cells.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [float(row["max_intensity"]) for row in rows] == [image[labels == int(row["label"])].max() for row in rows]


def test_only_writes_what_is_asked_for(segment: Callable[..., int], tmp_path: Path) -> None:
    image = write_image(tmp_path / "cells.tif", frame())
    assert segment(image, "--only", "csv,geojson") == 0
    assert {path.name for path in (tmp_path / "results").rglob("*")} == {"cells.csv", "cells.geojson"}
    assert segment(image, "--only", "csv,pictures") == 2


@pytest.mark.parametrize(
    ("name", "value", "others", "shape"),
    [
        ("prob_threshold", 0.6, {}, (64, 96)),
        ("min_size", 40, {}, (64, 96)),
        ("max_size", 40, {}, (64, 96)),
        ("low_percentile", 20.0, {}, (64, 96)),
        ("high_percentile", 80.0, {}, (64, 96)),
        ("grouping", "exact", {}, (64, 96)),
        ("tile_size", 96, {}, (96, 160)),
        ("tile_size", None, {"prob_threshold": 0.1}, (128, 1100)),
        ("overlap", 0.45, {"tile_size": 256}, (64, 700)),
    ],
)
def test_segmentation_options_reach_the_pipeline(
    segment: Callable[..., int],
    pipeline: CondensateNetPipeline,
    tmp_path: Path,
    name: str,
    value: float | str | None,
    others: dict[str, float],
    shape: tuple[int, int],
) -> None:
    image = frame(shape=shape)
    path = write_image(tmp_path / "cells.tif", image)
    options = {**others, name: value}
    given = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value or 0))]
    assert segment(path, "--only", "labels", *given) == 0
    labels = read_labels(tmp_path / "results" / "cells_labels.tif")
    np.testing.assert_array_equal(labels, pipeline.segment(image, **options))
    assert not np.array_equal(labels, pipeline.segment(image, **others))


def test_size_is_compared_with_that_of_the_model(
    model_path: Path, pipeline: CondensateNetPipeline, tmp_path: Path
) -> None:
    image = frame(6)
    areas = np.bincount(pipeline.segment(image).ravel())[1:]
    larger = int(np.count_nonzero(areas > 600))  # than what a model without training finds
    assert 0 < larger < len(areas)
    trained = tmp_path / "trained"
    shutil.copytree(model_path, trained)
    config = json.loads((trained / "config.json").read_text())
    (trained / "config.json").write_text(json.dumps({**config, "min_size": 1, "max_size": int(areas.max())}))
    path = write_image(tmp_path / "cells.tif", image)
    command = ["segment", str(path), "--output", str(tmp_path), "--model", str(trained), "--device", "cpu"]
    assert main([*command, "--min-size", "601"]) == 0
    assert read_labels(tmp_path / "cells_labels.tif").max() == larger
    assert main([*command, "--overwrite", "--min-size", str(areas.max() + 1)]) == 2


def test_every_plane_of_a_file_is_segmented(
    segment: Callable[..., int], pipeline: CondensateNetPipeline, tmp_path: Path
) -> None:
    path = tmp_path / "movie.ome.tif"
    tifffile.imwrite(path, np.stack([frame(1), frame(2), frame(3)]), metadata={"axes": "TYX"})
    assert segment(path, "--only", "labels") == 0
    planes = list(read_frames(path))
    assert [plane.name for plane in planes] == ["movie_t0", "movie_t1", "movie_t2"]
    written = find_images([tmp_path / "results"])
    assert [found.name for found in written] == [f"{plane.name}_labels.tif" for plane in planes]
    for plane, found in zip(planes, written, strict=True):
        np.testing.assert_array_equal(read_labels(found), pipeline.segment(plane.image))


def test_folders_wildcards_and_files(
    segment: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("folder/a.tif", "folder/b.png", "plates/1/c1.tif", "plates/2/c2.tif", "plates/2/other.tif", "d.tif"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame()).save(path)
    (tmp_path / "folder" / "notes.txt").write_text("not an image")
    inputs = tmp_path / "folder", tmp_path / "plates" / "*" / "c*.tif", tmp_path / "d.tif"
    assert segment(*inputs, "--only", "labels") == 0
    found = [path.name.removesuffix("_labels.tif") for path in find_images([tmp_path / "results"])]
    assert found == ["a", "b", "c1", "c2", "d"]
    assert segment(tmp_path / "nothing*.tif") == 2
    assert "No image file matches" in capsys.readouterr().err


def test_broken_files_are_named_and_the_others_processed(
    segment: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    for name in ("a.tif", "z.tif"):
        write_image(folder / name, frame())
    (folder / "damaged.tif").write_bytes((folder / "a.tif").read_bytes()[:3000])
    holed = np.stack([frame(), frame(), frame()]).astype(np.float32)
    holed[1, 3, 3] = np.nan
    tifffile.imwrite(folder / "holed.tif", holed, metadata={"axes": "ZYX"}, photometric="minisblack")
    assert segment(folder) == 1
    results = tmp_path / "results"
    assert {path.name for path in results.glob("*_labels.tif")} == {
        "a_labels.tif",
        "holed_z0_labels.tif",
        "holed_z2_labels.tif",
        "z_labels.tif",
    }
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("condensatenet: error:")]
    assert len(errors) == 3
    assert f"{folder / 'damaged.tif'}: cannot be read" in errors[0]
    assert f"{folder / 'holed.tif'} (holed_z1)" in errors[1]
    assert "2 of 4 files could not be segmented completely" in errors[2]
    assert "damaged.tif" in errors[2] and "holed.tif" in errors[2]


def test_files_of_one_name_get_results_of_their_own(segment: Callable[..., int], tmp_path: Path) -> None:
    shapes = {"a/cells.tif": (32, 40), "b/x/Cells.tif": (32, 48), "b/x/cells.png": (32, 56), "b/single.tif": (32, 64)}
    for name, shape in shapes.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame(shape=shape)).save(path)
    assert segment(*(tmp_path / name for name in shapes), "--only", "labels") == 0
    results = tmp_path / "results"
    written = {path.name.removesuffix("_labels.tif"): read_labels(path).shape for path in results.iterdir()}
    assert written == {"a_cells": (32, 40), "b_x_tif_Cells": (32, 48), "b_x_png_cells": (32, 56), "single": (32, 64)}


def test_names_that_cannot_be_told_apart_are_refused_before_anything_is_written(
    segment: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write_image(tmp_path / name, frame()) for name in ("a/cells.tif", "b/cells.tif", "b_cells.tif")]
    assert segment(*paths) == 2
    error = capsys.readouterr().err
    assert f"{paths[1]} and {paths[2]}" in error or f"{paths[2]} and {paths[1]}" in error
    assert not (tmp_path / "results").exists()


def test_plane_whose_name_is_that_of_another_file_replaces_nothing(
    segment: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "cells.ome.tif", np.stack([frame(), frame()]), metadata={"axes": "TYX"})
    write_image(tmp_path / "cells_t1.tif", frame(shape=(32, 32)))
    assert segment(tmp_path / "cells.ome.tif", tmp_path / "cells_t1.tif", "--only", "labels") == 1
    assert "other results are called cells_t1" in capsys.readouterr().err
    assert read_labels(tmp_path / "results" / "cells_t1_labels.tif").shape == (64, 96)


@pytest.mark.parametrize("corrected", ["cells_labels.tif", "cells_t1_labels.tif", "cells_t0_c1_labels.tif"])
def test_label_masks_are_replaced_only_on_demand(
    segment: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], corrected: str
) -> None:
    path = write_image(tmp_path / "cells.tif", frame())
    mine = squares((5, 5))
    write_labels(tmp_path / "results" / corrected, mine)
    assert segment(path) == 2
    assert "may hold your corrections" in capsys.readouterr().err
    np.testing.assert_array_equal(read_labels(tmp_path / "results" / corrected), mine)
    assert segment(path, "--only", "csv") == 0
    assert segment(path, "--overwrite") == 0
    assert not np.array_equal(read_labels(tmp_path / "results" / "cells_labels.tif"), mine)


def test_label_masks_of_similar_names_are_not_in_the_way(segment: Callable[..., int], tmp_path: Path) -> None:
    write_labels(tmp_path / "results" / "cells2_labels.tif", squares((5, 5)))
    assert segment(write_image(tmp_path / "cells.tif", frame()), "--only", "labels") == 0


def test_results_among_the_images_are_not_segmented(
    segment: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "results" / "cells.tif", frame())
    for _ in range(2):
        assert segment(tmp_path / "results", "--overwrite", "--only", "labels") == 0
    assert "Left out 1 label mask" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["cells.tif", "cells_labels.tif"]
    assert segment(tmp_path / "results" / "cells_labels.tif") == 2


def test_unusable_models_and_outputs_are_refused(
    segment: Callable[..., int], model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_image(tmp_path / "cells.tif", frame())
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_bytes((model_path / "config.json").read_bytes())
    (damaged / "model.safetensors").write_bytes((model_path / "model.safetensors").read_bytes()[:-8])
    for arguments, message in (
        (["--model", "no_such_model"], "there is no model 'no_such_model'"),
        (["--model", str(damaged)], "truncated"),
        (["--device", "no_such_device"], "unknown device"),
        (["--output", str(path / "results")], f"{path} is a file where a folder is needed"),
    ):
        assert segment(path, *arguments) == 2, arguments
        assert message in capsys.readouterr().err
    assert main(["info", str(damaged)]) == 2
    assert "is damaged" in capsys.readouterr().err
    (damaged / "model.safetensors").unlink()
    assert main(["info", str(damaged)]) == 1
    assert "model.safetensors is missing" in capsys.readouterr().out


# evaluate


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


# simulate


def test_simulated_files_pair_up_and_repeat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "--count", "10", "--size", "40", "56", "--output"]
    for name, seed in (("one", "3"), ("two", "3"), ("three", "4")):
        assert main([*command, str(tmp_path / name), "--seed", seed]) == 0
    masks = [read_labels(path) for path in find_images([tmp_path / "one" / "labels"])]
    assert f"10 images with {sum(int(mask.max()) for mask in masks)} instances" in capsys.readouterr().out
    names = [path.name for path in find_images([tmp_path / "one" / "images"])]
    assert names[0] == "frame_01.tif" and names[-1] == "frame_10.tif"
    assert names == [path.name for path in find_images([tmp_path / "one" / "labels"])]
    contents = [
        [read_image(path) for path in find_images([tmp_path / name / "images"])] for name in ("one", "two", "three")
    ]
    assert {image.shape for image in contents[0]} == {mask.shape for mask in masks} == {(40, 56)}
    assert all(np.array_equal(a, b) for a, b in zip(contents[0], contents[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(contents[0], contents[2], strict=True))
    assert main([*command, str(tmp_path / "one")]) == 2
    assert "holds files" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--count", "0"], ["--size", "0", "9"], ["--seed", "-1"]])
def test_impossible_simulations_leave_nothing(tmp_path: Path, wrong: list[str]) -> None:
    assert main(["simulate", "--output", str(tmp_path / "new"), *wrong]) == 2
    assert not (tmp_path / "new").exists()


# download and info


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line on stderr for each."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server that has the model `owner/name`; HF_ENDPOINT leads to it."""
    published = tmp_path / "hub" / "owner" / "name" / "resolve" / "main"
    published.mkdir(parents=True)
    for file in model_path.iterdir():
        (published / file.name).write_bytes(file.read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(tmp_path / "hub")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield published
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "models" / "mine"
    command = ["download", "--output", str(output), "--repo-id", "owner/name"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{output}\n"
    for name in ("config.json", "model.safetensors"):
        assert (output / name).read_bytes() == (hub / name).read_bytes()
    changed = (hub / "config.json").read_bytes().replace(b"}", b' , "note": "new"}', 1)
    (hub / "config.json").write_bytes(changed)
    assert main(command) == 0
    assert (output / "config.json").read_bytes() != changed
    assert main([*command, "--force"]) == 0
    assert (output / "config.json").read_bytes() == changed


def test_options_are_checked_before_a_model_is_downloaded(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HOME", "USERPROFILE"):  # downloaded models go there
        monkeypatch.setenv(variable, str(tmp_path))
    code = "import sys; from condensatenet.command_line import main; sys.exit(main(sys.argv[1:]))"
    command = ["segment", write_image(tmp_path / "cells.tif", frame()), "--output", tmp_path, "--model", "owner/other"]
    refused = run_python(code, *command, "--min-size", "9", "--max-size", "8")
    assert refused.returncode == 2
    assert "min_size <= max_size, not 9 and 8" in refused.stderr
    failed = run_python(code, *command)
    assert failed.returncode == 1
    assert "/owner/other/resolve/main/config.json: there is no such file (404)" in failed.stderr


def test_failed_download_is_told_from_a_wrong_name(hub: Path, tmp_path: Path) -> None:
    assert main(["download", "--output", str(tmp_path / "x"), "--repo-id", "owner/other"]) == 1
    assert main(["download", "--output", str(tmp_path / "x"), "--repo-id", "no name"]) == 2


def test_info_shows_versions_and_a_model(model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["info", str(model_path)]) == 0
    text = capsys.readouterr().out
    assert f"torch {version('torch')} on " in text
    assert f"Model {model_path}: {model_path}" in text
    assert "encoder_variant          small" in text
    assert "pyramid_channels         [8, 8, 8, 16]" in text
