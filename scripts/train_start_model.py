"""Train the small model that ships with condensatenet, from nothing, on condensates that it simulates itself.

    .venv/bin/python scripts/train_start_model.py condensatenet/src/condensatenet/pretrained

An interrupted run goes on where it was when the command is given again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from condensatenet.files.model_directory import load_network, save_network
from condensatenet.network.model import CondensateNet
from condensatenet.network.variants import SMALL_NETWORK
from condensatenet.simulation import simulate_dataset
from condensatenet.training import prepare_training_data, train_model

FRAMES = 576
SEED = 2026


def main() -> None:
    """Train and write the model directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="model directory to write")
    output: Path = parser.parse_args().output

    images, label_masks = zip(*simulate_dataset(FRAMES, seed=SEED), strict=True)
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as untrained, tqdm(total=1.0, bar_format="{percentage:3.0f}% {desc}") as bar:
        save_network(untrained, CondensateNet(SMALL_NETWORK), {})

        def show(fraction: float, message: str) -> None:
            bar.n = fraction
            bar.set_description_str(message)

        train_model(
            prepare_training_data(images, label_masks),
            untrained,
            output,
            epochs=40,
            learning_rate=2e-3,
            batch_size=8,
            random_seed=SEED,
            progress_callback=show,
            resume=True,
        )
    # The frames also hold objects larger than condensates, to make a better teacher; the model keeps the usual sizes.
    network, config = load_network(output)
    save_network(
        output, network, {name: value for name, value in config.items() if name not in ("min_size", "max_size")}
    )


if __name__ == "__main__":
    main()
