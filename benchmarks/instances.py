"""Speed and accuracy of `flow_to_instances`, both groupings, against a plain reading of the original's description.

.venv/bin/python benchmarks/instances.py [--size 1024] [--count 900] [--rounds 7]
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from numpy.typing import NDArray

from condensatenet import flow_to_instances
from condensatenet.evaluation import evaluate_instances
from condensatenet.training import labels_to_flows
from measuring import describe_machine, draw_ellipses, interleave, milliseconds, print_table

NOISE_LEVELS = (0.08, 0.3)  # standard deviation added to each component of the unit flows


def plain_flow_to_instances(
    mask_probs: NDArray[np.float32],
    flows: NDArray[np.float32],
    prob_threshold: float = 0.15,
    min_size: int = 15,
    max_size: int = 600,
    flow_steps: int = 200,
    step_scale: float = 0.1,
) -> NDArray[np.int32]:
    """Move every foreground pixel step by step, group equal end points in a dictionary, renumber label by label."""
    height, width = mask_probs.shape
    rows, columns = np.nonzero(mask_probs > prob_threshold)
    y, x = rows.astype(np.float32), columns.astype(np.float32)
    for _ in range(flow_steps):
        dy, dx = flows[:, y.astype(int), x.astype(int)]
        factor = np.clip(step_scale / (np.sqrt(dy**2 + dx**2) + 1e-6), 0.1, 1.0)
        y = np.clip(y + dy * factor, 0, height - 1)
        x = np.clip(x + dx * factor, 0, width - 1)
    labels = np.zeros((height, width), np.int32)
    label_of_end: dict[tuple[int, int], int] = {}
    for row, column, end_row, end_column in zip(
        rows, columns, np.round(y).astype(int), np.round(x).astype(int), strict=True
    ):
        labels[row, column] = label_of_end.setdefault((end_row, end_column), len(label_of_end) + 1)
    kept = 0
    for label in range(1, len(label_of_end) + 1):
        mask = labels == label
        size = mask.sum()
        if size < min_size or size > max_size:
            labels[mask] = 0
        else:
            kept += 1
            labels[mask] = kept
    return labels


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024, help="side of the frame in pixels")
    parser.add_argument("--count", type=int, default=900, help="instances in the frame")
    parser.add_argument("--rounds", type=int, default=7, help="turns that each function takes")
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    truth = draw_ellipses((arguments.size, arguments.size), arguments.count, rng)
    unit_flows = labels_to_flows(truth)
    mask_probs = np.where(truth > 0, np.float32(0.9), np.float32(0.02))
    speeds, accuracies = [], []
    for noise in NOISE_LEVELS:
        flows = unit_flows + rng.normal(0, noise, unit_flows.shape).astype(np.float32)
        runs = {
            "plain": partial(plain_flow_to_instances, mask_probs, flows),
            "exact": partial(flow_to_instances, mask_probs, flows, grouping="exact"),
            "merged": partial(flow_to_instances, mask_probs, flows, grouping="merged"),
        }
        labels = {name: run() for name, run in runs.items()}
        different = np.count_nonzero(labels["plain"] != labels["exact"])
        seconds = interleave(runs, arguments.rounds)
        ap = {name: evaluate_instances([truth], [labels[name]], [0.5]).ap(0.5) for name in runs}
        for name, aim in (("exact", 20), ("merged", 60)):
            times = [milliseconds(seconds["plain"]), milliseconds(seconds[name])]
            speeds.append([f"{name}, noise {noise}", *times, f"{seconds['plain'] / seconds[name]:.1f}", aim])
        accuracies.append(
            [noise, f"{ap['exact']:.3f}", f"{ap['merged']:.3f}", f"{ap['merged'] - ap['exact']:+.3f}", different]
        )
    title = f"flow_to_instances, {arguments.size} x {arguments.size} pixels, {truth.max()} instances"
    print(f"{title} ({describe_machine()})\n")
    print_table(["what", "reference", "ours", "ratio", "aim"], speeds)
    print_table(
        ["noise", "AP@0.5 exact", "AP@0.5 merged", "merged - exact", "pixels where exact differs from the reference"],
        accuracies,
        "aims: merged at least 0.05 above exact on noisy flows; no pixel different",
    )


if __name__ == "__main__":
    main()
