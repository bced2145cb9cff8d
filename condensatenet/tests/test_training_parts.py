"""The parts of a training run: steps, averages and the choice of the best epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import training_examples
from thin_network import bumpy_image, random_network
from torch import Tensor
from training_examples import disks, same, weights

from condensatenet.errors import TrainingStopped
from condensatenet.evaluation import evaluate_instances
from condensatenet.inference.instances import flow_to_instances
from condensatenet.inference.tiles import predict_frame
from condensatenet.training.dataset import AnnotatedImage, annotate
from condensatenet.training.holdout import Split
from condensatenet.training.loop import _chosen_network
from condensatenet.training.loss import CondensateNetLoss, Losses
from condensatenet.training.progress import Progress
from condensatenet.training.run import Batch, TrainingRun
from condensatenet.training.settings import TrainingSettings
from condensatenet.training.validation import SizeLimits, best_threshold, measure

batch = training_examples.batch
Check = Callable[[], None]


def never() -> None:
    """Nobody wants to stop."""


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
