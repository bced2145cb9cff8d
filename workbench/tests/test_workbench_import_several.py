"""Importing several files: what their names and their metadata say of planes, pixels and channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from workbench_image_examples import assert_planes, values, write_all
from workbench_image_server import ImageServer

from workbench.images.file_names import read_place

# Several files


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        pytest.param("cell1 cell2 cell10", (3, 1, 1, 1), id="no places: natural order"),
        pytest.param("a_z1 a_z2 a_z10", (1, 1, 3, 1), id="Z, sorted as numbers"),
        pytest.param("a_xy1_t1 a_xy1_t2 a_xy2_t1 a_xy2_t2", (2, 2, 1, 1), id="positions and times"),
        pytest.param("T1XY1Z1C1 T1XY1Z1C2 T1XY1Z2C1 T1XY1Z2C2", (1, 1, 2, 2), id="joined words"),
        pytest.param("A01_s1_w1 A01_s1_w2 A01_s2_w1 A01_s2_w2 B01_s1_w1 B01_s1_w2", (3, 1, 1, 2), id="wells and sites"),
        pytest.param("cell-1_DAPI cell-1_GFP cell-2_DAPI cell-2_GFP", (2, 1, 1, 2), id="dyes"),
        pytest.param("x_c1_DAPI x_c2_GFP", (1, 1, 1, 2), id="a channel named twice"),
        pytest.param("x_w1DAPI_s1 x_w2GFP_s1 x_w1DAPI_s2 x_w2GFP_s2", (2, 1, 1, 2), id="dyes behind numbers"),
        pytest.param("a_z1 a_z2 b", (3, 1, 1, 1), id="only some names give places"),
        pytest.param("a_t1 a_z1", (2, 1, 1, 1), id="other axes in each name"),
        pytest.param("z1_z1 z1_z2", (2, 1, 1, 1), id="an axis twice in a name"),
    ],
)
def test_names_of_files_are_places(server: ImageServer, tmp_path: Path, names: str, shape: tuple[int, ...]) -> None:
    paths, images = write_all(tmp_path, names)
    item = server.load(*reversed(paths))
    assert_planes(server, item, np.stack(list(images.values())).reshape(*shape, 5, 6))
    channels = server.get(f"item/{item}/tiles").get("channels")
    assert channels == (["DAPI", "GFP"] if "DAPI" in names else None)


def test_what_names_say() -> None:
    place = read_place(Path("B02_T003XY04Z5_mCherry.ome.tif"))
    assert place is not None
    assert (place.position, place.places, place.has_position) == (("B02", 4), {"t": 3, "z": 5, "c": "mCherry"}, True)
    assert read_place(Path("cells.tif")) is None
    assert read_place(Path("bf_dapi.tif")) is None  # two channels


def test_stacks_with_names(server: ImageServer, tmp_path: Path) -> None:
    """The rest of the axes lies in each file."""
    stack = values(2, 3, 2, 4, 7, 9)  # position, time, Z in the file, channel
    for position, time, channel in np.ndindex(2, 3, 4):
        name = f"exp_s{position + 1}_t{time + 1}_c{channel + 1}.tif"
        tifffile.imwrite(tmp_path / name, stack[position, time, :, channel], imagej=True, metadata={"axes": "ZYX"})
    assert_planes(server, server.load(tmp_path), stack)


def test_positions_of_several_files_follow_each_other(server: ImageServer, tmp_path: Path) -> None:
    stack = values(4, 2, 7, 9)
    for number in range(2):
        with tifffile.TiffWriter(tmp_path / f"day{number}.ome.tif") as writer:
            for position in stack[2 * number : 2 * number + 2]:
                writer.write(position, photometric="minisblack", metadata={"axes": "CYX"})
    assert_planes(server, server.load(tmp_path), stack[:, None, None])


def test_a_folder_stands_for_its_images(server: ImageServer, tmp_path: Path) -> None:
    folder = tmp_path / "Stress granules"
    paths, images = write_all(folder, "b a")
    (folder / "notes.txt").write_text("not an image")
    (folder / "._a.tif").write_bytes(b"what macOS leaves")
    (folder / "more").mkdir()
    item = server.load(folder, name=None)
    assert_planes(server, item, np.stack([images["a"], images["b"]])[:, None, None, None])
    dataset = server.store.folders.load(server.store.items.load(item)["folderId"])
    assert dataset["name"] == "Stress granules"
    # A file that is named and also lies in a named folder is one position.
    assert len(server.planes(server.load(folder, paths[0]))) == 2


# What files say besides


@pytest.mark.parametrize(("unit", "length"), [("µm", 0.25), ("um", 0.25), ("nm", 250), ("mm", 0.00025)])
def test_pixel_size_and_channel_names_of_ome(server: ImageServer, tmp_path: Path, unit: str, length: float) -> None:
    names = ["DAPI & co", "<GFP>"]
    metadata = {"axes": "CYX", "Channel": {"Name": names}, "PhysicalSizeX": length, "PhysicalSizeXUnit": unit}
    metadata |= {"PhysicalSizeY": 2 * length, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", values(2, 8, 9), photometric="minisblack", metadata=metadata)
    tiles = server.get(f"item/{server.load(tmp_path / 'a.ome.tif')}/tiles")
    assert (tiles["mm_x"], tiles["mm_y"]) == pytest.approx((0.00025, 0.0005))
    assert tiles["channels"] == names
    assert tiles["channelmap"] == {names[0]: 0, names[1]: 1}
    assert [frame["Channel"] for frame in tiles["frames"]] == names


@pytest.mark.parametrize(("unit", "mm"), [("micron", 0.0002), ("\\u00B5m", 0.0002), ("nm", 2e-7), ("pixel", None)])
def test_pixel_size_and_labels_of_imagej(server: ImageServer, tmp_path: Path, unit: str, mm: float | None) -> None:
    metadata = {"axes": "ZCYX", "unit": unit, "Labels": ["DAPI", "GFP"] * 3}
    tifffile.imwrite(tmp_path / "a.tif", values(3, 2, 8, 9), imagej=True, metadata=metadata, resolution=(5, 5))
    tiles = server.get(f"item/{server.load(tmp_path / 'a.tif')}/tiles")
    assert tiles["mm_x"] == tiles["mm_y"] == (mm and pytest.approx(mm))
    assert tiles["channels"] == ["DAPI", "GFP"]


def test_a_pixel_size_can_be_given(server: ImageServer, tmp_path: Path) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 1, "PhysicalSizeY": 1}
    tifffile.imwrite(tmp_path / "a.ome.tif", values(8, 9), photometric="minisblack", metadata=metadata)
    tiles = server.get(f"item/{server.load(tmp_path / 'a.ome.tif', pixel_size=0.5)}/tiles")
    assert (tiles["mm_x"], tiles["mm_y"]) == pytest.approx((0.0005, 0.0005))
    # Dots per inch are for printers.
    tifffile.imwrite(tmp_path / "b.tif", values(8, 9), resolution=(300, 300), resolutionunit="INCH", metadata=None)
    assert server.get(f"item/{server.load(tmp_path / 'b.tif')}/tiles")["mm_x"] is None
