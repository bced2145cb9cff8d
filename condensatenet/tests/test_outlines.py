"""Outlines and tables of instances, checked against rasterio's fill and scikit-image's measurements."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.geometry import shape
from skimage.measure import regionprops_table

from condensatenet.errors import InvalidImageError, InvalidLabelsError
from condensatenet.files.outlines import write_geojson, write_properties_csv
from condensatenet.measurements import measure_instances

Labels = NDArray[np.int32]


def outlines(labels: NDArray[Any], folder: Path) -> list[dict[str, Any]]:
    write_geojson(folder / "outlines.geojson", labels)
    collection = json.loads((folder / "outlines.geojson").read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    features: list[dict[str, Any]] = collection["features"]
    return features


def fill(features: list[dict[str, Any]], shape: tuple[int, ...]) -> NDArray[Any]:
    filled: NDArray[Any] = np.zeros(shape, np.int32)
    if features:
        pairs = [(feature["geometry"], feature["properties"]["id"]) for feature in features]
        filled = rasterize(pairs, out_shape=shape, dtype="int32")
    return filled


def blobs(seed: int, size: int = 96) -> Labels:
    """Overlapping discs and rings, cut by the borders; later ones bite into earlier ones."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size + 7), np.int32)
    y, x = np.indices(labels.shape)
    for number in rng.permutation(np.arange(1, 60)):
        distance = np.hypot(y - rng.uniform(-3, size + 3), x - rng.uniform(-3, size + 10))
        radius = rng.uniform(1, 12)
        labels[(distance < radius) & (distance >= rng.choice([0, 0.5]) * radius)] = number * 1000
    labels[rng.random(labels.shape) < 0.02] = -1
    return labels


def test_coordinates_are_columns_and_rows_of_pixel_corners(tmp_path: Path) -> None:
    labels = np.zeros((6, 9), np.uint16)
    labels[1:3, 4:8] = 7
    (feature,) = outlines(labels, tmp_path)
    assert feature["type"] == "Feature"
    assert feature["properties"] == {"id": 7, "area": 8}
    assert feature["geometry"]["type"] == "Polygon"
    (ring,) = feature["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    assert sorted(map(tuple, ring[:-1])) == [(4, 1), (4, 3), (8, 1), (8, 3)]


def test_holes_and_parts(tmp_path: Path) -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[1:8, 1:8] = 3
    labels[3:6, 3:6] = 2
    labels[9, 9] = labels[10, 10] = 5  # touch at a corner only
    labels[0, 0] = -1
    two, three, five = outlines(labels, tmp_path)
    assert [feature["properties"]["id"] for feature in (two, three, five)] == [2, 3, 5]
    _outer, hole = three["geometry"]["coordinates"]
    assert sorted(map(tuple, hole[:-1])) == [(3, 3), (3, 6), (6, 3), (6, 6)]
    assert five["geometry"]["type"] == "MultiPolygon"
    assert [len(rings) for rings in five["geometry"]["coordinates"]] == [1, 1]
    assert five["properties"]["area"] == 2


def test_no_instances(tmp_path: Path) -> None:
    assert outlines(np.array([[0, -1]], np.int32), tmp_path) == []
    write_properties_csv(tmp_path / "a.csv", np.zeros((3, 3), int))
    assert (tmp_path / "a.csv").read_text().splitlines()[1:] == []


@pytest.mark.parametrize("seed", range(10))
def test_filled_outlines_are_the_labels(tmp_path: Path, seed: int) -> None:
    labels = blobs(seed)
    features = outlines(labels, tmp_path)
    np.testing.assert_array_equal(fill(features, labels.shape), np.maximum(labels, 0))


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-1, 3)))
def test_filled_outlines_are_the_labels_in_every_case(tmp_path_factory: pytest.TempPathFactory, labels: Labels) -> None:
    features = outlines(labels, tmp_path_factory.getbasetemp())
    np.testing.assert_array_equal(fill(features, labels.shape), np.maximum(labels, 0))
    for feature in features:
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert polygon.area == feature["properties"]["area"]


def test_large_labels_keep_their_number(tmp_path: Path) -> None:
    labels = np.array([[2**31 - 1, 2**24 + 1]], np.int32)  # neither fits a 32-bit float
    assert [feature["properties"]["id"] for feature in outlines(labels, tmp_path)] == [2**24 + 1, 2**31 - 1]


@pytest.mark.parametrize("seed", range(4))
def test_measurements_agree_with_scikit_image(seed: int) -> None:
    labels = blobs(seed)
    image = np.random.default_rng(seed).integers(0, 65536, labels.shape).astype(np.uint16)
    pairs = {
        "label": "label",
        "area_px": "area",
        "centroid_x": "centroid-1",
        "centroid_y": "centroid-0",
        "bbox_x0": "bbox-1",
        "bbox_y0": "bbox-0",
        "bbox_x1": "bbox-3",
        "bbox_y1": "bbox-2",
        "equivalent_diameter_px": "equivalent_diameter_area",
        "major_axis_px": "axis_major_length",
        "minor_axis_px": "axis_minor_length",
        "eccentricity": "eccentricity",
        "mean_intensity": "intensity_mean",
        "max_intensity": "intensity_max",
    }
    wanted = {name.split("-")[0] for name in pairs.values()}
    expected = regionprops_table(np.maximum(labels, 0), image, properties=tuple(wanted))
    table = measure_instances(labels, image)
    assert len(table["label"]) > 30
    for name, other in pairs.items():
        corner = 0.5 if name.startswith("centroid") else 0
        np.testing.assert_allclose(table[name], expected[other] + corner, rtol=1e-9, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(table["total_intensity"], expected["area"] * expected["intensity_mean"])


def test_known_shapes() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[2, 3] = 1
    labels[10, 5:16] = 2  # a line
    labels[20:36, 20:36] = 3  # a square
    labels[5:9, 30:50] = 4
    table = measure_instances(labels)
    assert table["label"].tolist() == [1, 2, 3, 4]
    assert table["area_px"].tolist() == [1, 11, 256, 80]
    assert table["centroid_x"].tolist() == [3.5, 10.5, 28.0, 40.0]
    assert table["centroid_y"].tolist() == [2.5, 10.5, 28.0, 7.0]
    assert table["eccentricity"][:3].tolist() == [0.0, 1.0, 0.0]
    assert table["minor_axis_px"][1] == 0
    np.testing.assert_allclose(table["major_axis_px"][1], 4 * np.sqrt(10.0))  # variance of 0 ... 10
    np.testing.assert_allclose(table["eccentricity"][3], np.sqrt(1 - (4**2 - 1) / (20**2 - 1)))
    assert "mean_intensity" not in table


def test_a_thin_diagonal_has_no_width() -> None:
    # Rounding makes the smaller variance of such lines slightly negative.
    labels = np.zeros((8, 400), np.int32)
    for number, x in enumerate(range(1, 390, 4), start=1):
        labels[[3, 4, 5], [x, x + 1, x + 2]] = number
    table = measure_instances(labels)
    np.testing.assert_allclose(table["minor_axis_px"], 0, atol=1e-4)
    np.testing.assert_allclose(table["eccentricity"], 1)


def test_blocks_of_rows_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = blobs(11)
    image = np.random.default_rng(0).random(labels.shape).astype(np.float32)
    whole = measure_instances(labels, image)
    monkeypatch.setattr("condensatenet.measurements._BLOCK_PIXELS", 3 * labels.shape[1])
    parts = measure_instances(labels, image)
    assert list(whole) == list(parts)
    for name, column in whole.items():
        np.testing.assert_allclose(parts[name], column, rtol=1e-10, atol=1e-6, err_msg=name)


def test_many_instances_take_seconds(tmp_path: Path) -> None:
    tile = np.zeros((25, 25), np.int32)
    tile[3:21, 3:21] = 1
    labels = np.kron(np.arange(1, 4901, dtype=np.int32).reshape(70, 70), tile)
    image = np.broadcast_to(np.arange(1750, dtype=np.uint16), labels.shape)
    start = time.process_time()
    write_properties_csv(tmp_path / "a.csv", labels, image)
    write_geojson(tmp_path / "a.geojson", labels)
    assert time.process_time() - start < 5
    assert len(json.loads((tmp_path / "a.geojson").read_text())["features"]) == 4900


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidImageError, match=r"\(5, 4\).*\(4, 5\)"):
        measure_instances(np.ones((4, 5), int), np.ones((5, 4)))
    with pytest.raises(InvalidLabelsError, match="fractions"):
        measure_instances(np.full((4, 5), 0.5))
    with pytest.raises(InvalidLabelsError, match="shape"):
        measure_instances(np.zeros((0, 5), int))


def test_table(tmp_path: Path) -> None:
    labels = np.array([[9, 9, 0], [0, 0, 4]])
    write_properties_csv(tmp_path / "a.csv", labels, np.array([[1.0, 2.0, 9.0], [9.0, 9.0, 1234567.125]]))
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as handle:
        four, nine = csv.DictReader(handle)
    assert (four["label"], four["area_px"], four["centroid_x"], four["centroid_y"]) == ("4", "1", "2.5", "1.5")
    assert [four[f"bbox_{side}"] for side in ("x0", "y0", "x1", "y1")] == ["2", "1", "3", "2"]
    assert (nine["label"], nine["mean_intensity"], nine["max_intensity"]) == ("9", "1.5", "2.0")
    assert float(four["total_intensity"]) == 1234567.125


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", np.ones((2, 2), int))
    before = (tmp_path / "a.geojson").read_bytes()
    with pytest.raises(InvalidLabelsError):
        write_geojson(tmp_path / "a.geojson", np.full((2, 2), -5))
    script = (
        "import resource, signal, sys, numpy as np\n"
        "from condensatenet.files.outlines import write_geojson\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "write_geojson(sys.argv[1], np.arange(10000).reshape(100, 100))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.geojson")]
    assert "File too large" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert os.listdir(tmp_path) == ["a.geojson"]
    assert (tmp_path / "a.geojson").read_bytes() == before
