"""How many annotations are enough: train with more and more fully annotated regions, report on groups never trained on.

    .venv/bin/python benchmarks/annotation_count.py nuclei --data ../shared/data

A region is a square cut from an image of the training groups, in which everything is annotated, as in the tool.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from accuracy import SETS, Pair, evaluate, read_groups
from condensatenet import CondensateNetPipeline
from condensatenet.files.pretrained import SHIPPED_MODEL
from condensatenet.inference.normalize import intensity_range
from condensatenet.training import prepare_training_data, train_model
from measuring import describe_machine, print_table

REGION_SIDE = 160
SIZES = {"min_size": 15, "max_size": 5000}  # the same for all, as a user sets them once for the images


def draw_regions(pairs: list[Pair], annotations: int, rng: np.random.Generator) -> list[tuple[int, slice, slice]]:
    """Return (image, rows, columns) of regions at random places that hold at least so many annotations together."""
    regions: list[tuple[int, slice, slice]] = []
    found = 0
    while found < annotations:
        number = int(rng.integers(len(pairs)))
        labels = pairs[number][1]
        top, left = (int(rng.integers(max(1, side - REGION_SIDE + 1))) for side in labels.shape)
        part = np.s_[top : top + REGION_SIDE], np.s_[left : left + REGION_SIDE]
        count = len(np.unique(labels[part])) - 1
        if count > 0:
            regions.append((number, *part))
            found += count
    return regions


def main() -> None:
    """Train once per number of annotations, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("set", choices=SETS, help="which images")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="directory that holds the image sets")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 25, 50, 100, 200, 400], metavar="NUMBER")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    image_set = SETS[arguments.set]
    groups = read_groups(image_set, arguments.data)
    pairs = [pair for group in image_set.train_groups for pair in groups.pop(group).values()]
    unseen = {name: pair for group in groups.values() for name, pair in group.items()}
    ranges = [intensity_range(image) for image, _ in pairs]
    rows = []
    for count in arguments.counts:
        regions = draw_regions(pairs, count, np.random.default_rng(arguments.seed))
        images, labels = ([pairs[number][kind][part] for number, part in map(_indexed, regions)] for kind in (0, 1))
        annotations = sum(len(np.unique(mask)) - 1 for mask in labels)
        dataset = prepare_training_data(images, labels, intensity_ranges=[ranges[number] for number, *_ in regions])
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            model = train_model(
                dataset,
                SHIPPED_MODEL,
                Path(folder) / "model",
                epochs=arguments.epochs,
                learning_rate=arguments.learning_rate,
                random_seed=arguments.seed,
            )
            minutes = (time.monotonic() - began) / 60
            pipelines = [CondensateNetPipeline.from_local(path) for path in (SHIPPED_MODEL, model)]
        scores = [evaluate(pipeline, unseen, **SIZES) for pipeline in pipelines]
        cells = [f"{score.ap(threshold):.3f}" for threshold in (0.5, 0.75) for score in scores]
        rows.append([annotations, len(regions), *cells, f"{minutes:.1f}"])
        print(*rows[-1], flush=True)
    print(f"\n{arguments.set}: {len(unseen)} unseen images ({describe_machine()})")
    columns = [f"AP@{threshold} {when}" for threshold in ("0.5", "0.75") for when in ("before", "after")]
    print_table(["annotations", "regions", *columns, "minutes"], rows)


def _indexed(region: tuple[int, slice, slice]) -> tuple[int, tuple[slice, slice]]:
    number, rows, columns = region
    return number, (rows, columns)


if __name__ == "__main__":
    main()
