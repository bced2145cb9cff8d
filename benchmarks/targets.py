"""Speed of `labels_to_flows` against the same heat diffusion done for one instance after the other.

.venv/bin/python benchmarks/targets.py [--size 1024] [--counts 600 900] [--rounds 7]
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from condensatenet.training import labels_to_flows
from measuring import describe_machine, draw_ellipses, interleave, milliseconds, print_table


def plain_labels_to_flows(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return unit flows (2, H, W): in each instance heat spreads from its centre pixel; the flow is its gradient."""
    flows = np.zeros((2, *labels.shape), np.float32)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        inside = np.pad(labels[box] == label, 1)
        rows, columns = np.nonzero(inside)
        centre = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        heat = np.zeros(inside.shape)
        for _ in range(2 * sum(side.stop - side.start + 1 for side in box)):
            heat[rows[centre], columns[centre]] += 1
            heat = ndimage.uniform_filter(heat, 3, mode="constant") * inside
        heat = np.log1p(heat)
        flow = np.stack(
            [heat[rows + 1, columns] - heat[rows - 1, columns], heat[rows, columns + 1] - heat[rows, columns - 1]]
        )
        flow /= np.maximum(np.hypot(*flow), 1e-20)
        flows[:, rows + box[0].start - 1, columns + box[1].start - 1] = flow
    return flows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024, help="side of the frame in pixels")
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[600, 900], help="instances in the frame, one row each"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns that each function takes")
    arguments = parser.parse_args()

    rows = []
    for count in arguments.counts:
        labels = draw_ellipses((arguments.size, arguments.size), count, np.random.default_rng(count))
        cosine = (plain_labels_to_flows(labels) * labels_to_flows(labels)).sum(0)[labels > 0].mean()
        runs = {"plain": partial(plain_labels_to_flows, labels), "ours": partial(labels_to_flows, labels)}
        seconds = interleave(runs, arguments.rounds)
        times = [
            milliseconds(seconds["plain"]),
            milliseconds(seconds["ours"]),
            f"{seconds['plain'] / seconds['ours']:.1f}",
        ]
        rows.append([f"{count} instances", *times, "3", f"{cosine:.4f}"])
    print(f"labels_to_flows, {arguments.size} x {arguments.size} pixels ({describe_machine()})\n")
    print_table(["what", "reference", "ours", "ratio", "aim", "mean cosine between the two"], rows)


if __name__ == "__main__":
    main()
