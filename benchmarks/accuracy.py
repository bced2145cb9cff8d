"""Accuracy on real images: train on some groups of a set of annotated images, report on the others, before and after.

    .venv/bin/python benchmarks/accuracy.py nuclei --data ../shared/data --output results/dsb
    .venv/bin/python benchmarks/accuracy.py nucleoli --data ../shared/data --output results/nucleoli --train-groups A

With --export the chosen groups are written as the folders images and labels instead, for the plain command line:

    .venv/bin/python benchmarks/accuracy.py nuclei --data ../shared/data --output results/dsb --export
    .venv/bin/condensatenet train --images results/dsb/images --labels results/dsb/labels --output results/dsb/model
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from tqdm import tqdm

from condensatenet import CondensateNetPipeline
from condensatenet.evaluation import Evaluation, evaluate_instances
from condensatenet.files.images import pair_images_with_labels, read_image, read_labels, write_labels
from condensatenet.files.pretrained import SHIPPED_MODEL
from condensatenet.training import prepare_training_data, train_model
from measuring import describe_machine, print_table

THRESHOLDS = (0.5, 0.75)
Pair = tuple[NDArray[Any], NDArray[np.int32]]


@dataclass(frozen=True)
class ImageSet:
    """A folder with images, labels and metadata.csv, and how it is used.

    Attributes:
        folder: its name within the data directory.
        group_column: column of metadata.csv that says which images belong together.
        train_groups: groups that are trained on by default.
        half_size: measured after halving, because the structures are larger than condensates.
        epochs, learning_rate, batch_size, patch_size: of the training, by default.
    """

    folder: str
    group_column: str
    train_groups: tuple[str, ...]
    half_size: bool
    epochs: int
    learning_rate: float
    batch_size: int
    patch_size: int


SETS = {
    "nuclei": ImageSet("nuclei_dsb2018", "group", ("g256", "g512x640", "g520x348"), False, 100, 1e-3, 4, 256),
    "nucleoli": ImageSet("nucleoli_npm1", "overlap_group", ("C",), True, 100, 1e-3, 4, 256),
}


def read_groups(image_set: ImageSet, data: Path) -> dict[str, dict[str, Pair]]:
    """Return for each group its images and label masks by name."""
    folder = data / image_set.folder
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        group_of = {row["id"]: row[image_set.group_column] for row in csv.DictReader(file)}
    groups: dict[str, dict[str, Pair]] = defaultdict(dict)
    for image_path, labels_path in pair_images_with_labels(folder / "images", folder / "labels"):
        pair = read_image(image_path), read_labels(labels_path)
        groups[group_of[image_path.stem]][image_path.stem] = halve(*pair) if image_set.half_size else pair
    return dict(sorted(groups.items()))


def halve(image: NDArray[Any], labels: NDArray[np.int32]) -> Pair:
    """Return the means of 2 x 2 pixels, and every other label."""
    height, width = (side // 2 * 2 for side in image.shape)
    blocks = image[:height, :width].reshape(height // 2, 2, width // 2, 2)
    return blocks.mean((1, 3), dtype=np.float32), labels[:height:2, :width:2]


def export(pairs: dict[str, Pair], output: Path) -> None:
    """Write pairs as TIFF into the folders images and labels."""
    for place in ("images", "labels"):
        (output / place).mkdir(parents=True, exist_ok=True)
    for name, (image, labels) in pairs.items():
        tifffile.imwrite(output / "images" / f"{name}.tif", image, compression="zlib", photometric="minisblack")
        write_labels(output / "labels" / f"{name}.tif", labels)
    print(f"{len(pairs)} pairs in {output / 'images'} and {output / 'labels'}")


def train(pairs: dict[str, Pair], model: Path, arguments: argparse.Namespace) -> None:
    """Train from the start model under a progress bar."""
    images, labels = zip(*pairs.values(), strict=True)
    dataset = prepare_training_data(images, labels, arguments.patch_size, random_seed=arguments.seed)
    with tqdm(total=1.0, bar_format="{percentage:3.0f}% {elapsed} {desc}") as bar:

        def show(fraction: float, message: str) -> None:
            bar.n = fraction
            bar.set_description_str(message)

        train_model(
            dataset,
            arguments.start_model,
            model,
            epochs=arguments.epochs,
            learning_rate=arguments.learning_rate,
            batch_size=arguments.batch_size,
            random_seed=arguments.seed,
            device=arguments.device,
            progress_callback=show,
        )


def evaluate(pipeline: CondensateNetPipeline, pairs: dict[str, Pair], **options: Any) -> Evaluation:
    """Segment and compare."""
    predictions = [pipeline.segment(image, **options) for image, _ in pairs.values()]
    return evaluate_instances([labels for _, labels in pairs.values()], predictions, THRESHOLDS)


def main() -> None:
    """Export, or train and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("set", choices=SETS, help="which images")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="directory that holds the image sets")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets the model and results.json")
    parser.add_argument("--train-groups", nargs="+", metavar="GROUP", help="groups to train on, or 'all'")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--patch-size", type=int)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best one there is)")
    parser.add_argument(
        "--start-model", type=Path, default=SHIPPED_MODEL, metavar="DIR", help="default: the one that ships"
    )
    parser.add_argument("--export", action="store_true", help="only write the training groups as images and labels")
    arguments = parser.parse_args()
    image_set = SETS[arguments.set]
    for name in ("train_groups", "epochs", "learning_rate", "batch_size", "patch_size"):
        if getattr(arguments, name) is None:
            setattr(arguments, name, getattr(image_set, name))

    groups = read_groups(image_set, arguments.data)
    trained = list(groups) if arguments.train_groups == ["all"] else arguments.train_groups
    if unknown := sorted(set(trained) - groups.keys()):
        parser.error(f"there is no group {unknown[0]}; there are {', '.join(groups)}")
    training_pairs = {name: pair for group in trained for name, pair in groups[group].items()}
    if arguments.export:
        export(training_pairs, arguments.output)
        return

    began = time.monotonic()
    train(training_pairs, arguments.output / "model", arguments)
    minutes = (time.monotonic() - began) / 60
    after = CondensateNetPipeline.from_local(arguments.output / "model", arguments.device)
    before = CondensateNetPipeline.from_local(arguments.start_model, arguments.device)
    # The start model gets the sizes that the new one learnt from the annotations, so that only the networks differ.
    sizes = {"min_size": after.settings.min_size, "max_size": after.settings.max_size}
    rows, results = [], []
    for group, pairs in groups.items():
        scores = {"before": evaluate(before, pairs, **sizes), "after": evaluate(after, pairs)}
        used = "trained on" if group in trained else "unseen"
        cells = [f"{scores[when].ap(threshold):.3f}" for threshold in THRESHOLDS for when in scores]
        rows.append([group, used, len(pairs), scores["after"].n_truth, *cells])
        results.append({"group": group, "used": used, **{when: score.as_dict() for when, score in scores.items()}})
    settings = {
        name: getattr(arguments, name) for name in ("epochs", "learning_rate", "batch_size", "patch_size", "seed")
    }
    figures = {"set": arguments.set, "settings": settings, "training minutes": minutes, "groups": results}
    (arguments.output / "results.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    chosen = ", ".join(f"{name} {value:g}" for name, value in settings.items())
    print(f"{arguments.set} on {after.device} ({describe_machine()})\n{chosen}; trained in {minutes:.1f} minutes\n")
    columns = [f"AP@{threshold} {when}" for threshold in THRESHOLDS for when in ("before", "after")]
    print_table(["group", "", "images", "instances", *columns], rows)


if __name__ == "__main__":
    main()
