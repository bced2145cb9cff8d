"""Whether the tile size matters: AP@0.5 between instances found in tiles and in the whole frame.

    .venv/bin/python benchmarks/tile_agreement.py [--model DIR] [--image FILE ...] [--frames 8] [--size 1024]

Real images are measured where they lie: ../shared/data/dense_nuclei_deeptile/sample.tif, or what --image names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from condensatenet import CondensateNetPipeline, simulate_dataset
from condensatenet.evaluation import evaluate_instances
from condensatenet.files.images import read_image
from condensatenet.files.pretrained import SHIPPED_MODEL
from measuring import describe_machine, print_table

TILE_SIZES = (256, 512)
DENSE_NUCLEI = Path(__file__).resolve().parents[2] / "shared" / "data" / "dense_nuclei_deeptile" / "sample.tif"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=SHIPPED_MODEL, help="model directory (default: the one that ships)")
    parser.add_argument(
        "--image", type=Path, nargs="+", help="real images (default: the dense nuclei, if they are there)"
    )
    parser.add_argument("--frames", type=int, default=8, help="number of simulated frames")
    parser.add_argument("--size", type=int, default=1024, help="side of a simulated frame in pixels")
    arguments = parser.parse_args()
    paths = arguments.image or [path for path in [DENSE_NUCLEI] if path.is_file()]

    pipeline = CondensateNetPipeline.from_local(arguments.model)
    rows = [compare(pipeline, f"{path.parent.name}/{path.name}", [read_image(path)]) for path in paths]
    shape = (arguments.size, arguments.size)
    simulated = [image for image, _ in simulate_dataset(arguments.frames, shape, seed=7)]
    rows += [compare(pipeline, f"simulated {number}", [image]) for number, image in enumerate(simulated, start=1)]
    rows.append(compare(pipeline, "simulated, all", simulated))
    print(f"agreement of tiled with whole frames on {pipeline.device} ({describe_machine()})\n")
    sizes = [f"tiles of {size}" for size in TILE_SIZES]
    header = ["frame", "instances whole", *sizes, *(f"AP@0.5, {size}" for size in sizes)]
    print_table(header, rows, "aim: AP@0.5 above 0.95")


def compare(pipeline: CondensateNetPipeline, name: str, images: Sequence[NDArray[Any]]) -> list[object]:
    """Return a row of the table: numbers of instances, then AP@0.5 of each tile size with the whole frames as truth."""
    whole = [pipeline.segment(image, tile_size=None) for image in images]
    counts, agreements = [], []
    for tile_size in TILE_SIZES:
        scores = evaluate_instances(whole, [pipeline.segment(image, tile_size=tile_size) for image in images], [0.5])
        counts.append(scores.n_predicted)
        agreements.append(f"{scores.ap(0.5):.3f}")
    return [name, scores.n_truth, *counts, *agreements]


if __name__ == "__main__":
    main()
