"""What the main job works on: frames whose instances are all known, a part of which plays what a user annotated."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from condensatenet.files.images import read_labels
from condensatenet.simulation import simulate_dataset
from nuclei_sample import fetch_nuclei_sample

Location = tuple[int, int, int]
"""(XY, Z, Time), from 0."""

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels; right and bottom are not part of it."""


@dataclass(frozen=True)
class Sample:
    """Frames and their true instances.

    Attributes:
        name: of the dataset.
        files: the images to import; several are XY positions.
        channel: the channel that shows the instances, from 0.
        truths: label masks (H, W) int32 of all positions.
        regions: the part of some positions that was annotated and is trained on.
        training: fields of the training tool that differ from its defaults.
        prediction: fields of the segmentation tool that differ from its defaults.
    """

    name: str
    files: list[Path]
    channel: int
    truths: dict[Location, NDArray[np.int32]]
    regions: dict[Location, Box]
    training: dict[str, Any] = field(default_factory=dict)
    prediction: dict[str, Any] = field(default_factory=dict)

    def unseen(self, location: Location) -> NDArray[np.int32]:
        """Return a position's label mask with -1 on everything that training saw, instances across its border too."""
        labels = self.truths[location].copy()
        if location in self.regions:
            left, top, right, bottom = self.regions[location]
            seen = labels[top:bottom, left:right]
            labels[np.isin(labels, seen[seen > 0])] = -1
            labels[top:bottom, left:right] = -1
        return labels


def nuclei(cache: Path) -> Sample:
    """Return the real, hand-labelled nuclei: 125 of them, 512x512 px; the left 320 columns are annotated."""
    image, labels = fetch_nuclei_sample(cache)
    return Sample(
        name="Nuclei",
        files=[image],
        channel=0,
        truths={(0, 0, 0): read_labels(labels)},
        regions={(0, 0, 0): (0, 0, 320, 512)},
        training={"Epochs": 40, "Learning Rate": 0.001},
        prediction={"Max Size": 5000},
    )


def simulated(cache: Path) -> Sample:
    """Return simulated condensates: 3 XY positions, each with 2 channels, 2 Z slices and 2 time points, 256x256 px.

    The second channel shows the condensates, the first one only noise. They are dark on a bright background, which the
    shipped model has never seen. All of the first XY position is annotated.
    """
    positions, slices, times, side = 3, 2, 2, 256
    frames = list(simulate_dataset(positions * slices * times, (side, side), seed=11))
    rng = np.random.default_rng(0)
    files, truths = [], {}
    cache.mkdir(parents=True, exist_ok=True)
    for xy in range(positions):
        stack = rng.integers(100, 140, (times, slices, 2, side, side), dtype=np.uint16)
        for time in range(times):
            for z in range(slices):
                image, truths[xy, z, time] = frames[(xy * times + time) * slices + z]
                stack[time, z, 1] = int(image.max()) - image
        files.append(cache / f"position_xy{xy + 1}.ome.tif")
        tifffile.imwrite(
            files[-1], stack, ome=True, metadata={"axes": "TZCYX", "Channel": {"Name": ["noise", "condensates"]}}
        )
    return Sample(
        name="Simulated condensates",
        files=files,
        channel=1,
        truths=truths,
        regions={location: (0, 0, side, side) for location in truths if location[0] == 0},
        training={"Epochs": 20, "Learning Rate": 0.001},
        prediction={"Batch XY": "all", "Batch Z": "all", "Batch Time": "all", "Max Size": 5000},
    )
