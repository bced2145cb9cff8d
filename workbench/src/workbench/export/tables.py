"""Objects as a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.export.objects import Object

COLUMNS = (
    "id",
    "tags",
    "channel",
    "channel_name",
    "XY",
    "Z",
    "Time",
    "label_file",
    "label",
    "area",
    "centroid_x",
    "centroid_y",
    "perimeter",
    "mean_intensity",
)


@dataclass(frozen=True, eq=False)
class Row:
    """An object with where it is in the label masks and how bright it is there; None if it is in none."""

    item: Object
    label_file: str | None = None
    label: int | None = None
    mean_intensity: float | None = None


def mean_intensities(labels: NDArray[np.int32], image: NDArray[Any], count: int) -> list[float | None]:
    """Give the mean value of an image (H, W) in the pixels of each label from 1 to `count`; None if it has none."""
    inside = labels > 0
    of_pixels = labels[inside]
    pixels = np.bincount(of_pixels, minlength=count + 1)[1:]
    sums = np.bincount(of_pixels, weights=image[inside], minlength=count + 1)[1:]
    return [float(total / number) if number else None for total, number in zip(sums, pixels, strict=True)]


def write_csv(path: Path, rows: Iterable[Row], channel_names: Sequence[str]) -> None:
    """Write a table with a line for each object.

    Channels and positions are counted from 1, as in the user interface. Area, centroid and perimeter are those of the
    outline, in pixels; the mean intensity is that of its own channel in the pixels of its label.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            item, geometry = row.item, row.item.geometry
            assert geometry is not None
            measures = [geometry.area, geometry.centroid.x, geometry.centroid.y, geometry.length]
            if not item.is_area:
                measures[0] = measures[3] = None
            writer.writerow(
                [
                    item.id,
                    "; ".join(item.tags),
                    item.channel + 1,
                    channel_names[item.channel] if 0 <= item.channel < len(channel_names) else "",
                    *(place + 1 for place in item.location),
                    row.label_file,
                    row.label,
                    *(None if value is None else f"{value:.6g}" for value in (*measures, row.mean_intensity)),
                ]
            )
