"""Importing image files: every plane is read back over HTTP and must be what the file held."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from workbench_image_server import ImageServer, files_in, open_files_in, serve_images

from workbench.command_line import main
from workbench.errors import InvalidImageError, RestError, WorkbenchError
from workbench.images.file_names import read_place
from workbench.images.importing import import_dataset
from workbench.store.store import Store

Array = NDArray[Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageServer]:
    with serve_images(tmp_path_factory.mktemp("importing") / "data") as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "data")) as opened:
        yield opened


def values(*shape: int, dtype: str = "uint16", seed: int = 1) -> Array:
    """Values over the whole range of a type, so that none can be scaled or cut unseen."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return (rng.standard_normal(shape) * 1e5).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def assert_planes(server: ImageServer, item_id: str, expected: Array) -> None:
    """Compare a dataset with an array of the axes XY, T, Z, C, Y and X."""
    planes = server.planes(item_id)
    assert sorted(planes) == list(np.ndindex(expected.shape[:4]))
    for place, plane in planes.items():
        assert plane.dtype == expected.dtype
        np.testing.assert_array_equal(plane, expected[place], strict=True)


# One file


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"imagej": True}, id="imagej"),
        pytest.param({"imagej": True, "byteorder": ">", "compression": "zlib"}, id="imagej, big-endian, compressed"),
        pytest.param({"truncate": True}, id="one page for all"),
        pytest.param({"truncate": True, "byteorder": ">"}, id="one page for all, big-endian"),
        pytest.param({"ome": True}, id="ome"),
        pytest.param({"ome": True, "bigtiff": True, "compression": "zlib", "tile": (32, 32)}, id="ome, big, tiled"),
    ],
)
@pytest.mark.parametrize("axes", ["T", "C", "Z", "TC", "TZ", "ZC", "TZC"])
def test_every_plane_of_a_stack(server: ImageServer, tmp_path: Path, axes: str, options: dict[str, Any]) -> None:
    sizes = {"T": 3, "Z": 4, "C": 2}
    stack = values(*(sizes[axis] for axis in axes), 33, 47)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack", metadata={"axes": axes + "YX"}, **options)
    expected = stack.reshape(1, *(sizes[axis] if axis in axes else 1 for axis in "TZC"), 33, 47)
    assert_planes(server, server.load(tmp_path / "stack.tif"), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2500, 3), (3, 2500), (130, 257)])
def test_values_of_any_shape_are_exact(server: ImageServer, tmp_path: Path, shape: tuple[int, int], dtype: str) -> None:
    image = values(*shape, dtype=dtype)
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="minisblack", metadata=None)
    assert_planes(server, server.load(tmp_path / "image.tif"), image[None, None, None, None])


def test_series_are_positions(server: ImageServer, tmp_path: Path) -> None:
    stack = values(3, 2, 2, 2, 20, 31)
    with tifffile.TiffWriter(tmp_path / "positions.ome.tif") as writer:
        for position in stack:
            writer.write(position, photometric="minisblack", metadata={"axes": "TZCYX"})
    assert_planes(server, server.load(tmp_path / "positions.ome.tif"), stack)


def test_previews_and_smaller_versions_are_left_out(server: ImageServer, tmp_path: Path) -> None:
    stack = values(2, 64, 64)
    with tifffile.TiffWriter(tmp_path / "pyramid.ome.tif") as writer:
        writer.write(stack, photometric="minisblack", subifds=1, tile=(32, 32), metadata={"axes": "CYX"})
        writer.write(stack[:, ::2, ::2], photometric="minisblack", subfiletype=1, tile=(32, 32))
    assert_planes(server, server.load(tmp_path / "pyramid.ome.tif"), stack[None, None, None])


@pytest.mark.parametrize(("dtype", "stored"), [("bool", "uint8"), ("int16", "uint16"), ("float16", "float32")])
def test_types_that_fit_into_another_are_stored_exactly(
    server: ImageServer, tmp_path: Path, dtype: str, stored: str
) -> None:
    image = (np.arange(600).reshape(20, 30) % 2 if dtype == "bool" else np.arange(600).reshape(20, 30)).astype(dtype)
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="minisblack")
    assert_planes(server, server.load(tmp_path / "image.tif"), image[None, None, None, None].astype(stored))


def test_lzw_is_read(server: ImageServer, tmp_path: Path) -> None:
    pages = values(3, 40, 50)
    first, *others = map(Image.fromarray, pages)
    first.save(tmp_path / "pages.tif", compression="tiff_lzw", save_all=True, append_images=others)
    # Pages that say nothing about their axis are Z.
    assert_planes(server, server.load(tmp_path / "pages.tif"), pages[None, None, :, None])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_png(server: ImageServer, tmp_path: Path, dtype: str) -> None:
    image = values(40, 50, dtype=dtype)
    Image.fromarray(image).save(tmp_path / "image.png")
    assert_planes(server, server.load(tmp_path / "image.png"), image[None, None, None, None])


def test_jpeg(server: ImageServer, tmp_path: Path) -> None:
    flat = np.full((40, 50, 3), [200, 100, 50], np.uint8)
    Image.fromarray(flat[..., 0]).save(tmp_path / "grey.jpg")
    assert_planes(server, server.load(tmp_path / "grey.jpg"), flat[None, None, None, None, ..., 0])
    Image.fromarray(np.repeat(flat[..., :1], 3, axis=2)).save(tmp_path / "grey in colour.jpeg", quality=95)
    assert_planes(server, server.load(tmp_path / "grey in colour.jpeg"), flat[None, None, None, None, ..., 0])
    Image.fromarray(flat).save(tmp_path / "colour.jpg", quality=95)
    planes = server.planes(server.load(tmp_path / "colour.jpg"))
    assert [abs(int(plane[9, 9]) - value) <= 2 for plane, value in zip(planes.values(), flat[0, 0], strict=True)] == [
        True
    ] * 3


# Colours


def colour_writers() -> dict[str, Callable[[Path, Array], None]]:
    def png(path: Path, image: Array) -> None:
        Image.fromarray(image).save(path.with_suffix(".png"))

    def opaque(path: Path, image: Array) -> None:
        Image.fromarray(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])).save(path.with_suffix(".png"))

    def interleaved(path: Path, image: Array) -> None:
        tifffile.imwrite(path.with_suffix(".tif"), image, photometric="rgb")

    def separate(path: Path, image: Array) -> None:
        planes = np.moveaxis(image, 2, 0)
        tifffile.imwrite(path.with_suffix(".tif"), planes, photometric="rgb", planarconfig="separate")

    def opaque_tiff(path: Path, image: Array) -> None:
        samples = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
        tifffile.imwrite(path.with_suffix(".tif"), samples, photometric="rgb", extrasamples=["unassalpha"])

    return {"png": png, "png with alpha": opaque, "tiff": interleaved, "tiff, separate": separate, "alpha": opaque_tiff}


@pytest.mark.parametrize("kind", colour_writers())
def test_colours_become_channels_and_grey_stays_grey(server: ImageServer, tmp_path: Path, kind: str) -> None:
    colours = values(30, 41, 3, dtype="uint8")
    grey = np.repeat(colours[..., :1], 3, axis=2)
    for name, image in (("colours", colours), ("grey", grey)):
        colour_writers()[kind](tmp_path / name, image)
    (of_colours,), (of_grey,) = tmp_path.glob("colours.*"), tmp_path.glob("grey.*")
    item = server.load(of_colours)
    assert_planes(server, item, np.moveaxis(colours, 2, 0)[None, None, None])
    assert server.get(f"item/{item}/tiles")["channels"] == ["Red", "Green", "Blue"]
    assert_planes(server, server.load(of_grey), grey[None, None, None, None, ..., 0])
    # Together they are one dataset in colour.
    assert_planes(server, server.load(of_colours, of_grey), np.moveaxis(np.stack([colours, grey]), 3, 1)[:, None, None])


def test_16_bit_colours_of_a_png_are_exact(server: ImageServer, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    colours = values(3, 30, 41)
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "deep.png", "w", driver="PNG", width=41, height=30, count=3, dtype="uint16") as image,
    ):
        image.write(colours)
    assert_planes(server, server.load(tmp_path / "deep.png"), colours[None, None, None])


def test_palettes(server: ImageServer, tmp_path: Path) -> None:
    image = values(20, 30, dtype="uint8")
    ramp = np.arange(256, dtype=np.uint16) * 257
    nothing = np.zeros_like(ramp)
    greys = np.stack([ramp[::-1]] * 3)
    tifffile.imwrite(tmp_path / "inverted.tif", image, photometric="palette", colormap=greys)
    assert_planes(server, server.load(tmp_path / "inverted.tif"), 255 - image[None, None, None, None])
    # A palette that is green for display does not make a colour image.
    tifffile.imwrite(tmp_path / "gfp.tif", image, photometric="palette", colormap=np.stack([nothing, ramp, nothing]))
    assert_planes(server, server.load(tmp_path / "gfp.tif"), image[None, None, None, None])
    two = np.stack([ramp, ramp[::-1], nothing])
    tifffile.imwrite(tmp_path / "two.tif", image, photometric="palette", colormap=two)
    assert_planes(
        server, server.load(tmp_path / "two.tif"), np.stack([image, 255 - image, 0 * image])[None, None, None]
    )
    picture = Image.fromarray(image, "L").convert("P")
    picture.save(tmp_path / "palette.png")
    assert_planes(server, server.load(tmp_path / "palette.png"), image[None, None, None, None])


# Several files


def write_all(folder: Path, names: str) -> tuple[list[Path], dict[str, Array]]:
    """Write a small image for each name."""
    folder.mkdir(exist_ok=True)
    images = {name: values(5, 6, seed=seed) for seed, name in enumerate(names.split())}
    for name, image in images.items():
        tifffile.imwrite(folder / f"{name}.tif", image, photometric="minisblack")
    return [folder / f"{name}.tif" for name in images], images


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


# What cannot be imported


def broken(folder: Path, kind: str) -> list[Path]:
    """Write files that cannot be imported."""
    path = folder / "image.tif"
    good = values(6, 40, 50)
    plane = {"photometric": "minisblack", "metadata": None}
    if kind == "type":
        tifffile.imwrite(path, good.astype(np.uint32), **plane)
    elif kind == "negative":
        tifffile.imwrite(path, -good[0].astype(np.int16), **plane)
    elif kind in ("nan", "infinite"):
        tifffile.imwrite(path, np.stack([good[0], good[1] * float(kind[:3])]).astype(np.float32), **plane)
    elif kind == "cut off":
        tifffile.imwrite(path, good, photometric="minisblack", metadata={"axes": "ZYX"})
        path.write_bytes(path.read_bytes()[:-20000])
    elif kind == "pages lost":
        with tifffile.TiffWriter(path) as writer:
            for page in good:
                writer.write(page, contiguous=False, **plane)
        with tifffile.TiffFile(path) as tiff:
            end = tiff.pages[4].offset
        path.write_bytes(path.read_bytes()[:end])
    elif kind == "last page damaged":
        tifffile.imwrite(path, good, compression="zlib", rowsperstrip=40, **plane)
        with tifffile.TiffFile(path) as tiff:
            offset = tiff.pages[5].dataoffsets[0]
        content = bytearray(path.read_bytes())
        content[offset + 100 : offset + 200] = bytes(100)
        path.write_bytes(content)
    elif kind == "text":
        path.write_text("no image")
    elif kind == "empty":
        path.touch()
    elif kind == "png cut off":
        path = folder / "image.png"
        Image.fromarray(good[0]).save(path)
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "no png":
        path = folder / "image.png"
        path.write_bytes(b"GIF89a")
    elif kind == "transparent":
        path = folder / "image.png"
        Image.fromarray(values(8, 9, 4, dtype="uint8")).save(path)
    elif kind == "gif":
        path = folder / "image.gif"
        Image.fromarray(values(8, 9, dtype="uint8")).save(path)
    elif kind == "series":
        with tifffile.TiffWriter(path) as writer:
            writer.write(good[0], **plane)
            writer.write(good[0, :20], **plane)
    elif kind == "axes":
        tifffile.imwrite(path, good.reshape(2, 3, 40, 50), photometric="minisblack", metadata={"axes": "QQYX"})
    elif kind == "other axes":
        tifffile.imwrite(path, good, photometric="minisblack", metadata={"axes": "EYX"})
    elif kind == "empty folder":
        return [folder]
    else:
        other = {"size": good[0, 1:], "values": good[0].astype(np.uint8), "planes": good[:2]}.get(kind)
        names = {"place": ("a_z1", "b_z1"), "missing": ("a_z1_c1", "a_z2_c2")}.get(kind, ("a", "b"))
        tifffile.imwrite(folder / f"{names[0]}.tif", good[0], **plane)
        tifffile.imwrite(folder / f"{names[1]}.tif", good[0] if other is None else other, **plane)
        if kind == "place":
            Image.fromarray(good[0]).save(folder / "a_z1.png")
        if kind == "colour":
            tifffile.imwrite(folder / "b.tif", values(40, 50, 3), photometric="rgb")
        if kind == "numbered twice":
            for name in ("a_z1", "a_z2"):
                tifffile.imwrite(folder / f"{name}.tif", good, imagej=True, metadata={"axes": "ZYX"})
            return [folder / "a_z1.tif", folder / "a_z2.tif"]
        return [folder]
    return [path]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("type", "image.tif: has values of type uint32.*32-bit float"),
        ("negative", "image.tif: has negative values"),
        ("nan", "image.tif: has pixels that are no numbers"),
        ("infinite", "image.tif: has pixels that are no numbers"),
        ("cut off", "image.tif: cannot be read; it is damaged"),
        ("pages lost", "image.tif: cannot be read; it is damaged.*the file ends after page 4"),
        ("last page damaged", "image.tif: cannot be read; it is damaged"),
        ("text", "image.tif: cannot be read"),
        ("empty", "image.tif: cannot be read"),
        ("png cut off", "image.png: cannot be read"),
        ("no png", "image.png: cannot be read"),
        ("transparent", "image.png: is transparent"),
        ("gif", "image.gif: files of this type cannot be imported"),
        ("series", "image.tif: holds images of different kinds"),
        ("axes", "image.tif: does not say what its axes .of 2, 3 planes. mean"),
        ("other axes", "image.tif: has an axis .E, of 6 planes."),
        ("empty folder", "has no images in it"),
        ("size", "b.tif: has another size than .*a.tif .50 x 39 pixels and 50 x 40."),
        ("values", "b.tif: has another kind of values than .*a.tif .uint8 and uint16."),
        ("planes", "b.tif: has another number of planes than .*a.tif .Z 2 and one plane."),
        ("colour", "a.tif: is grey, while others"),
        ("place", "a_z1.* and .*a_z1.* have the same place"),
        ("missing", "the one for Z 1, channel 2 is missing"),
        ("numbered twice", "a_z1.tif: holds 6 planes on the Z axis"),
        ("no file", "nothing.tif: there is no such file"),
        ("no paths", "No images were named"),
    ],
)
def test_what_cannot_be_imported_leaves_nothing_behind(store: Store, tmp_path: Path, kind: str, message: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    paths = {"no file": [folder / "nothing.tif"], "no paths": []}.get(kind)
    with pytest.raises(InvalidImageError, match=message):
        import_dataset(store, broken(folder, kind) if paths is None else paths)
    assert store.folders.datasets() == [] and files_in(store) == []


def test_an_interrupted_import_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", values(6, 40, 50), photometric="minisblack", metadata=None)
    seen = []

    def interrupt(done: int, total: int) -> None:
        seen.append((done, total, len(files_in(store))))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset(store, tmp_path / "stack.tif", progress=interrupt)
    assert seen == [(done, 6, 1) for done in range(1, 5)]
    assert store.folders.datasets() == [] and files_in(store) == []


def test_names_and_folders_of_datasets(store: Store, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cells.ome.tif", values(8, 9))
    first = import_dataset(store, str(tmp_path / "cells.ome.tif"))
    private = store.folders.load(first["parentId"])
    assert (first["name"], private["name"], private["parentId"]) == ("cells", "Private", store.users.user["_id"])
    kept = files_in(store)
    with pytest.raises(RestError, match="already something called cells"):
        import_dataset(store, tmp_path / "cells.ome.tif")
    with pytest.raises(RestError, match="No such folder"):
        import_dataset(store, tmp_path / "cells.ome.tif", folder="0" * 24)
    with pytest.raises(RestError, match="name must not be empty"):
        import_dataset(store, tmp_path / "cells.ome.tif", name=" ")
    with pytest.raises(InvalidImageError, match="pixel size"):
        import_dataset(store, tmp_path / "cells.ome.tif", name="other", pixel_size=0)
    assert files_in(store) == kept
    inside = store.folders.create(private["_id"], "inside")
    second = import_dataset(store, tmp_path / "cells.ome.tif", folder=inside["_id"])
    assert (second["name"], second["parentId"]) == ("cells", inside["_id"])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/fd")
def test_few_files_are_open_at_a_time(store: Store, tmp_path: Path) -> None:
    write_all(tmp_path / "many", " ".join(f"position{number}" for number in range(25)))

    def count(done: int, total: int) -> None:
        counts.append(open_files_in(tmp_path / "many"))

    counts: list[int] = []
    import_dataset(store, tmp_path / "many", progress=count)
    assert len(counts) == 25 and max(counts) <= 16


def test_memory_holds_a_few_planes(store: Store, tmp_path: Path) -> None:
    plane = values(512, 512)
    options: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "compressionargs": {"level": 1}}
    tifffile.imwrite(tmp_path / "long.tif", (plane for _ in range(40)), shape=(40, 512, 512), dtype="uint16", **options)
    import_dataset(store, tmp_path / "long.tif", name="first")  # imports, caches
    tracemalloc.start()
    try:
        import_dataset(store, tmp_path / "long.tif")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * plane.nbytes


# The command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, _ = write_all(tmp_path / "plate", "A1_c1 A1_c2 A2_c1 A2_c2")
    data = str(tmp_path / "data")
    assert main(["import", *map(str, paths), "--data", data, "--name", "Plate", "--pixel-size", "0.1"]) == 0
    identifier, name, text = capsys.readouterr().out.strip().split("\t")
    assert (name, text) == ("Plate", "6 x 5 pixels, uint16, 2 positions, 2 channels")
    with closing(Store(data)) as store:
        (dataset,) = store.folders.datasets()
    assert dataset["_id"] == identifier
    assert main(["import", str(tmp_path / "nothing.tif"), "--data", data]) == 1
    error = capsys.readouterr().err
    assert error.startswith("workbench: error: ") and "nothing.tif: there is no such file" in error


def test_long_imports_say_how_far_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.command_line.progress._SECONDS_BETWEEN_LINES", 0.0)
    tifffile.imwrite(tmp_path / "stack.tif", values(4, 8, 9), photometric="minisblack", metadata=None)
    assert main(["import", str(tmp_path / "stack.tif"), "--data", str(tmp_path / "data")]) == 0
    assert capsys.readouterr().err.splitlines() == [f"{25 * done} %: {done} of 4 planes" for done in (1, 2, 3, 4)]


def test_every_refusal_is_an_error_of_this_package() -> None:
    assert issubclass(InvalidImageError, WorkbenchError) and issubclass(RestError, WorkbenchError)
