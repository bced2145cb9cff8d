"""`condensatenet train`: a run that ends, one that is stopped and resumed, and what is refused before anything slow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from condensatenet.command_line import main
from condensatenet.files.images import write_labels

EPOCHS = 8


@pytest.fixture
def command(model_path: Path, tmp_path: Path) -> list[str]:
    """A training on three small images, a second long."""
    data = tmp_path / "data"
    assert main(["simulate", "--output", str(data), "--count", "3", "--size", "64", "64", "--seed", "5"]) == 0
    folders = ["--images", str(data / "images"), "--labels", str(data / "labels"), "--output", str(tmp_path / "model")]
    options = ["--model", str(model_path), "--patch-size", "32", "--batch-size", "32", "--epochs", str(EPOCHS)]
    return ["train", *folders, *options, "--device", "cpu"]


def signal_after_an_epoch(process_id: int, state: Path, number: signal.Signals) -> None:
    """Wait until a training has written its state (again), then send it a signal."""
    before = state.stat().st_mtime_ns if state.exists() else None
    end = time.monotonic() + 200
    while (not state.exists() or state.stat().st_mtime_ns == before) and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(process_id, number)


def test_training_ends_with_a_model_and_says_whether_it_helped(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    options = ["--epochs", "2", "--learning-rate", "0.01", "--weight-decay", "0.02", "--seed", "7", "--resume"]
    assert main([*command, *options]) == 0
    shown = capsys.readouterr()
    model = tmp_path / "model"
    report = json.loads((model / "training_report.json").read_text())
    assert shown.out.splitlines()[0] == report["message"]
    assert str(model) in shown.out.splitlines()[1]
    assert "There is no stopped run" in shown.err
    assert "Preparing 3 images" in shown.err
    assert "  0%  measuring the start model" in shown.err
    chosen = {
        "epochs": 2,
        "learning_rate": 0.01,
        "weight_decay": 0.02,
        "batch_size": 32,
        "random_seed": 7,
        "patch_size": 32,
    }
    assert {name: report["settings"][name] for name in chosen} == chosen
    assert not (tmp_path / "model.training").exists()
    images = str(tmp_path / "data" / "images")
    assert main(["segment", images, "--model", str(model), "--output", str(tmp_path / "results")]) == 0
    assert len(list((tmp_path / "results").glob("*_labels.tif"))) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")
def test_stopped_training_is_resumed(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, unfinished = tmp_path / "model", tmp_path / "model.training"
    program = [sys.executable, "-m", "condensatenet", *command]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        signal_after_an_epoch(process.pid, unfinished / "state.pt", signal.SIGTERM)
        _, stderr = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert f"give the same command with --resume (the run so far is in {unfinished})" in stderr
    assert "Traceback" not in stderr
    assert not output.exists()

    assert main(command) == 2
    assert f"{unfinished} holds a stopped run; add --resume" in capsys.readouterr().err
    assert main([*command, "--resume", "--seed", "1"]) == 1
    assert "random_seed" in capsys.readouterr().err

    handler = signal.getsignal(signal.SIGINT)
    sender = threading.Thread(target=signal_after_an_epoch, args=(os.getpid(), unfinished / "state.pt", signal.SIGINT))
    sender.start()
    assert main([*command, "--resume"]) == 128 + signal.SIGINT
    sender.join()
    assert signal.getsignal(signal.SIGINT) is handler
    assert not output.exists()

    assert main([*command, "--resume"]) == 0
    history = json.loads((output / "training_report.json").read_text())["history"]
    assert [entry["epoch"] for entry in history] == list(range(1, EPOCHS + 1))
    assert not unfinished.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--epochs", "0"], "epochs must be a whole number from 1"),
        (["--learning-rate", "-1"], "learning_rate must be"),
        (["--batch-size", "0"], "batch_size must be"),
        (["--patch-size", "100"], "patch_size must be a multiple of 32, not 100"),
        (["--patch-size", "0"], "patch_size must be a multiple of 32, not 0"),
        (["--model", "no_such_model"], "there is no model 'no_such_model'"),
        (["--device", "no_such_device"], "unknown device"),
        (["--images", "no_such_folder"], "There is no folder"),
    ],
)
def test_unusable_options_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], message: str
) -> None:
    assert main([*command, *wrong]) == 2
    assert message in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_output_that_is_not_a_model_is_left_alone(command: list[str], tmp_path: Path) -> None:
    mine = tmp_path / "model" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert main(command) == 2
    assert mine.read_text() == "mine"
    shutil.rmtree(mine.parent)
    mine.parent.write_text("a file")
    assert main(command) == 2
    assert mine.parent.read_text() == "a file"


def test_files_that_cannot_be_trained_on_are_named(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = tmp_path / "data" / "images", tmp_path / "data" / "labels"

    def error_of() -> str:
        assert main(command) == 2
        return capsys.readouterr().err

    write_labels(labels / "frame_2.tif", np.zeros((64, 63), np.int32))
    assert f"{labels / 'frame_2.tif'} has 64 x 63 pixels, but its image {images / 'frame_2.tif'} 64 x 64" in error_of()
    write_labels(labels / "frame_2.tif", np.zeros((64, 64), np.int32))
    tifffile.imwrite(images / "frame_2.tif", np.full((64, 64), np.nan, np.float32))
    assert f"{images / 'frame_2.tif'}: " in error_of()
    tifffile.imwrite(images / "frame_2.tif", np.zeros((2, 64, 64), np.uint8), photometric="minisblack")
    assert f"{images / 'frame_2.tif'}: holds several planes" in error_of()
    (labels / "frame_2.tif").unlink()
    assert "frame_2.tif without a label mask" in error_of()
    assert not (tmp_path / "model").exists()
