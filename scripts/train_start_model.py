"""Train the small model that ships with condensatenet, from nothing, on condensates that condensatenet simulates itself.

    .venv/bin/python scripts/train_start_model.py OUTPUT_DIRECTORY

takes about 45 minutes on two cores. A run that was interrupted goes on where it was when the command is given again.
"""

from __future__ import annotations

import sys
import tempfile

import torch
from tqdm import tqdm

from condensatenet.files.model_directory import save_network
from condensatenet.network.model import CondensateNet
from condensatenet.network.variants import SMALL_NETWORK
from condensatenet.simulation import simulate_dataset
from condensatenet.training import prepare_training_data, train_model

FRAMES = 576
SEED = 2026


def main(output: str) -> None:
    """Train and write the model directory."""
    frames = list(simulate_dataset(FRAMES, seed=SEED))
    dataset = prepare_training_data([image for image, _ in frames], [labels for _, labels in frames])
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as untrained, tqdm(total=1.0, bar_format="{percentage:3.0f}% {desc}") as bar:
        save_network(untrained, CondensateNet(SMALL_NETWORK), {})

        def show(fraction: float, message: str) -> None:
            bar.n = fraction
            bar.set_description_str(message)

        train_model(
            dataset, untrained, output, epochs=40, learning_rate=2e-3, batch_size=8, random_seed=SEED, progress_callback=show, resume=True
        )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
