"""`condensatenet segment`: what it writes, prints, returns, and says when something is wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import command_line_examples
import numpy as np
import pytest
import tifffile
from command_line_examples import ALL_SIZES, frame, squares, write_image
from PIL import Image

from condensatenet import CondensateNetPipeline
from condensatenet.command_line import main
from condensatenet.files.images import find_images, read_frames, read_labels, write_labels

pipeline = command_line_examples.pipeline


@pytest.fixture
def segment(model_path: Path, tmp_path: Path) -> Callable[..., int]:
    """Segments into the folder `results`, keeping instances of any size."""

    def run(*arguments: str | Path) -> int:
        output = ["--output", tmp_path / "results", "--model", model_path, "--device", "cpu"]
        return main([str(argument) for argument in ("segment", *output, *ALL_SIZES, *arguments)])

    return run


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
