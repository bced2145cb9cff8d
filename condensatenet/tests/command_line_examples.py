"""What the tests of the command line share: images, label masks, and processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from condensatenet import CondensateNetPipeline, simulate_frame

ALL_SIZES = ["--min-size", "1", "--max-size", "100000"]


@pytest.fixture(scope="module")
def pipeline(model_path: Path) -> CondensateNetPipeline:
    return CondensateNetPipeline.from_local(model_path, "cpu", min_size=1, max_size=100_000)


def frame(seed: int = 2, shape: tuple[int, int] = (64, 96)) -> NDArray[np.uint16]:
    return simulate_frame(shape, rng=np.random.default_rng(seed), bit_depth=16)[0]


def write_image(path: Path, image: NDArray[np.uint16]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image)
    return path


def squares(*corners: tuple[int, int], side: int = 10) -> NDArray[np.int32]:
    """A label mask with a square at each corner (y, x)."""
    labels = np.zeros((64, 96), np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
