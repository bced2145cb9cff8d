"""Importing an image file: every plane is read back over HTTP and must be what the file held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from workbench_image_examples import Array, assert_planes, values
from workbench_image_server import ImageServer

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
