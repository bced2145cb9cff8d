"""Training runs on small simulated frames: what they leave behind, and that stopping or killing one loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thin_network import THIN_NETWORK

from condensatenet.errors import InvalidOptionError, ModelNotFoundError, TrainingError, TrainingStopped
from condensatenet.files.model_directory import load_network, save_network
from condensatenet.network.model import CondensateNet
from condensatenet.simulation import draw_style, simulate_frame
from condensatenet.training import CondensateNetDataset, prepare_training_data, train_model
from condensatenet.training.checkpoint import checkpoint_directory
from condensatenet.training.loop import _chosen_network
from condensatenet.training.progress import Progress
from condensatenet.training.run import TrainingRun
from condensatenet.training.settings import TrainingSettings
from condensatenet.training.validation import SizeLimits

OPTIONS: dict[str, Any] = {"epochs": 2, "learning_rate": 2e-3, "batch_size": 8, "device": "cpu"}


def frames(count: int, side: int = 64) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return frames that hold at least four instances each."""
    found = []
    index = 0
    while len(found) < count:
        rng = np.random.default_rng([7, index])
        image, labels = simulate_frame((side, side), rng=rng, style=draw_style(rng))
        if labels.max() >= 4:
            found.append((image, labels))
        index += 1
    return found


@pytest.fixture(scope="module")
def dataset() -> CondensateNetDataset:
    images, labels = zip(*frames(6), strict=True)
    return prepare_training_data(images, labels, patch_size=64)


@pytest.fixture(scope="module")
def start_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("untrained")
    save_network(directory, CondensateNet(THIN_NETWORK), {})
    return directory


def checksum(directory: Path) -> str:
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()


def test_a_run_leaves_a_complete_model_with_its_report(
    dataset: CondensateNetDataset, start_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condensatenet.training.progress._SECONDS_BETWEEN_REPORTS", 0.0)  # the run may be shorter
    told: list[tuple[float, str]] = []
    output = tmp_path / "model"
    returned = train_model(
        dataset, start_model, output, **OPTIONS, progress_callback=lambda fraction, text: told.append((fraction, text))
    )

    assert returned == str(output)
    assert {file.name for file in output.iterdir()} == {
        "README.md",
        "config.json",
        "held_out_overlay.png",
        "model.safetensors",
        "training_curves.png",
        "training_report.json",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "temporary files stayed"
    report = json.loads((output / "training_report.json").read_text(encoding="utf-8"))
    assert [entry["epoch"] for entry in report["history"]] == [1, 2]
    assert all(np.isfinite(entry["loss"]) and "ap50" in entry for entry in report["history"])
    assert report["counts"]["held_out_images"] == 1
    assert report["counts"]["training_images"] == 5
    assert report["model_sha256"] == checksum(output)
    assert report["start_model"]["sha256"] == checksum(start_model)
    assert report["ap50_before"] == report["before"]["scores"][0]["ap"]
    assert report["message"] in (output / "README.md").read_text(encoding="utf-8")
    _, config = load_network(output)
    assert config["encoder_variant"] == "small"
    assert config["architectures"] == ["CondensateNet"]
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert any("left" in text and "AP@0.5" in text for _, text in told)


def test_a_regression_is_said_plainly(dataset: CondensateNetDataset, start_model: Path, tmp_path: Path) -> None:
    train_model(dataset, start_model, tmp_path / "model", **{**OPTIONS, "epochs": 1, "learning_rate": 1e-9})
    report = json.loads((tmp_path / "model" / "training_report.json").read_text(encoding="utf-8"))
    assert report["improved"] is False
    assert "did NOT help" in report["message"]


def test_too_little_to_hold_out_still_trains_and_says_so(start_model: Path, tmp_path: Path) -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:20, 10:20] = 1
    image = (labels * 200 + 20).astype(np.uint8)
    train_model(prepare_training_data([image], [labels], 64), start_model, tmp_path / "model", **OPTIONS)
    report = json.loads((tmp_path / "model" / "training_report.json").read_text(encoding="utf-8"))
    assert report["improved"] is None
    assert "not checked on unseen images" in report["message"]
    assert report["best_epoch"] == 2


def test_batch_size_one_leaves_the_normalisation_statistics_alone(
    dataset: CondensateNetDataset, start_model: Path, tmp_path: Path
) -> None:
    train_model(dataset, start_model, tmp_path / "model", **{**OPTIONS, "epochs": 1, "batch_size": 1})
    before, after = (load_network(path)[0].state_dict() for path in (start_model, tmp_path / "model"))
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not torch.equal(before["mask_head.weight"], after["mask_head.weight"])


def test_the_best_threshold_is_moved_to_the_default_one(dataset: CondensateNetDataset, start_model: Path) -> None:
    network, _ = load_network(start_model)
    run = TrainingRun.start(network, TrainingSettings())
    run.best_threshold = 0.7
    run.best_weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    bias = float(network.mask_head.bias)
    chosen = _chosen_network(run, None, SizeLimits(), Progress(None, None))  # type: ignore[arg-type]  # not looked at
    logit = float(np.log(0.7 / 0.3))
    moved = torch.sigmoid(torch.tensor(logit - bias) + chosen.mask_head.bias)
    assert float(moved) == pytest.approx(0.15, abs=1e-6)


def test_an_infinite_loss_keeps_the_last_good_model(
    dataset: CondensateNetDataset, start_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(run: TrainingRun, batch_size: int) -> None:
        run.network.train()
        if len(run.history) == 1:
            with torch.no_grad():
                run.network.mask_head.bias.fill_(float("inf"))

    monkeypatch.setattr(TrainingRun, "begin_epoch", poison)
    with pytest.raises(TrainingError, match=r"infinite or NaN in epoch 2.*epoch 1 was kept.*smaller learning rate"):
        train_model(dataset, start_model, tmp_path / "model", **{**OPTIONS, "epochs": 3})
    network, _ = load_network(tmp_path / "model")
    assert torch.isfinite(network.mask_head.bias).all()


def test_an_infinite_loss_at_once_writes_nothing(
    dataset: CondensateNetDataset, start_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(run: TrainingRun, batch_size: int) -> None:
        with torch.no_grad():
            run.network.mask_head.bias.fill_(float("nan"))

    monkeypatch.setattr(TrainingRun, "begin_epoch", poison)
    with pytest.raises(TrainingError, match="smaller learning rate"):
        train_model(dataset, start_model, tmp_path / "model", **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_run_resumes_to_the_same_model(
    dataset: CondensateNetDataset, start_model: Path, tmp_path: Path
) -> None:
    options = {**OPTIONS, "epochs": 3}
    train_model(dataset, start_model, tmp_path / "uninterrupted", **options)
    asked = 0

    def stop_in_the_second_epoch() -> bool:
        nonlocal asked
        asked += 1
        return len(list(checkpoint_directory(tmp_path / "stopped").glob("*"))) == 1 and asked % 3 == 0

    with pytest.raises(TrainingStopped, match="resume"):
        train_model(dataset, start_model, tmp_path / "stopped", **options, should_stop=stop_in_the_second_epoch)
    assert not (tmp_path / "stopped").exists()
    with pytest.raises(TrainingError, match=r"differs in learning_rate.*same settings"):
        train_model(dataset, start_model, tmp_path / "stopped", **{**options, "learning_rate": 1e-4}, resume=True)
    train_model(dataset, start_model, tmp_path / "stopped", **options, resume=True)
    assert checksum(tmp_path / "stopped") == checksum(tmp_path / "uninterrupted")
    assert not checkpoint_directory(tmp_path / "stopped").exists()


KILLED_RUN = """
import sys, numpy, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from test_training import OPTIONS, frames
from condensatenet.training import prepare_training_data, train_model
images, labels = zip(*frames(6))
dataset = prepare_training_data(images, labels, patch_size=64)
train_model(dataset, sys.argv[2], sys.argv[3], **{**OPTIONS, "epochs": 4}, resume=True)
"""


def run_in_a_process(start_model: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", KILLED_RUN, str(Path(__file__).parent), str(start_model), str(output)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_killed_run_resumes_bit_by_bit(start_model: Path, tmp_path: Path) -> None:
    assert run_in_a_process(start_model, tmp_path / "uninterrupted").wait(120) == 0
    output = tmp_path / "killed"
    state = checkpoint_directory(output) / "state.pt"
    for _ in range(2):
        seen = state.stat().st_mtime_ns if state.exists() else 0
        process = run_in_a_process(start_model, output)
        give_up = time.monotonic() + 60
        while (not state.exists() or state.stat().st_mtime_ns == seen) and time.monotonic() < give_up:
            time.sleep(0.02)
        time.sleep(0.15)  # into the next epoch
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        assert not output.exists()
    assert run_in_a_process(start_model, output).wait(120) == 0
    assert checksum(output) == checksum(tmp_path / "uninterrupted")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "uninterrupted"]


def test_what_is_no_model_is_not_replaced(dataset: CondensateNetDataset, start_model: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    with pytest.raises(InvalidOptionError, match="is not a model"):
        train_model(dataset, start_model, tmp_path / "thesis", **OPTIONS)
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"


def test_a_model_is_replaced_only_when_the_new_one_is_complete(
    dataset: CondensateNetDataset, start_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"
    train_model(dataset, start_model, output, **{**OPTIONS, "epochs": 1})
    old = checksum(output)

    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("condensatenet.training.result.write_model_card", fail)
    with pytest.raises(OSError, match="no space left"):
        train_model(dataset, start_model, output, **OPTIONS)
    assert checksum(output) == old
    monkeypatch.undo()
    train_model(dataset, start_model, output, **OPTIONS, resume=True)
    assert checksum(output) != old
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("epochs", 0), ("epochs", 1.5), ("learning_rate", 0.0), ("learning_rate", float("nan")), ("batch_size", True),
     ("warmup_fraction", 1.1), ("random_seed", -1)],
)  # fmt: skip
def test_bad_options_are_named_before_anything_starts(
    dataset: CondensateNetDataset, tmp_path: Path, option: str, value: object
) -> None:
    with pytest.raises(InvalidOptionError, match=option):
        train_model(dataset, "no such model", tmp_path / "model", **{**OPTIONS, option: value})


def test_an_unknown_start_model_is_named(dataset: CondensateNetDataset, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model 'mine'; there are: pretrained"):
        train_model(dataset, "mine", tmp_path / "model", **OPTIONS)
