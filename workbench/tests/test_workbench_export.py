"""Exports: label masks against masks that were made without geometry, outlines, tables, and what is left out."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from workbench.command_line import main
from workbench.errors import WorkbenchError
from workbench.export import Exported, export_dataset
from workbench.export.labels import write_labels
from workbench.images.importing import import_dataset
from workbench.images.source import sources_of
from workbench.store.documents import Document
from workbench.store.store import Store

Points = list[tuple[float, float]]
HEIGHT, WIDTH = 40, 60
STACK = np.random.default_rng(2).integers(0, 60000, (2, 2, 3, 2, HEIGHT, WIDTH)).astype(np.uint16)  # XY, T, Z, C
SQUARE: Points = [(5, 5), (12, 5), (12, 12), (5, 12)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "data")) as opened:
        yield opened
        sources_of(opened).close()


@pytest.fixture
def dataset(store: Store, tmp_path: Path) -> Document:
    """Two positions, two times, three Z and two channels."""
    with tifffile.TiffWriter(tmp_path / "cells.ome.tif") as writer:
        for position in STACK:
            metadata = {"axes": "TZCYX", "Channel": {"Name": ["DAPI", "GFP"]}}
            writer.write(position, photometric="minisblack", metadata=metadata)
    return import_dataset(store, tmp_path / "cells.ome.tif")


@pytest.fixture
def plain(store: Store, tmp_path: Path) -> Document:
    """One plane."""
    tifffile.imwrite(tmp_path / "plain.tif", STACK[0, 0, 0, 0])
    return import_dataset(store, tmp_path / "plain.tif")


def annotate(
    store: Store,
    dataset: Document,
    points: Points,
    *tags: str,
    shape: str = "polygon",
    channel: int = 0,
    location: tuple[int, int, int] = (0, 0, 0),
) -> str:
    """Add an annotation at (XY, Z, Time)."""
    annotation = {
        "datasetId": dataset["_id"],
        "shape": shape,
        "coordinates": [{"x": x, "y": y} for x, y in points],
        "tags": list(tags),
        "channel": channel,
        "location": dict(zip(("XY", "Z", "Time"), location, strict=True)),
    }
    (text,) = store.annotations.create([annotation])
    return str(json.loads(text)["_id"])


def square(left: float, top: float, size: float) -> Points:
    return [(left, top), (left + size, top), (left + size, top + size), (left, top + size)]


def read_table(exported: Exported) -> list[dict[str, str]]:
    with open(exported.folder / "objects.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_features(exported: Exported) -> list[dict[str, Any]]:
    collection = json.loads((exported.folder / "outlines.geojson").read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    features: list[dict[str, Any]] = collection["features"]
    return features


def read_mask(exported: Exported, name: str | None = None) -> NDArray[Any]:
    (only,) = exported.label_files if name is None else [name]
    return tifffile.imread(exported.folder / only)


def test_masks_are_in_corner_coordinates(store: Store, plain: Document, tmp_path: Path) -> None:
    annotate(store, plain, SQUARE)
    annotate(store, plain, [(30.5, 20), (33.5, 20), (33.5, 21.6), (30.5, 21.6)], shape="rectangle")
    mask = read_mask(export_dataset(store, plain["_id"], tmp_path / "out"))
    expected = np.zeros((HEIGHT, WIDTH), np.uint16)
    expected[5:12, 5:12] = 1  # corners (5, 5) to (12, 12): 49 pixels
    expected[20:22, 31:34] = 2  # centres from 31.5 to 33.5 lie inside, the last on the edge
    expected[20:22, 33] = mask[20:22, 33]  # a centre that lies on an outline may be in or out
    np.testing.assert_array_equal(mask, expected, strict=True)


def test_smaller_objects_are_on_top_and_later_ones_of_equal_size(store: Store, plain: Document, tmp_path: Path) -> None:
    annotate(store, plain, square(10, 10, 4))  # 1: small, first
    annotate(store, plain, square(5, 5, 20))  # 2: large
    annotate(store, plain, square(30, 5, 10))  # 3
    annotate(store, plain, square(35, 10, 10))  # 4: as large, later
    mask = read_mask(export_dataset(store, plain["_id"], tmp_path / "out"))
    expected = np.zeros((HEIGHT, WIDTH), np.uint16)
    expected[5:25, 5:25] = 2
    expected[10:14, 10:14] = 1
    expected[5:15, 30:40] = 3
    expected[10:20, 35:45] = 4
    np.testing.assert_array_equal(mask, expected, strict=True)


def test_places_channels_and_measures(store: Store, dataset: Document, tmp_path: Path) -> None:
    first = annotate(store, dataset, SQUARE, "nucleus", "a, b", location=(1, 2, 0), channel=0)
    second = annotate(store, dataset, square(20, 10, 3), "condensate", location=(1, 2, 0), channel=1)
    third = annotate(store, dataset, square(1, 1, 2), "nucleus", location=(0, 0, 1), channel=1)
    exported = export_dataset(store, dataset["_id"], tmp_path / "out")
    assert sorted(exported.label_files) == [
        "labels/cells_xy1_z1_t2_c2_labels.tif",
        "labels/cells_xy2_z3_t1_c1_labels.tif",
        "labels/cells_xy2_z3_t1_c2_labels.tif",
    ]
    assert sorted(str(path.relative_to(exported.folder)) for path in exported.folder.rglob("*") if path.is_file()) == [
        *sorted(exported.label_files),
        "objects.csv",
        "outlines.geojson",
    ]
    rows = {row["id"]: row for row in read_table(exported)}
    assert list(rows) == [first, second, third]
    for identifier, place, size, pixels in (
        (first, ("2", "3", "1", "1", "DAPI"), 7, STACK[1, 0, 2, 0, 5:12, 5:12]),
        (second, ("2", "3", "1", "2", "GFP"), 3, STACK[1, 0, 2, 1, 10:13, 20:23]),
        (third, ("1", "1", "2", "2", "GFP"), 2, STACK[0, 1, 0, 1, 1:3, 1:3]),
    ):
        row = rows[identifier]
        assert tuple(row[key] for key in ("XY", "Z", "Time", "channel", "channel_name")) == place
        assert float(row["area"]) == size**2 and float(row["perimeter"]) == 4 * size
        assert float(row["mean_intensity"]) == pytest.approx(pixels.mean(), rel=1e-5)
        mask = read_mask(exported, row["label_file"])
        assert np.count_nonzero(mask == int(row["label"])) == size**2
    assert (rows[first]["centroid_x"], rows[first]["centroid_y"]) == ("8.5", "8.5")
    assert rows[first]["tags"] == "nucleus; a, b"
    features = read_features(exported)
    assert [feature["id"] for feature in features] == [first, second, third]
    assert features[0]["properties"] == {
        "id": first,
        "tags": ["nucleus", "a, b"],
        "channel": 0,
        "location": {"XY": 1, "Z": 2, "Time": 0},
    }
    assert features[0]["geometry"]["type"] == "Polygon"
    assert sorted(map(tuple, features[0]["geometry"]["coordinates"][0][:-1])) == sorted(SQUARE)


def test_one_channel_needs_no_channel_in_names(store: Store, dataset: Document, tmp_path: Path) -> None:
    annotate(store, dataset, SQUARE, channel=1)
    assert export_dataset(store, dataset["_id"], tmp_path / "out").label_files == ["labels/cells_xy1_z1_t1_labels.tif"]


def test_only_some_tags(store: Store, plain: Document, tmp_path: Path) -> None:
    one, two, both = (annotate(store, plain, SQUARE, *tags) for tags in (["a"], ["b"], ["a", "b"]))
    annotate(store, plain, SQUARE, "c")
    for number, (tags, expected) in enumerate({("a",): [one, both], ("a", "b"): [one, two, both]}.items()):
        exported = export_dataset(store, plain["_id"], tmp_path / str(number), tags=tags)
        assert [row["id"] for row in read_table(exported)] == expected == [f["id"] for f in read_features(exported)]
        assert exported.objects == len(expected)


def test_what_is_left_out_is_named(store: Store, dataset: Document, tmp_path: Path) -> None:
    line = annotate(store, dataset, [(1, 1), (5, 5), (3, 3)])
    twice = annotate(store, dataset, [(1, 1), (5, 5), (1, 1), (5, 5)])
    places = {"location": (2, 0, 0)}, {"location": (0, 3, 0)}, {"location": (0, 0, 2)}, {"channel": 2}
    elsewhere = [annotate(store, dataset, SQUARE, **place) for place in places]
    kept = annotate(store, dataset, SQUARE)
    tiny = annotate(store, dataset, square(30.1, 30.1, 0.2))
    outside = annotate(store, dataset, square(-50, 0, 20))
    covered = annotate(store, dataset, square(20, 20, 5))
    annotate(store, dataset, square(20, 20, 5))
    exported = export_dataset(store, dataset["_id"], tmp_path / "out")
    assert (exported.invalid, exported.elsewhere) == ([line, twice], elsewhere)
    assert (exported.objects, exported.hidden) == (5, 3)
    rows = {row["id"]: row for row in read_table(exported)}
    assert rows[kept]["label"] == "1"
    for identifier in (tiny, outside, covered):
        assert (rows[identifier]["label"], rows[identifier]["mean_intensity"]) == ("", "")
        assert float(rows[identifier]["area"]) > 0


def test_outlines_that_cross_themselves_keep_what_they_enclose(store: Store, plain: Document, tmp_path: Path) -> None:
    annotate(store, plain, [(10, 10), (20, 20), (20, 10), (10, 20)])  # two triangles
    annotate(store, plain, [*square(30, 10, 8), (30, 10), (25, 5), (30, 10)])  # a square with a spike
    exported = export_dataset(store, plain["_id"], tmp_path / "out")
    assert [float(row["area"]) for row in read_table(exported)] == [50, 64]
    mask = read_mask(exported)
    assert mask[15, 11] == mask[15, 18] == 1 and mask[11, 15] == mask[18, 15] == 0
    np.testing.assert_array_equal(mask[5:20, 25:40] == 2, np.pad(np.ones((8, 8), bool), ((5, 2), (5, 2))))


def test_points_and_lines_are_no_areas(store: Store, plain: Document, tmp_path: Path) -> None:
    annotate(store, plain, [(3, 4)], shape="point")
    annotate(store, plain, [(3, 4), (6, 8)], shape="line")
    annotate(store, plain, [(3, 4), (3, 4)], shape="line")
    exported = export_dataset(store, plain["_id"], tmp_path / "out")
    assert exported.label_files == [] and exported.objects == 3
    assert [feature["geometry"]["type"] for feature in read_features(exported)] == ["Point", "LineString", "Point"]
    point, line, _ = read_table(exported)
    assert (point["area"], point["perimeter"], point["centroid_x"], point["label"]) == ("", "", "3", "")
    assert (line["area"], line["centroid_y"]) == ("", "6")


def test_regions(store: Store, dataset: Document, tmp_path: Path) -> None:
    """Where nobody annotated is not background."""
    annotate(store, dataset, square(2, 2, 20), "done")
    annotate(store, dataset, square(30, 0, 10), "done")
    annotate(store, dataset, square(5, 5, 4), "condensate")
    annotate(store, dataset, square(20, 10, 6), "condensate")  # cut by the border
    annotate(store, dataset, square(50, 30, 4), "condensate")  # outside
    annotate(store, dataset, SQUARE, "condensate", location=(1, 0, 0))  # no region there
    annotate(store, dataset, square(0, 0, 9), "done", location=(0, 1, 0))  # nothing in it
    exported = export_dataset(store, dataset["_id"], tmp_path / "out", tags=["condensate"], region_tag="done")
    names = ["labels/cells_xy1_z1_t1_labels.tif", "labels/cells_xy1_z2_t1_labels.tif"]
    assert exported.label_files == names
    first, second = (read_mask(exported, name) for name in names)
    expected = np.full((HEIGHT, WIDTH), -1, np.int32)
    expected[2:22, 2:22] = 0
    expected[0:10, 30:40] = 0
    expected[5:9, 5:9] = 1
    expected[10:16, 20:22] = 2
    np.testing.assert_array_equal(first, expected, strict=True)
    expected = np.full((HEIGHT, WIDTH), -1, np.int32)
    expected[:9, :9] = 0
    np.testing.assert_array_equal(second, expected, strict=True)
    assert exported.objects == 4


def test_labels_take_as_many_bits_as_they_need(tmp_path: Path) -> None:
    labels = np.arange(257 * 256, dtype=np.int32).reshape(257, 256)
    for top, dtype in ((65535, np.uint16), (65536, np.uint32)):
        mask = np.minimum(labels, top)
        write_labels(tmp_path / "mask.tif", mask)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "mask.tif"), mask.astype(dtype), strict=True)


def test_an_export_is_whole_or_not_there(store: Store, dataset: Document, tmp_path: Path) -> None:
    for z in range(3):
        annotate(store, dataset, SQUARE, location=(0, z, 0))
    seen: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total))
        assert not (tmp_path / "out").exists()
        if done == 2:
            raise KeyboardInterrupt

    before = sorted(os.listdir(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        export_dataset(store, dataset["_id"], tmp_path / "out", progress=interrupt)
    assert seen == [(1, 3), (2, 3)] and sorted(os.listdir(tmp_path)) == before

    (tmp_path / "out").mkdir()
    assert len(export_dataset(store, dataset["_id"], tmp_path / "out").label_files) == 3
    with pytest.raises(WorkbenchError, match="is there already"):
        export_dataset(store, dataset["_id"], tmp_path / "out")
    with pytest.raises(WorkbenchError, match="no dataset with the identifier"):
        export_dataset(store, "0" * 24, tmp_path / "other")
    empty = store.folders.create(dataset["parentId"], "empty", meta={"subtype": "contrastDataset"})
    with pytest.raises(WorkbenchError, match="empty has no image"):
        export_dataset(store, empty["_id"], tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "out"])


def test_the_command(
    store: Store, dataset: Document, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    invalid = annotate(store, dataset, [(1, 1), (5, 5), (3, 3)], "condensate")
    annotate(store, dataset, SQUARE, "condensate")
    annotate(store, dataset, SQUARE, "other")
    data = ["--data", str(store.data_folder)]
    assert main(["export", "cells", "--tag", "condensate", *data]) == 0
    output = capsys.readouterr()
    assert output.out == f"{tmp_path / 'cells_export'}: 1 objects, 1 label masks\n"
    assert output.err == f"Warning: Left out 1 annotations ({invalid}) whose outline encloses nothing.\n"
    assert main(["export", dataset["_id"], "--output", "all", *data]) == 0
    assert "all: 2 objects, 1 label masks" in capsys.readouterr().out
    assert (tmp_path / "all" / "objects.csv").is_file()
    assert main(["export", "cell", *data]) == 1
    assert capsys.readouterr().err == "workbench: error: There is no dataset 'cell'. The datasets are: cells\n"
    assert main(["export", "cells", "--data", str(tmp_path / "nowhere")]) == 1
    assert "There is no data folder" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
