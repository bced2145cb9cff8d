"""`external-modules new`, then its module for real, in an environment made by uv: its test, its nodes, doctor, run."""

from __future__ import annotations

import csv
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from program_place import ProgramPlace
from skimage.measure import label

sys.path.insert(0, str(Path(__file__).parent / "limnode"))
import limnode

pytestmark = pytest.mark.timeout(600)  # the packages may have to be downloaded

PACKAGE = Path(__file__).resolve().parents[1]
EXACT = ("--set", "sigma=0", "--set", "threshold=50", "--set", "min_area=1")
SLOW = """
import sys, time
from pathlib import Path
from module_worker import serve

def segment(input_image, *, facts, progress):
    Path(facts).touch()
    try:
        while True:
            progress(0.5, "computing")
            time.sleep(0.05)
    finally:
        Path(facts).unlink()

serve(segment)
"""


class Place(ProgramPlace):
    """One with a new module in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.module = self.modules / "star_dist_module"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """With a new module, whose own test makes its environment."""
    place = Place(tmp_path_factory.mktemp("place"))
    code, _, errors = place.call("new", "star_dist")
    assert code == 0, errors
    code, printed, errors = place.run(place.module / "test_star_dist_module.py")
    if "no package index could be reached" in printed:
        pytest.skip(f"the environment of the new module cannot be made: {printed}")
    assert code == 0, printed + errors
    assert printed.splitlines()[-1] == "Everything works." and "20 objects, 20 of 20 spots found" in printed
    return place


def squares(*shape: int, dtype: str = "u2") -> np.ndarray:
    """Return images, (..., 60, 80), of which each has one bright square more than the one before."""
    images = np.zeros((*shape, 60, 80), dtype)
    for number, image in enumerate(images.reshape(-1, 60, 80)):
        for square in range(number + 1):
            image[5 + square : 20, 3 + 12 * square : 12 + 12 * square] = 100 + number
    return images


def rows_of(path: Path) -> list[dict[str, float]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_the_new_modules_own_test_can_fail(place: Place) -> None:
    worker = place.module / "worker.py"
    text = worker.read_text()
    try:
        worker.write_text(text.replace("return numbers[regions]", "return 0 * numbers[regions]"))
        code, printed, _ = place.run(place.module / "test_star_dist_module.py")
    finally:
        worker.write_text(text)
    assert code == 1 and "FAILED" in printed


@pytest.mark.parametrize("generation", ["", "_v6_20"])
def test_the_new_modules_nodes_segment(place: Place, monkeypatch: pytest.MonkeyPatch, generation: str) -> None:
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    script = (place.module / f"star_dist_node{generation}.py").read_text()
    names: dict[str, object] = {"__name__": "node"}
    exec(compile(script, "<node>", "exec"), names)
    image = limnode.InputChannelData(parName="image", data=squares(1)[:, :, :, None], calibration=(0.5, 0.5, 1.0))
    out = limnode.OutputBinaryData(parName="objects", data=np.zeros((1, 60, 80, 1), np.int32))
    arguments = ([image], [out]) if generation else ([image], [out], ())
    try:
        names["run"](*arguments, limnode.RunContext())  # type: ignore[operator]
    finally:
        names["node"].close()  # type: ignore[attr-defined]
    assert out.data.max() == 1


def test_doctor_finds_all_well(place: Place) -> None:
    code, printed, errors = place.call("doctor", "star_dist_module")
    assert code == 0 and not errors, printed + errors
    assert "ok      worker: image (512, 512) uint16 -> labels (512, 512) int32, 20 objects, 20 of 20" in printed
    assert "skimage" in printed and "GPU" not in printed and printed.splitlines()[-1] == "Nothing is broken."


def test_doctor_finds_a_broken_worker(place: Place, tmp_path: Path) -> None:
    module = tmp_path / "star_dist_module"
    shutil.copytree(place.module, module)
    (module / "worker.py").write_text("import nothing_of_that_kind")
    code, printed, _ = place.call("doctor", module)
    (failed,) = [line for line in printed.splitlines() if "FAILED" in line]
    assert code == 1 and "No module named 'nothing_of_that_kind'" in failed


def test_run_segments_files_of_every_kind(place: Place, tmp_path: Path) -> None:
    images = tmp_path / "images ü"
    images.mkdir()
    stack = squares(2, 3)  # Z, C
    tifffile.imwrite(images / "stack.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    tifffile.imwrite(images / "float.TIFF", squares(1)[0].astype("f4"))
    flat = squares(1, dtype="u1")[0]
    PIL.Image.fromarray(flat).save(images / "grey.png")
    PIL.Image.fromarray(squares(1)[0] * 300).save(images / "deep.png")
    PIL.Image.fromarray(np.stack([flat * 0, flat, flat], -1)).save(images / "colour.png")
    (images / "broken.tif").write_bytes(b"II*\0zzzz")
    (images / "notes.txt").write_text("")
    output = tmp_path / "results" / "of today"

    code, printed, errors = place.call("run", "star_dist_module", images, "--output", output, "--channel", "1", *EXACT)
    broken, *without_channel, summary = errors.splitlines()
    assert code == 1 and f"error: {images / 'broken.tif'} cannot be read (" in broken
    assert summary == "4 of 6 images failed"
    assert without_channel == [
        f"external-modules: error: {images / name} has 1 channel, counted from 0; there is no channel 1."
        for name in ("deep.png", "float.TIFF", "grey.png")
    ]
    assert "stack.tif: 7 objects, " in printed and "colour.png: 1 object, " in printed

    with tifffile.TiffFile(output / "stack_labels.tif") as file:
        labels, axes = file.asarray(), file.series[0].axes
    assert (labels.dtype, labels.shape, axes) == (np.int32, (2, 60, 80), "ZYX")
    first, second = (label(stack[z, 1] > 50, connectivity=1) for z in range(2))
    np.testing.assert_array_equal(labels, [first, np.where(second > 0, second + 2, 0)])
    rows = rows_of(output / "stack_objects.csv")
    assert [(row["Plane"], row["ObjectId"]) for row in rows] == [(0, 1), (0, 2), *((1, 3 + n) for n in range(5))]
    assert rows[0] == {
        "Plane": 0,
        "ObjectId": 1,
        "Area": 135,
        "CentroidX": 7.5,
        "CentroidY": 12.5,
        "MeanIntensity": 101,
    }

    code, printed, errors = place.call("run", "star_dist_module", images, "--output", images, *EXACT)
    assert code == 1 and len([line for line in errors.splitlines() if "error: " in line]) == 1
    assert "stack.tif has 3 channels; the first is used (--channel NUMBER for another)" in errors.splitlines()
    assert [line.split(",")[0] for line in printed.splitlines()] == [
        "colour.png: 0 objects",
        "deep.png: 1 object",
        "float.TIFF: 1 object",
        "grey.png: 1 object",
        "stack.tif: 5 objects",
    ]
    assert rows_of(images / "colour_objects.csv") == []
    code, printed, _ = place.call("run", "star_dist_module", images, "--output", images, *EXACT)
    assert len(printed.splitlines()) == 5, "its own results were taken for images"


def test_run_tells_that_a_file_does_not_say_what_its_pages_are(place: Place, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([*squares(1)] * 5))
    code, printed, errors = place.call("run", place.module, tmp_path / "pages.tif", "--output", tmp_path, *EXACT)
    assert code == 0 and "pages.tif: 5 objects" in printed
    assert errors == "pages.tif does not say what its 5 pages are; each is segmented, as a plane\n"


def test_run_keeps_more_than_65535_objects(place: Place, tmp_path: Path) -> None:
    image = np.zeros((400, 400), np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 255
    PIL.Image.fromarray(image).save(tmp_path / "many.png")
    code, printed, errors = place.call("run", place.module, tmp_path / "many.png", "--output", tmp_path, *EXACT)
    assert code == 0 and "80,000 objects" in printed and not errors
    assert tifffile.imread(tmp_path / "many_labels.tif").max() == 80_000


def test_run_tells_of_a_setting_that_the_worker_does_not_have(place: Place, tmp_path: Path) -> None:
    PIL.Image.fromarray(squares(1)[0]).save(tmp_path / "a.png")
    arguments = ("star_dist_module", tmp_path / "a.png", "--output", tmp_path / "out", "--set", "sgima=1")
    code, _, errors = place.call("run", *arguments)
    assert code == 1 and not (tmp_path / "out").exists()
    assert errors == (
        "external-modules: error: star_dist_module has no setting 'sgima' (is sigma meant?); it has sigma, threshold, "
        "min_area.\n"
    )
    code, _, errors = place.call("run", *arguments[:-1], "sigma=1,5")
    assert code == 1 and errors == 'external-modules: error: --set sigma: it is "1,5"; it must be a number.\n'
    code, printed, errors = place.call("run", *arguments[:-1], "threshold=None")
    assert code == 0 and "a.png: " in printed and not errors


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_run_is_stopped_by_ctrl_c(place: Place, tmp_path: Path) -> None:
    module, facts = tmp_path / "star_dist_module", tmp_path / "facts"
    shutil.copytree(place.module, module)
    (module / "worker.py").write_text(SLOW)
    PIL.Image.fromarray(squares(1)[0]).save(tmp_path / "a.png")
    command = ("run", module, tmp_path / "a.png", "--output", tmp_path / "out", "--set", f"facts={facts}")
    with place.start("-m", "external_modules", *command) as process:
        deadline = time.monotonic() + 60
        while not facts.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and not facts.exists()
    assert errors.splitlines()[-1] == "external-modules: error: interrupted" and "Traceback" not in errors
    assert "star_dist_module [1/1] a.png  50% computing" in errors.splitlines()
