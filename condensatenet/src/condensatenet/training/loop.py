"""The training loop: from a dataset and a start model to a model directory."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from condensatenet.devices import get_device
from condensatenet.errors import TrainingError
from condensatenet.files.model_directory import load_network
from condensatenet.files.pretrained import find_model
from condensatenet.inference.instances import PROB_THRESHOLD
from condensatenet.network.model import CondensateNet
from condensatenet.training.checkpoint import (
    checkpoint_directory,
    read_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from condensatenet.training.dataset import CondensateNetDataset
from condensatenet.training.holdout import Split, split_holdout
from condensatenet.training.loss import CondensateNetLoss
from condensatenet.training.progress import Progress, ProgressCallback
from condensatenet.training.result import TrainingResult, check_output_path, write_result
from condensatenet.training.run import Batch, TrainingRun, weights_checksum
from condensatenet.training.settings import TrainingSettings
from condensatenet.training.validation import SizeLimits, best_threshold, measure

_VALIDATION_SHARE = 0.25  # of the training time that validation may take
_FORWARD_COST = 0.4  # of a pixel in validation relative to one in training
_BATCHES_AHEAD = 2


def train_model(
    dataset: CondensateNetDataset,
    initial_model_path: str | os.PathLike[str] | None,
    output_path: str | os.PathLike[str],
    epochs: int = 100,
    learning_rate: float = 1e-4,
    weight_decay: float = 1e-4,
    batch_size: int = 4,
    warmup_fraction: float = 0.1,
    mask_weight: float = 1.0,
    flow_weight: float = 1.0,
    device: str | None = None,
    random_seed: int = 42,
    progress_callback: ProgressCallback | None = None,
    *,
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> str:
    """Train a model on annotated images and write it to `output_path`.

    About a fifth of the annotations is held out (`condensatenet.training.holdout`). The epoch with the highest AP@0.5
    on them, by the real post-processing, is kept, and its best probability threshold is moved into the mask head's
    bias, so that the default threshold of 0.15 is right for it. The start model is measured on the same part first; the
    report says whether training beat it.

    Args:
        dataset: of `prepare_training_data`.
        initial_model_path: directory or name of the model to start from; None for the pretrained one.
        output_path: directory to write; it appears complete or not at all, and a model there is replaced only then.
        epochs, learning_rate, weight_decay, batch_size, warmup_fraction, mask_weight, flow_weight, random_seed: see
            `TrainingSettings`.
        device: "cuda", "mps" or "cpu"; the best one there is by default.
        progress_callback: called with the finished fraction and a message at least every few seconds.
        resume: go on from the state that a stopped or killed run with the same output path left, if there is one.
        should_stop: asked after every step; once it returns True the run stops, and can be resumed from its last
            finished epoch.

    Returns:
        `output_path` as a string.

    Raises:
        InvalidOptionError, InvalidModelError, ModelNotFoundError: before anything slow has started.
        TrainingStopped: `should_stop` returned True.
        TrainingError: the loss became infinite or NaN (the best model so far is written all the same), or the state to
            resume belongs to another run.
    """
    settings = TrainingSettings(
        epochs, learning_rate, weight_decay, batch_size, warmup_fraction, mask_weight, flow_weight, random_seed
    )
    output, start_path = Path(output_path), find_model(initial_model_path)
    check_output_path(output)
    start_network, _ = load_network(start_path, get_device(device))
    split = split_holdout(dataset.samples, settings.random_seed)
    limits = SizeLimits.of(dataset.samples)
    progress = Progress(progress_callback, should_stop)

    run = TrainingRun.start(start_network, settings)
    identity = _identify(settings, dataset, start_network)
    if resume:
        _resume(run, checkpoint_directory(output), identity)
    measured = split.held_out or split.train
    progress.report(0.0, "measuring the start model", always=True)
    before = measure(start_network, measured, limits, progress.check_stop)
    if split.held_out:
        progress.start_ap = before.evaluation.ap(0.5)
    train_set = CondensateNetDataset.from_samples(
        split.train, patch_size=dataset.patch_size, augment=dataset.augment, seed=settings.random_seed
    )

    def save() -> None:
        write_checkpoint(checkpoint_directory(output), {**run.state(), "identity": identity})

    failure = _train(run, train_set, split, limits, settings, progress, save)
    if failure and not run.best_weights:
        _resume(run, checkpoint_directory(output), identity)  # back to the last finished epoch

    network = _chosen_network(run, split, limits, progress)
    progress.report(1.0, "measuring the new model and writing its report", always=True)
    result = TrainingResult(
        settings=settings,
        patch_size=dataset.patch_size,
        split=split,
        limits=limits,
        history=run.history,
        best_epoch=run.best_epoch,
        start_model=start_path,
        before=before,
        after=measure(network, measured, limits, progress.check_stop),
        failure=failure,
    )
    write_result(result, network, output)
    remove_checkpoint(checkpoint_directory(output))
    if failure:
        raise TrainingError(failure)
    return str(output)


def _train(
    run: TrainingRun,
    train_set: CondensateNetDataset,
    split: Split,
    limits: SizeLimits,
    settings: TrainingSettings,
    progress: Progress,
    save: Callable[[], None],
) -> str | None:
    """Train the epochs that are left; return why it ended before its time if the loss was no longer a number."""
    criterion = CondensateNetLoss(settings.mask_weight, settings.flow_weight)
    batches = math.ceil(len(train_set) / settings.batch_size)
    interval = _validation_interval(train_set, split)
    patience = max(settings.patience, 2 * interval)
    progress.start(len(run.history), settings.epochs, batches)
    with ThreadPoolExecutor(max_workers=1) as pool:
        for epoch in range(len(run.history) + 1, settings.epochs + 1):
            if split.held_out and len(run.history) - run.best_epoch >= patience:
                break
            began = time.monotonic()
            run.begin_epoch(settings.batch_size)
            sums = np.zeros(3)
            learning_rate = 0.0
            for number, batch in enumerate(_batches(train_set, settings, epoch, pool)):
                step = (epoch - 1) * batches + number
                learning_rate = settings.learning_rate_at(step, settings.epochs * batches)
                losses = run.step(criterion, batch, learning_rate)
                if not torch.isfinite(losses.total):
                    return _explain_loss(epoch, run)
                run.update_average(step)
                sums += [float(value) for value in losses]
                progress.step(epoch, number + 1, sums[0] / (number + 1), run.best_ap)
            loss, mask_loss, flow_loss = (sums / batches).tolist()
            entry = {
                "epoch": epoch,
                "loss": loss,
                "mask_loss": mask_loss,
                "flow_loss": flow_loss,
                "learning_rate": learning_rate,
            }
            if split.held_out and (epoch % interval == 0 or epoch == settings.epochs):
                ap, threshold = best_threshold(run.average, split.held_out, limits, progress.check_stop)
                run.keep_if_best(ap, threshold)
                entry |= {"ap50": ap, "threshold": threshold}
            run.history.append({**entry, "seconds": time.monotonic() - began})
            save()
    return None


def _batches(
    train_set: CondensateNetDataset, settings: TrainingSettings, epoch: int, pool: ThreadPoolExecutor
) -> Iterator[Batch]:
    """Yield the batches of an epoch in random order; the next ones are cut while the current one is trained on."""
    train_set.set_epoch(epoch)
    order = np.random.default_rng([settings.random_seed, epoch]).permutation(len(train_set))
    # The last batch is filled up from the start of the order: one of few patches would have poor statistics.
    order = np.resize(order, (math.ceil(len(order) / settings.batch_size), settings.batch_size))

    def cut(indices: NDArray[np.intp]) -> Batch:
        images, masks, flows = zip(*(train_set[int(index)] for index in indices), strict=True)
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)), torch.from_numpy(np.stack(flows))

    waiting: deque[Future[Batch]] = deque()
    for indices in order:
        waiting.append(pool.submit(cut, indices))
        if len(waiting) > _BATCHES_AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _validation_interval(train_set: CondensateNetDataset, split: Split) -> int:
    """Return every how many epochs the held-out part is measured, so that this stays a small part of the time."""
    held_out = sum(sample.labels.size for sample in split.held_out)
    trained = len(train_set) * train_set.patch_size**2
    return max(1, math.ceil(held_out * _FORWARD_COST / (trained * _VALIDATION_SHARE)))


def _chosen_network(run: TrainingRun, split: Split, limits: SizeLimits, progress: Progress) -> CondensateNet:
    """Return the best epoch's network, or the last one where nothing was held out.

    Its best probability threshold t is moved to the default one: adding logit(0.15) - logit(t) to the mask head's bias
    turns "p > t" into "p > 0.15".
    """
    network, threshold = run.average, run.best_threshold
    if run.best_weights:
        network.load_state_dict(run.best_weights)
    else:
        run.best_epoch = len(run.history)
        _, threshold = best_threshold(network, split.train, limits, progress.check_stop)
    with torch.no_grad():
        network.get_parameter("mask_head.bias").add_(_logit(PROB_THRESHOLD) - _logit(threshold))
    return network.eval()


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _identify(settings: TrainingSettings, dataset: CondensateNetDataset, network: CondensateNet) -> dict[str, Any]:
    """Return what a run must have in common with the one that it resumes."""
    digest = hashlib.sha256()
    for sample in dataset.samples:
        digest.update(np.ascontiguousarray(sample.image).data)
        digest.update(np.ascontiguousarray(sample.labels).data)
        digest.update(repr(sample.group).encode())
    return {
        **asdict(settings),
        "patch_size": dataset.patch_size,
        "augment": dataset.augment,
        "images and labels": digest.hexdigest(),
        "start model": weights_checksum(network),
    }


def _resume(run: TrainingRun, directory: Path, identity: dict[str, Any]) -> None:
    state = read_checkpoint(directory, str(next(run.network.parameters()).device))
    if state is None:
        return
    different = sorted(name for name in identity if identity[name] != state["identity"].get(name))
    if different:
        raise TrainingError(
            f"the unfinished run in {directory} differs in {', '.join(different)}; "
            "use the same settings and data, or start again without resuming"
        )
    run.restore(state)


def _explain_loss(epoch: int, run: TrainingRun) -> str:
    if not run.history:
        raise TrainingError("the loss became infinite or NaN in the first epoch; use a smaller learning rate")
    kept = run.best_epoch or len(run.history)
    return (
        f"the loss became infinite or NaN in epoch {epoch}; the model of epoch {kept} was kept; "
        "use a smaller learning rate"
    )
