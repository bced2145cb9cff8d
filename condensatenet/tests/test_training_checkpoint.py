"""Checkpoints of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import training_examples
from thin_network import random_network
from training_examples import same, weights

from condensatenet.errors import TrainingError
from condensatenet.training.checkpoint import checkpoint_directory, read_checkpoint, write_checkpoint
from condensatenet.training.loss import CondensateNetLoss
from condensatenet.training.run import Batch, TrainingRun, weights_checksum
from condensatenet.training.settings import TrainingSettings

batch = training_examples.batch


def test_run_goes_on_from_its_state(batch: Batch, tmp_path: Path) -> None:
    def epoch(run: TrainingRun) -> None:
        run.begin_epoch(4)
        for step in range(2):
            run.step(CondensateNetLoss(), batch, 1e-3)
            run.update_average(step)
        run.keep_if_best(len(run.history) + 1.0, 0.3)
        run.history.append({"epoch": len(run.history) + 1, "loss": 0.5})

    run = TrainingRun.start(random_network(), TrainingSettings())
    epoch(run)
    write_checkpoint(tmp_path / "new" / "run.training", run.state())
    epoch(run)
    expected = weights(run.network), weights(run.average), run.history, run.best_epoch, run.best_weights
    other = TrainingRun.start(random_network(seed=1), TrainingSettings(random_seed=7))
    state = read_checkpoint(tmp_path / "new" / "run.training", "cpu")
    assert state is not None
    other.restore(state)
    epoch(other)
    assert same(weights(other.network), expected[0]) and same(weights(other.average), expected[1])
    assert other.history == expected[2] and other.best_epoch == expected[3] == 2
    assert same(other.best_weights, expected[4])


def test_checkpoint_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = checkpoint_directory(tmp_path / "model")
    assert directory == tmp_path / "model.training"
    assert read_checkpoint(directory, "cpu") is None
    write_checkpoint(directory, {"epoch": 1})

    def fail(state: object, stream: Any) -> None:
        stream.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        write_checkpoint(directory, {"epoch": 2})
    assert read_checkpoint(directory, "cpu") == {"epoch": 1}


def test_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"epoch": 1, "weights": torch.zeros(100)})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(TrainingError, match=r"state.pt cannot be read .*start again without resuming"):
        read_checkpoint(tmp_path, "cpu")


def test_checkpoint_holds_no_code(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, {"epoch": Path("a class that is no tensor")})
    with pytest.raises(TrainingError, match="cannot be read"):
        read_checkpoint(tmp_path, "cpu")


def test_checksum_is_of_names_values() -> None:
    assert weights_checksum(random_network()) == weights_checksum(random_network())
    assert weights_checksum(random_network()) != weights_checksum(random_network(seed=5))
    last = random_network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert weights_checksum(last) == weights_checksum(random_network())
