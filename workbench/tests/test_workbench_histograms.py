"""Histograms and bands of images over HTTP, against those of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import workbench_image_examples
from workbench_image_examples import HEIGHT, STACK, WIDTH, smooth
from workbench_image_server import ImageServer

item = workbench_image_examples.item


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_histograms(server: ImageServer, tmp_path: Path, dtype: str) -> None:
    stack = (smooth(3, 1100, 60) / (300 if dtype == "uint8" else 1)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata={"axes": "TYX"})
    path = f"item/{server.load(tmp_path / 'a.tif')}/tiles/histogram"
    for frame, plane in enumerate(stack):
        (entry,) = server.get(path, frame=frame)
        low, high = float(plane.min()), float(plane.max())
        counts, edges = np.histogram(plane, 256, (low, high + 1))
        assert (entry["min"], entry["max"], entry["range"]) == (low, high, [low, high + 1])
        assert (entry["bins"], entry["samples"], entry["density"]) == (256, plane.size, False)
        assert (entry["hist"], entry["bin_edges"]) == (counts.tolist(), edges.tolist())
        values = plane.astype(float)
        assert (entry["mean"], entry["stdev"]) == pytest.approx((values.mean(), values.std()), rel=1e-6)


def test_one_bin_for_each_grey_value(server: ImageServer, item: str) -> None:
    path = f"item/{item}/tiles/histogram"
    query = {"frame": 4, "bins": 65536, "rangeMin": 0, "rangeMax": 65536}
    (entry,) = server.get(path, **query, width=WIDTH, height=HEIGHT)
    assert entry["hist"] == np.bincount(STACK[1, 1].ravel(), minlength=65536).tolist()
    (entry,) = server.get(path, **query, left=10, right=60, top=-5)
    assert entry["hist"] == np.bincount(STACK[1, 1, -5:, 10:60].ravel(), minlength=65536).tolist()


def test_ranges_of_histograms(server: ImageServer, item: str) -> None:
    path = f"item/{item}/tiles/histogram"
    plane = STACK[0, 0]
    (entry,) = server.get(path, rangeMax=4000, bins=3)  # the platform's defaults are 0 and 256
    assert (entry["range"], entry["hist"]) == ([0, 4000], np.histogram(plane, 3, (0, 4000))[0].tolist())
    (entry,) = server.get(path, rangeMin=-50, bins=7)
    assert (entry["range"], entry["samples"]) == ([-50, 256], np.count_nonzero(plane <= 256))
    (entry,) = server.get(path, roundRange="true", bins=10000)
    low, high = int(plane.min()), int(plane.max())
    step = -(-(high + 1 - low) // 10000)
    bins = -(-(high + 1 - low) // step)
    assert (entry["bins"], entry["range"]) == (bins, [low, low + bins * step])
    assert entry["hist"] == np.histogram(plane, bins, (low, low + bins * step))[0].tolist()
    (entry,) = server.get(path, density="true", bins=5)
    assert sum(entry["hist"]) == pytest.approx(1) and entry["density"] is True


@pytest.mark.parametrize(
    "query",
    [
        {"bins": 0},
        {"bins": 10**9},
        {"bins": "many"},
        {"rangeMin": "1.5"},
        {"rangeMin": 9, "rangeMax": 3},
        {"left": 900},
        {"frame": 6},
        {"width": -1},
        {"style": "[]"},
    ],
)
def test_bad_histograms(server: ImageServer, item: str, query: dict[str, Any]) -> None:
    server.error(f"item/{item}/tiles/histogram", **query)


def test_bands_are_those_of_the_frame(server: ImageServer, item: str) -> None:
    for frame in (4, 0):
        plane = STACK[divmod(frame, 3)].astype(float)
        bands = server.get(f"item/{item}/tiles/bands", frame=frame)
        expected = {"min": plane.min(), "max": plane.max(), "mean": plane.mean(), "stdev": plane.std()}
        assert bands == {"1": {"interpretation": "gray"} | {key: pytest.approx(v) for key, v in expected.items()}}
    server.error(f"item/{item}/tiles/bands", frame=6)
