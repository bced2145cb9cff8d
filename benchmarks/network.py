"""Speed of the network: without the unused last encoder stage and with it, and of training against a plain loop.

.venv/bin/python benchmarks/network.py [--rounds 9] [--training-rounds 2] [--networks full small]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from condensatenet.network.model import CondensateNet
from condensatenet.network.variants import SMALL_NETWORK, NetworkConfig
from condensatenet.training import CondensateNetDataset, CondensateNetLoss, labels_to_binary_mask, labels_to_flows
from condensatenet.training.loop import _batches  # the loop's own look-ahead is part of what is measured
from condensatenet.training.run import Batch, TrainingRun
from condensatenet.training.settings import TrainingSettings
from measuring import describe_machine, draw_ellipses, interleave, milliseconds, print_table

NETWORKS = {"full": NetworkConfig(), "small": SMALL_NETWORK}
SIZES = (256, 512)
BATCH_SIZE = 4
PATCH_SIZE = 256
STEPS = 8  # per turn


def build(config: NetworkConfig) -> CondensateNet:
    """Return an untrained network; its speed is that of a trained one."""
    torch.manual_seed(0)
    return CondensateNet(config).eval()


def with_unused_stage(config: NetworkConfig) -> CondensateNet:
    """Return the network that also computes the last encoder stage, as the original does, though nothing uses it."""
    network = build(config)
    encoder = network.encoder.base_encoder
    last_used, unused = encoder.blocks[-2], encoder.blocks[-1]

    def compute_unused(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        unused(output)

    last_used.register_forward_hook(compute_unused)
    return network


def forward(network: CondensateNet, size: int) -> Callable[[], object]:
    """Return a function that computes one frame of size x size pixels."""
    image = torch.rand(1, 1, size, size).contiguous(memory_format=torch.channels_last)

    def run() -> object:
        with torch.inference_mode():
            return network(image)

    return run


def our_training(config: NetworkConfig, image: NDArray[np.float32], labels: NDArray[np.int32]) -> Callable[[], object]:
    """Return a function that trains `STEPS` steps as `train_model` does."""
    settings = TrainingSettings(batch_size=BATCH_SIZE)
    run = TrainingRun.start(build(config), settings)
    dataset = CondensateNetDataset([image], [labels], PATCH_SIZE)
    criterion = CondensateNetLoss()
    assert len(dataset) == STEPS * BATCH_SIZE
    run.begin_epoch(BATCH_SIZE)

    def train() -> None:
        with ThreadPoolExecutor(max_workers=1) as pool:
            for step, batch in enumerate(_batches(dataset, settings, 1, pool)):
                run.step(criterion, batch, settings.learning_rate)
                run.update_average(step)

    return train


def plain_training(
    config: NetworkConfig, image: NDArray[np.float32], labels: NDArray[np.int32]
) -> Callable[[], object]:
    """Return a function that trains `STEPS` steps one after the other: cut, compute targets, forward, backward."""
    network = build(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    criterion = CondensateNetLoss()
    rng = np.random.default_rng(0)

    def cut() -> Batch:
        top, left = (int(rng.integers(side - PATCH_SIZE + 1)) for side in image.shape)
        part = slice(top, top + PATCH_SIZE), slice(left, left + PATCH_SIZE)
        turns = int(rng.integers(4))
        part_labels = np.rot90(labels[part], turns)
        return (
            torch.from_numpy(np.rot90(image[part], turns).copy()[None]),
            torch.from_numpy(labels_to_binary_mask(part_labels)[None]),
            torch.from_numpy(labels_to_flows(part_labels)),
        )

    def train() -> None:
        for _ in range(STEPS):
            images, masks, flows = (
                torch.stack(tensors) for tensors in zip(*(cut() for _ in range(BATCH_SIZE)), strict=True)
            )
            loss = criterion(network(images), masks, flows).total
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()

    return train


def measure_forward(names: list[str], rounds: int) -> None:
    """Print the forward table."""
    rows = []
    for size in SIZES:
        runs = {name: forward(build(NETWORKS[name]), size) for name in names}
        if "full" in names:
            runs["plain"] = forward(with_unused_stage(NETWORKS["full"]), size)
        seconds = interleave(runs, rounds)
        for name in names:
            row = [f"{name} network, 1 x {size} x {size}", "-", milliseconds(seconds[name]), "-", "-"]
            if name == "full":
                row[1] = milliseconds(seconds["plain"])
                row[3:] = [f"{seconds['plain'] / seconds['full']:.2f}", "1.1"]
            rows.append(row)
    print_table(
        ["forward", "reference", "ours", "ratio", "aim"],
        rows,
        "reference: the same network with the unused last encoder stage computed; the small network has no such stage",
    )


def measure_training(names: list[str], rounds: int) -> None:
    """Print the training table."""
    rng = np.random.default_rng(0)
    labels = draw_ellipses((2 * PATCH_SIZE, 2 * PATCH_SIZE), 220, rng)
    image = (np.where(labels > 0, 0.7, 0.2) + rng.normal(0, 0.05, labels.shape)).astype(np.float32)
    rows = []
    for name in names:
        runs = {
            "plain": plain_training(NETWORKS[name], image, labels),
            "ours": our_training(NETWORKS[name], image, labels),
        }
        seconds = interleave(runs, rounds)
        speed = {kind: f"{STEPS / seconds[kind]:.2f}" for kind in runs}
        rows.append([f"{name} network", speed["plain"], speed["ours"], f"{seconds['plain'] / seconds['ours']:.2f}"])
    print_table(
        [f"training steps per second, {BATCH_SIZE} x {PATCH_SIZE} x {PATCH_SIZE}", "reference", "ours", "ratio"],
        rows,
        "reference: a plain loop with flow targets computed per crop (by our fast labels_to_flows), no look-ahead, the",
        "default memory layout, quarter turns as only augmentation, and no running average of the weights",
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9, help="turns that each network takes")
    parser.add_argument(
        "--training-rounds", type=int, default=2, help=f"turns of {STEPS} steps that each training loop takes"
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="which to measure")
    arguments = parser.parse_args()
    print(f"network ({describe_machine()})\n")
    measure_forward(arguments.networks, arguments.rounds)
    measure_training(arguments.networks, arguments.training_rounds)


if __name__ == "__main__":
    main()
