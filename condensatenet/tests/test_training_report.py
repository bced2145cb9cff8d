"""What a training run tells: its progress, its report, and how it ends where the loss is infinite."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thin_network import random_network
from torch import Tensor
from training_examples import disks, same, weights

from condensatenet.errors import InvalidOptionError, TrainingError, TrainingStopped
from condensatenet.evaluation import evaluate_instances
from condensatenet.files.model_directory import load_network, save_network
from condensatenet.training import train_model
from condensatenet.training.dataset import prepare_training_data
from condensatenet.training.holdout import Split
from condensatenet.training.loss import CondensateNetLoss, Losses
from condensatenet.training.progress import Progress, format_duration
from condensatenet.training.result import TrainingResult, build_report, check_output_path
from condensatenet.training.run import TrainingRun
from condensatenet.training.settings import TrainingSettings
from condensatenet.training.validation import Measurement, SizeLimits

# ---- progress


def test_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 0.5))  # half a second passes at each look
    monkeypatch.setattr("condensatenet.training.progress.time.monotonic", lambda: float(next(clock)))
    told: list[tuple[float, str]] = []
    progress = Progress(lambda *call: told.append(call), None)
    progress.start_ap = 0.25
    progress.report(0.0, "begin", always=True)
    progress.start(0, 4, 10)
    for epoch in range(1, 5):
        for number in range(1, 11):
            progress.step(epoch, number, 0.5, 0.0)
    fractions = [fraction for fraction, _ in told]
    assert 15 < len(told) < 25 and fractions == sorted(fractions)
    assert told[1][1].startswith("epoch 1 of 4, loss 0.500, AP@0.5 0.250 (start 0.250), ")
    assert told[1][1].endswith(" s left")


def test_resumed_run_estimates_the_time_from_its_own_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 100.0])
    monkeypatch.setattr("condensatenet.training.progress.time.monotonic", lambda: next(clock))
    told: list[tuple[float, str]] = []
    progress = Progress(lambda *call: told.append(call), None)
    progress.start(8, 10, 1)
    progress.step(9, 1, 1.0, -1.0)
    assert told == [(0.9, "epoch 9 of 10, loss 1.000, 2 min left")]


def test_stop_is_an_exception() -> None:
    Progress(None, None).check_stop()
    Progress(None, lambda: False).check_stop()
    with pytest.raises(TrainingStopped, match="run it again with resume"):
        Progress(None, lambda: True).check_stop()


def test_durations_are_told_as_people_do() -> None:
    told = [format_duration(seconds) for seconds in (0.4, 40, 89, 90, 600, 5300, 5400, 7500)]
    assert told == ["0 s", "40 s", "89 s", "2 min", "10 min", "88 min", "1 h 30 min", "2 h 5 min"]


# ---- the result


def result_of(before: float, after: float, *, held_out: bool = True, **change: Any) -> TrainingResult:
    """A run whose models found so many of ten instances."""
    sample = disks(6)

    def measurement(share: float) -> Measurement:
        found = np.where(sample.labels <= round(6 * share), sample.labels, 0)
        return Measurement([found], evaluate_instances([sample.labels], [found]))

    values: dict[str, Any] = {
        "settings": TrainingSettings(),
        "patch_size": 64,
        "split": Split(
            [sample], [sample] if held_out else [], "1 of 2 images were held out" if held_out else "nothing"
        ),
        "limits": SizeLimits(),
        "history": [{"epoch": 1, "loss": 0.5}],
        "best_epoch": 1,
        "start_model": Path(__file__).parent,
        "before": measurement(before),
        "after": measurement(after),
        "failure": None,
    }
    return TrainingResult(**{**values, **change})


@pytest.fixture
def start_model(tmp_path: Path) -> Path:
    (tmp_path / "start").mkdir()
    save_network(tmp_path / "start", random_network(), {})
    return tmp_path / "start"


@pytest.mark.parametrize(
    ("before", "after", "held_out", "improved", "message"),
    [
        (
            1 / 3,
            5 / 6,
            True,
            True,
            "Training helped: AP@0.5 0.333 before, 0.833 after, on annotations that it never saw",
        ),
        (5 / 6, 1 / 3, True, False, "Training did NOT help: AP@0.5 0.833 before, 0.333 after"),
        (1 / 2, 1 / 2, True, False, "Training did NOT help: AP@0.5 0.500 before, 0.500 after"),
        (
            0,
            1,
            False,
            None,
            "Trained, but not checked on unseen images: nothing. On the training images themselves: AP",
        ),
    ],
)
def test_report_says_whether_training_helped(
    start_model: Path, before: float, after: float, held_out: bool, improved: bool | None, message: str
) -> None:
    report = build_report(result_of(before, after, held_out=held_out, start_model=start_model))
    assert report["message"].startswith(message)
    assert report["improved"] is improved
    assert (report["ap50_before"], report["ap50_after"]) == (before, after)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert ("Keep the start model" in report["message"]) is (improved is False)


def test_report_names_unusual_sizes_and_failures(start_model: Path) -> None:
    plain = build_report(result_of(0, 1, start_model=start_model))["message"]
    assert "Size" not in plain and "Note" not in plain
    report = build_report(
        result_of(0, 1, start_model=start_model, limits=SizeLimits(4, 2000), failure="the loss became infinite")
    )
    assert "Min Size of at most 4 and a Max Size of at least 2000 px" in report["message"]
    assert report["message"].endswith("Note: the loss became infinite.")
    assert report["instance_sizes"] == {"min_size": 4, "max_size": 2000}


def test_only_models_and_empty_places_are_written_to(tmp_path: Path, start_model: Path) -> None:
    (tmp_path / "empty").mkdir()
    for allowed in (tmp_path / "new", tmp_path / "empty", start_model):
        check_output_path(allowed)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "config.json").write_text("{}")  # many programs call a file so
    (tmp_path / "file").write_text("text")
    for forbidden in (tmp_path / "project", tmp_path / "file", tmp_path):
        with pytest.raises(InvalidOptionError, match="is not a model; choose another output directory"):
            check_output_path(forbidden)


# ---- a whole run that fails where nothing is held out


def test_infinite_loss_goes_back_to_the_last_finished_epoch(
    start_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = disks(4, (40, 40))
    dataset = prepare_training_data([sample.image], [sample.labels], 32)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 16, "learning_rate": 1e-3, "device": "cpu"}
    after_epoch: list[dict[str, Tensor]] = []

    class Poisoned(CondensateNetLoss):
        """Infinite at the second step of the third epoch."""

        steps = 0

        def forward(self, outputs: dict[str, Tensor], mask_target: Tensor, flow_target: Tensor) -> Losses:
            self.steps += 1
            losses = super().forward(outputs, mask_target, flow_target)
            return Losses(losses.total * math.inf, *losses[1:]) if self.steps == 6 else losses

    real = TrainingRun.state

    def remember(run: TrainingRun) -> dict[str, Any]:
        after_epoch.append(weights(run.average))
        return real(run)

    monkeypatch.setattr("condensatenet.training.loop.CondensateNetLoss", Poisoned)
    monkeypatch.setattr(TrainingRun, "state", remember)
    with pytest.raises(TrainingError, match=r"in epoch 3; the model of epoch 2 was kept; use a smaller learning rate"):
        train_model(dataset, start_model, tmp_path / "model", **options)
    assert len(after_epoch) == 2
    loaded = weights(load_network(tmp_path / "model")[0])
    shifted = loaded.pop("mask_head.bias")  # by the threshold
    assert same(loaded, after_epoch[1])
    assert torch.isfinite(shifted).all()
    report = json.loads((tmp_path / "model" / "training_report.json").read_text(encoding="utf-8"))
    assert report["best_epoch"] == report["epochs_run"] == 2
    assert "infinite or NaN in epoch 3" in report["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "start"]
