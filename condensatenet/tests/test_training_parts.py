"""The parts of a training run: steps, averages, the choice of the best epoch, checkpoints, progress and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thin_network import bumpy_image, random_network
from torch import Tensor

from condensatenet.errors import InvalidOptionError, TrainingError, TrainingStopped
from condensatenet.evaluation import evaluate_instances
from condensatenet.files.model_directory import load_network, save_network
from condensatenet.inference.instances import flow_to_instances
from condensatenet.inference.tiles import predict_frame
from condensatenet.network.model import CondensateNet
from condensatenet.training import train_model
from condensatenet.training.checkpoint import checkpoint_directory, read_checkpoint, write_checkpoint
from condensatenet.training.dataset import AnnotatedImage, CondensateNetDataset, annotate, prepare_training_data
from condensatenet.training.holdout import Split
from condensatenet.training.loop import _chosen_network
from condensatenet.training.loss import CondensateNetLoss, Losses
from condensatenet.training.progress import Progress, format_duration
from condensatenet.training.result import TrainingResult, build_report, check_output_path
from condensatenet.training.run import Batch, TrainingRun, weights_checksum
from condensatenet.training.settings import TrainingSettings
from condensatenet.training.validation import Measurement, SizeLimits, best_threshold, measure

Check = Callable[[], None]


def never() -> None:
    """Nobody wants to stop."""


def disks(count: int = 6, shape: tuple[int, int] = (64, 64)) -> AnnotatedImage:
    """Bright disks on a dark ground, in the order of their numbers."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for number in range(count):
        y, x = 10 + 20 * (number // 3), 10 + 20 * (number % 3)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < 36] = number + 1
    return annotate((labels > 0) * np.uint8(200), labels)


def batch_of(dataset: CondensateNetDataset, count: int = 4) -> Batch:
    images, masks, flows = zip(*(dataset[index] for index in range(count)), strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)), torch.from_numpy(np.stack(flows))


@pytest.fixture
def batch() -> Batch:
    sample = disks()
    return batch_of(CondensateNetDataset.from_samples([sample], patch_size=32, augment=True, seed=0))


def weights(network: CondensateNet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


# ---- steps


def test_steps_lower_the_loss(batch: Batch) -> None:
    run = TrainingRun.start(random_network(), TrainingSettings())
    run.begin_epoch(4)
    losses = [run.step(CondensateNetLoss(), batch, 1e-2).total.item() for _ in range(12)]
    assert losses[-1] < 0.6 * losses[0]


def test_start_network_is_left_as_it_is(batch: Batch) -> None:
    start = random_network()
    before = weights(start)
    run = TrainingRun.start(start, TrainingSettings())
    run.begin_epoch(4)
    run.step(CondensateNetLoss(), batch, 1e-2)
    run.update_average(0)
    assert same(weights(start), before) and not start.training
    assert not same(weights(run.network), before)
    assert not same(weights(run.average), before)


@pytest.mark.parametrize(("batch_size", "moves"), [(1, False), (3, False), (4, True)])
def test_small_batches_leave_the_normalisation_statistics_alone(batch: Batch, batch_size: int, moves: bool) -> None:
    run = TrainingRun.start(random_network(), TrainingSettings())
    before = weights(run.network)
    run.begin_epoch(batch_size)
    image, mask, flows = batch
    run.step(CondensateNetLoss(), (image[:batch_size], mask[:batch_size], flows[:batch_size]), 1e-3)
    after = weights(run.network)
    statistics = [name for name in after if "running" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) is not moves for name in statistics)
    assert not torch.equal(before["mask_head.weight"], after["mask_head.weight"])
    assert run.network.dropout.training


def test_loss_that_is_not_finite_changes_nothing(batch: Batch) -> None:
    run = TrainingRun.start(random_network(), TrainingSettings())
    run.network.eval()  # so that the forward pass does not move the statistics either
    before = weights(run.network)
    image, mask, flows = batch
    losses = run.step(CondensateNetLoss(), (image, mask, flows * float("inf")), 1e-2)
    assert not torch.isfinite(losses.total)
    assert same(weights(run.network), before)


class InfiniteSlope(CondensateNetLoss):
    """A finite loss whose gradient is infinite."""

    def forward(self, outputs: dict[str, Tensor], mask_target: Tensor, flow_target: Tensor) -> Losses:
        value = (outputs["mask"].sum() * 0).abs().sqrt()
        return Losses(value, value, value)


def test_gradient_that_is_not_finite_changes_nothing(batch: Batch) -> None:
    run = TrainingRun.start(random_network(), TrainingSettings())
    run.network.eval()
    before = weights(run.network)
    assert run.step(InfiniteSlope(), batch, 1e-2).total == 0
    assert same(weights(run.network), before)
    run.step(CondensateNetLoss(), batch, 1e-2)
    assert not same(weights(run.network), before)


def test_average_follows_the_network_ever_more_slowly() -> None:
    run = TrainingRun.start(random_network(), TrainingSettings())
    name = "flow_head.bias"
    with torch.no_grad():
        run.average.get_parameter(name).fill_(0)
        run.network.get_parameter(name).fill_(1)
        run.network.get_buffer("output_projection.bn.num_batches_tracked").fill_(7)
    shares = []
    for step in (0, 10, 10**6):
        with torch.no_grad():
            run.average.get_parameter(name).fill_(0)
        run.update_average(step)
        shares.append(run.average.get_parameter(name)[0].item())
    assert shares == pytest.approx([1 - 1 / 10, 1 - 11 / 20, 0.001], rel=1e-3)
    assert run.average.get_buffer("output_projection.bn.num_batches_tracked") == 7


def test_weight_decay_spares_biases_and_normalisation() -> None:
    run = TrainingRun.start(random_network(), TrainingSettings(weight_decay=0.25))
    decayed, plain = run.optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.25, 0)
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(run.network.parameters()))


def test_learning_rate_rises_and_falls() -> None:
    settings = TrainingSettings(learning_rate=0.01, warmup_fraction=0.1)
    rates = [settings.learning_rate_at(step, 200) for step in range(200)]
    assert rates[0] == pytest.approx(0.01 / 20)
    assert rates[19] == pytest.approx(0.01) and max(rates) == pytest.approx(0.01)
    assert rates[109] == pytest.approx(0.005)
    assert rates[199] == pytest.approx(0)
    assert (np.diff(rates[:20]) > 0).all() and (np.diff(rates[19:]) < 0).all()
    for warmup_fraction in (0.0, 1.0):
        edge = TrainingSettings(warmup_fraction=warmup_fraction)
        assert all(0 <= edge.learning_rate_at(step, 3) <= 1e-4 for step in range(3))
    assert TrainingSettings().learning_rate_at(0, 1) == 1e-4


# ---- the best epoch


def test_best_epoch_is_the_first_of_the_highest() -> None:
    run = TrainingRun.start(random_network(), TrainingSettings())
    for epoch, ap in enumerate((0.0, 0.5, 0.4, 0.5), start=1):
        with torch.no_grad():
            run.average.get_parameter("mask_head.bias").fill_(epoch)
        run.keep_if_best(ap, epoch / 10)
        run.history.append({"epoch": epoch})
    assert (run.best_epoch, run.best_ap, run.best_threshold) == (2, 0.5, 0.2)
    assert run.best_weights["mask_head.bias"] == 2  # a copy, not what the average became later


class Certain(torch.nn.Module):
    """A network that is sure of the disks to a given degree, knows their flows, and sees a faint ghost elsewhere."""

    def __init__(self, sample: AnnotatedImage, probability: float, ghost: float) -> None:
        super().__init__()
        chance = np.where(sample.labels > 0, probability, 0.01)
        chance[50:60, 2:12] = ghost
        self.mask = torch.nn.Parameter(torch.from_numpy(np.log(chance / (1 - chance))).float()[None, None])
        self.flows = torch.from_numpy(sample.flows)[None]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"mask": self.mask, "flows": self.flows}


@pytest.mark.parametrize(
    ("probability", "ghost", "expected"), [(0.99, 0.45, 0.7), (0.35, 0.02, 0.2), (0.95, 0.02, 0.5), (0.07, 0.02, None)]
)
def test_best_threshold_is_the_middle_of_the_best(probability: float, ghost: float, expected: float | None) -> None:
    sample = disks()
    ap, threshold = best_threshold(Certain(sample, probability, ghost), [sample], SizeLimits(), never)
    if expected is None:
        assert ap == 0
    else:
        assert ap == 1
        assert threshold == expected


def test_moving_the_threshold_changes_no_instance() -> None:
    image = bumpy_image()
    sample = annotate(image, image > 100)
    network = random_network()
    before = predict_frame(network, sample.image)
    run = TrainingRun.start(network, TrainingSettings())
    run.best_weights, run.best_threshold, run.best_epoch = weights(network), 0.7, 1
    chosen = _chosen_network(run, Split([sample], [sample], ""), SizeLimits(), Progress(None, None))
    after = predict_frame(chosen, sample.image)
    assert 100 < np.sum(before[0] > 0.7) < 0.9 * sample.labels.size
    assert np.mean((before[0] > 0.7) != (after[0] > 0.15)) < 1e-3
    np.testing.assert_array_equal(before[1], after[1])
    instances = [
        flow_to_instances(*output, t, 1, 9999, grouping="merged") for output, t in ((before, 0.7), (after, 0.15))
    ]
    assert evaluate_instances([instances[0]], [instances[1]], (0.9,)).ap(0.9) > 0.95


def test_size_limits_are_widened_where_annotations_need_it() -> None:
    assert SizeLimits.of([disks()]) == SizeLimits(15, 600)
    labels = np.zeros((60, 480), np.int32)
    labels[:40, :40] = 1
    for number, area in enumerate([1, *[6] * 5, *[12] * 54]):  # the smallest one may be a rest of an instance
        labels[50, 8 * number : 8 * number + 6] = number + 2 if area > 1 else 0
        labels[51, 8 * number : 8 * number + max(1, area - 6)] = number + 2 if area != 6 else 0
    assert np.bincount(labels.ravel())[1:9].tolist() == [1600, 1, 6, 6, 6, 6, 6, 12]
    assert SizeLimits.of([annotate(labels, labels)]) == SizeLimits(6, 3200)
    assert SizeLimits.of([annotate(labels, np.zeros_like(labels))]) == SizeLimits(15, 600)


def test_measuring_asks_whether_to_stop() -> None:
    def stop() -> None:
        raise TrainingStopped("enough")

    with pytest.raises(TrainingStopped):
        measure(random_network(), [disks()], SizeLimits(), stop)
    with pytest.raises(TrainingStopped):
        best_threshold(random_network(), [disks()], SizeLimits(), stop)


# ---- checkpoints


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
