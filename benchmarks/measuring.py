"""What the benchmarks share: interleaved timing, plain tables, the machine's description, and simulated label masks."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_SECONDS_PER_TURN = 0.2


def interleave(runs: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """Return the median seconds of one call of each function.

    The functions take turns, so that what else happens on the machine meets all of them alike; quick ones are called
    several times in a turn. One call of each goes first and does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            turn_began = time.perf_counter()
            while time.perf_counter() - turn_began < _SECONDS_PER_TURN:
                began = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]], *notes: str) -> None:
    """Print rows under a header: the first column left-aligned, the others right-aligned."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells).rstrip())
    for note in notes:
        print(note)
    print()


def milliseconds(seconds: float) -> str:
    """Return a time for a table."""
    return f"{seconds * 1e3:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"


def describe_machine() -> str:
    """Return what the figures depend on: processor, cores that this process may use, versions and torch's threads."""
    import scipy
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}, torch {torch.__version__} with {torch.get_num_threads()} threads"
    )


def draw_ellipses(
    shape: tuple[int, int], count: int, rng: np.random.Generator, radii: tuple[float, float] = (3.0, 9.0)
) -> NDArray[np.int32]:
    """Return a label mask (H, W) of `count` ellipses with semi-axes within `radii`; they may touch, not overlap."""
    labels = np.zeros(shape, np.int32)
    reach = int(np.ceil(radii[1]))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    placed = 0
    while placed < count:
        long, short = rng.uniform(*radii, 2)
        angle = rng.uniform(0, np.pi)
        along, across = dy * np.sin(angle) + dx * np.cos(angle), dy * np.cos(angle) - dx * np.sin(angle)
        inside = (along / long) ** 2 + (across / short) ** 2 <= 1
        top, left = (int(rng.integers(side - 2 * reach)) for side in shape)
        patch = labels[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
        if not patch[inside].any():
            placed += 1
            patch[inside] = placed
    return labels
