"""`external-modules run-pipeline` for real: images through threshold_module, in an environment made by uv."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from program_place import ProgramPlace

from external_modules.errors import ExternalModuleError
from external_modules.image_files import read_tczyx

pytestmark = pytest.mark.timeout(600)  # the packages may have to be downloaded

PACKAGE = Path(__file__).resolve().parents[1]
PIPELINE = """
pipeline_name: two
environment: {type: uv, module: threshold_module}
steps:
  - {name: load, module: external_modules, function: load_tczyx_image}
  - name: find
    module: threshold_module
    function: segment
    params: {channel: 1, sigma: 0, threshold: 50, min_area: 1}
  - {name: save, module: external_modules, function: save_tczyx_image}
  - {name: table, module: external_modules, function: save_object_table, params: {channel: 0}}
"""
WAITING = """
import os, sys, time
from module_worker import serve

def segment(input_image, *, gate: str, progress):
    while os.path.exists(gate + ".closed") and input_image.max() == 103:
        progress(0.5, "waiting")
        time.sleep(0.02)
    if input_image.max() == 102:
        raise ValueError("an image that cannot be segmented")
    return (input_image > 50).astype("i4")

serve(segment)
"""


class Place(ProgramPlace):
    """One with threshold_module in it, whose environment all tests share."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shutil.copytree(PACKAGE / "modules" / "threshold_module", self.modules / "threshold_module")

    def lines(self, *arguments: str | Path, python: str | Path = sys.executable) -> tuple[int, list[str], list[str]]:
        """Run `external-modules`; return exit code, lines of stdout, lines of stderr."""
        code, printed, errors = self.call(*arguments, python=python)
        return code, printed.splitlines(), errors.splitlines()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("place"))
    code, _, errors = place.lines("sync", "threshold_module")
    if "no package index could be reached" in "".join(errors):
        pytest.skip(f"the environment of threshold_module cannot be made: {errors}")
    assert code == 0, errors
    return place


@pytest.fixture
def waiting(place: Place, tmp_path: Path) -> Path:
    """A pipeline file in the test's folder whose worker waits at a.tif to d.tif's last as long as a file is there."""
    module = tmp_path / "my modules" / "threshold_module"
    shutil.copytree(place.modules / "threshold_module", module)
    (module / "worker.py").write_text(WAITING)
    (tmp_path / "gate.closed").touch()
    params = json.dumps({"gate": str(tmp_path / "gate")})
    text = PIPELINE.replace("module: threshold_module}", "module: my modules/threshold_module}")
    text = text.replace("{channel: 1, sigma: 0, threshold: 50, min_area: 1}", params)
    (tmp_path / "waiting.yaml").write_text(text)
    return tmp_path / "waiting.yaml"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with a.tif to d.tif: one square of the value 100 to 103 each."""
    folder = tmp_path / "images ü"
    folder.mkdir()
    for number, name in enumerate("abcd"):
        tifffile.imwrite(folder / f"{name}.tif", square(100 + number))
    return folder


def square(value: int) -> np.ndarray:
    image = np.zeros((60, 80), np.uint16)
    image[5:20, 3:12] = value
    return image


def rows_of(path: Path) -> list[dict[str, float]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def errors_among(lines: list[str]) -> list[str]:
    """Return the lines that are no progress."""
    return [line for line in lines if line.startswith("external-modules: error: ")]


def states_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix in (".tif", ".csv")}


def test_the_example_of_the_readme(place: Place, images: Path) -> None:
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    example = re.search(r"`([a-z_]+\.yaml)`:\n\n```yaml\n(.*?)```\n\n```\n(.*?)\n```", readme, re.DOTALL)
    assert example
    name, text, command = example.groups()
    (images.parent / name).write_text(text)
    images.rename(images.parent / "images")
    program, *arguments = shlex.split(command)
    assert program == "external-modules"
    folder = images.parent
    located = [str(folder / one) if (folder / one).exists() or one == "results" else one for one in arguments]
    code, printed, errors = place.lines(*located)
    assert code == 0, errors
    assert printed == [f"[{number}/4] {letter}.tif: objects: 1 object" for number, letter in enumerate("abcd", 1)]
    assert errors[-1] == f"bright objects: 4 images done, 0 finished before, 0 failed; results in {folder / 'results'}"
    assert sorted(states_of(folder / "results")) == [
        f"{letter}_{kind}" for letter in "abcd" for kind in ("labels.tif", "objects.csv")
    ]


def test_time_channels_and_planes(place: Place, tmp_path: Path) -> None:
    image = np.zeros((2, 3, 2, 60, 80), np.uint16)  # T, Z, C
    image[..., 0, :, :] = 7
    for number, plane in enumerate(image[:, :, 1].reshape(6, 60, 80)):
        plane[10:20, 5 : 10 + number] = 99
        plane[30:40, 5:10] = 99
    assert image[:, :, 1].max() == 99
    tifffile.imwrite(tmp_path / "whole.tif", image, imagej=True, metadata={"axes": "TZCYX"})
    (tmp_path / "two.yaml").write_text(PIPELINE)
    code, printed, errors = place.lines("run-pipeline", tmp_path / "two.yaml", tmp_path, "--output", tmp_path)
    assert code == 0 and printed == ["[1/1] whole.tif: find: 12 objects"], errors
    with tifffile.TiffFile(tmp_path / "whole_labels.tif") as file:
        labels, axes = file.asarray(), file.series[0].axes
    assert (labels.dtype, labels.shape, axes) == (np.int32, (2, 1, 3, 60, 80), "TCZYX")
    np.testing.assert_array_equal(labels[:, 0] > 0, image[:, :, 1] > 0)
    assert labels[1, 0, 2].max() == 12
    rows = rows_of(tmp_path / "whole_objects.csv")
    assert [row["Plane"] for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert {row["MeanIntensity"] for row in rows} == {7} and rows[-2]["Area"] == 100


def test_what_is_finished_is_skipped_until_something_changes(place: Place, images: Path, tmp_path: Path) -> None:
    pipeline, output = tmp_path / "p.yaml", tmp_path / "out"
    pipeline.write_text(PIPELINE.replace("channel: 1", "channel: 0"))

    def run() -> tuple[list[str], dict[str, int]]:
        code, printed, errors = place.lines("run-pipeline", pipeline, images, "--output", output)
        assert code == 0, errors
        return [line.split(" ", 1)[1][0] for line in printed if "finished before" not in line], states_of(output)

    done, first = run()
    assert done == list("abcd") and len(first) == 8
    assert run() == ([], first)
    tifffile.imwrite(images / "b.tif", square(0))
    (output / "c_objects.csv").unlink()
    done, second = run()
    assert done == ["b", "c"]
    changed = [name for name in sorted(first) if first[name] != second[name]]
    assert changed == ["b_labels.tif", "b_objects.csv", "c_labels.tif", "c_objects.csv"]
    assert rows_of(output / "b_objects.csv") == []
    record = [json.loads(line) for line in (output / "run_pipeline.jsonl").read_text().splitlines()]
    # Before they were made anew, so that half of them could not be taken for finished.
    assert [line["output"] for line in record if line["made_from"] is None] == changed
    pipeline.write_text(f"{pipeline.read_text()}# changed\n")
    assert run()[0] == list("abcd")
    worker = place.modules / "threshold_module" / "worker.py"
    text = worker.read_text()
    try:
        worker.write_text(f"{text}# changed\n")
        assert run()[0] == list("abcd")
    finally:
        worker.write_text(text)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_run_goes_on_where_it_was_and_tells_of_what_fails(
    place: Place, waiting: Path, images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = ("run-pipeline", waiting, images, "--output", output)
    tifffile.imwrite(images / "e.tif", square(100))
    with place.start("-m", "external_modules", *command) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            told = [process.stdout.readline(), process.stdout.readline()]
            assert told == ["[1/5] a.tif: find: 1 object\n", "[2/5] b.tif: find: 1 object\n"]
            failure = f"{images / 'c.tif'}: threshold_module/worker.py: ValueError: an image that cannot"
            assert any(failure in line for line in iter(process.stderr.readline, ""))
            code, _, (error,) = place.lines(*command)
            assert code == 1 and f"Another program runs a pipeline into {output}" in error
            progress = re.compile(r"two +\d\d% d\.tif \(4/5\) find waiting, about \d+ s left")
            assert any(progress.fullmatch(line.strip()) for line in iter(process.stderr.readline, ""))
        finally:
            process.kill()
    before = states_of(output)
    assert sorted(before) == ["a_labels.tif", "a_objects.csv", "b_labels.tif", "b_objects.csv"]
    (output / "d_labels.tif.new").write_bytes(b"half a file")

    (tmp_path / "gate.closed").unlink()
    code, printed, errors = place.lines(*command)
    assert code == 1 and printed == [
        "[1/5] a.tif: finished before",
        "[2/5] b.tif: finished before",
        "[4/5] d.tif: find: 1 object",
        "[5/5] e.tif: find: 1 object",
    ]
    (failed,) = errors_among(errors)
    assert failure in failed
    assert errors[-1] == f"two: 2 images done, 2 finished before, 1 failed; results in {output}"
    after = states_of(output)
    assert len(after) == 8 and {name: after[name] for name in before} == before
    assert sorted(path.name for path in output.iterdir() if path.name not in after) == ["run_pipeline.jsonl"]


def test_a_damaged_image_and_a_missing_channel_do_not_stop_the_others(
    place: Place, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.yaml").write_text(PIPELINE)
    (images / "a.tif").write_bytes(b"II*\0zzzz")
    tifffile.imwrite(images / "b.tif", np.stack([square(0), square(99)]), imagej=True, metadata={"axes": "CYX"})
    (images / "c.tif").unlink()
    code, printed, errors = place.lines("run-pipeline", tmp_path / "p.yaml", images, "--output", tmp_path / "out")
    assert code == 1 and printed == ["[2/3] b.tif: find: 1 object"]
    damaged, without_channel = errors_among(errors)
    assert f"error: {images / 'a.tif'} cannot be read (" in damaged
    assert without_channel.endswith(f"{images / 'd.tif'} has 1 channel, counted from 0; there is no channel 1.")


def test_problems_are_told_one_by_one_before_anything_is_made(place: Place, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(PIPELINE.replace("sigma: 0", "sgima: 0").replace("save_object_table", "save_table"))
    code, printed, errors = place.lines("run-pipeline", path, images, "--output", tmp_path / "out")
    assert code == 1 and not printed and not (tmp_path / "out").exists()
    assert [error.partition(": ")[2].partition(";")[0] for error in errors] == [
        f"error: {path}, line 9: segment has no parameter 'sgima' (is sigma meant?)",
        f"error: {path}, line 11: external_modules has no function 'save_table' (is save_object_table meant?)",
    ]
    path.write_text(PIPELINE.replace("save_tczyx_image}", "save_tczyx_image, params: {suffix: b}}"))
    (images / "a_b.tif").touch()
    given = (images / "a.tif", images / "a_b.tif")
    code, _, (error,) = place.lines("run-pipeline", path, *given, "--output", images)
    assert code == 1 and f"The result a_b.tif of {images / 'a.tif'} would overwrite an image" in error
    save = "save_tczyx_image}"
    again = f"{save}\n  - {{name: again, module: external_modules, function: save_tczyx_image"
    path.write_text(PIPELINE.replace(save, f"{again}, params: {{suffix: b_labels}}}}"))
    code, _, (error,) = place.lines("run-pipeline", path, *given, "--output", tmp_path / "out")
    assert code == 1 and error.endswith("a_b.tif would both have the result a_b_labels.tif. Rename one.")
    code, _, (error,) = place.lines("run-pipeline", tmp_path / "no.yaml", images, "--output", images)
    assert code == 1 and f"The pipeline {tmp_path / 'no.yaml'} cannot be read (" in error


@pytest.fixture(scope="module")
def python_without_yaml(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("python") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next(folder.rglob("site-packages"))
    for path in Path(sysconfig.get_path("purelib")).glob("*"):
        if path.name.startswith(("numpy", "tifffile", "PIL", "pillow")):
            (packages / path.name).symlink_to(path)
    yield folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def test_without_pyyaml_one_line_says_what_to_install(
    place: Place, python_without_yaml: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.yaml").write_text(PIPELINE)
    command = ("run-pipeline", tmp_path / "p.yaml", images, "--output", tmp_path / "out")
    code, _, (error,) = place.lines(*command, python=python_without_yaml)
    assert code == 1
    assert error.startswith("external-modules: error: Running a pipeline needs pyyaml, which this Python does not have")
    code, printed, _ = place.lines("list", python=python_without_yaml)
    assert code == 0 and printed


def test_files_of_every_kind_become_tczyx(tmp_path: Path) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    PIL.Image.fromarray(grey).save(tmp_path / "grey.png")
    PIL.Image.fromarray(np.stack([grey, grey + 1, grey + 2], -1)).save(tmp_path / "colour.png")
    assert read_tczyx(tmp_path / "grey.png").pixels.shape == (1, 1, 1, 6, 8)
    colour = read_tczyx(tmp_path / "colour.png").pixels
    assert colour.shape == (1, 3, 1, 6, 8) and (colour[0, 2, 0] == grey + 2).all()
    stack = np.arange(5 * 48, dtype=np.uint16).reshape(5, 6, 8)
    tifffile.imwrite(tmp_path / "unnamed.tif", stack)
    with pytest.raises(ExternalModuleError, match=r'does not say what its axes are .* such as "axes: ZYX"'):
        read_tczyx(tmp_path / "unnamed.tif")
    assert (read_tczyx(tmp_path / "unnamed.tif", "TYX").pixels[:, 0, 0] == stack).all()
    assert (read_tczyx(tmp_path / "unnamed.tif", "ZYX").pixels[0, 0] == stack).all()
    with pytest.raises(ExternalModuleError, match=r"has 3 axes .* and axes: TZYX names 4"):
        read_tczyx(tmp_path / "unnamed.tif", "TZYX")
    tifffile.imwrite(tmp_path / "single.tif", stack[:1])
    assert read_tczyx(tmp_path / "single.tif").pixels.shape == (1, 1, 1, 6, 8)
    five = np.arange(2 * 3 * 4 * 48, dtype=np.uint16).reshape(4, 3, 2, 6, 8)
    tifffile.imwrite(tmp_path / "five.tif", five, metadata={"axes": "ZCTYX"})
    np.testing.assert_array_equal(read_tczyx(tmp_path / "five.tif").pixels, five.transpose(2, 1, 0, 3, 4))
