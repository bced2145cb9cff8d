"""The routes of images over HTTP: metadata against large_image's, regions and tiles against slices of arrays."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import workbench_image_examples
from PIL import Image
from workbench_image_examples import HEIGHT, STACK, WIDTH, Array, smooth
from workbench_image_server import ImageServer

item = workbench_image_examples.item


# Metadata


def test_metadata_is_that_of_large_image(server: ImageServer, item: str) -> None:
    from large_image_source_tifffile import TifffileFileTileSource

    tiles = server.get(f"item/{item}/tiles")
    file = server.store.files.path(server.store.items.load(item)["largeImage"]["fileId"])
    source = TifffileFileTileSource(str(file), noCache=True)
    own = dict(source.getMetadata())
    source._tf.close()
    # The names of channels, which large_image itself does not read from OME-TIFF, are as in its multi-source images.
    assert tiles.pop("channels") == ["a", "b", "c"]
    assert tiles.pop("channelmap") == {"a": 0, "b": 1, "c": 2}
    assert [frame.pop("Channel") for frame in tiles["frames"]] == ["a", "b", "c"] * 2
    assert tiles == own
    assert (tiles["sizeX"], tiles["sizeY"], tiles["mm_x"]) == (WIDTH, HEIGHT, pytest.approx(0.0005))
    assert tiles["IndexRange"] == {"IndexC": 3, "IndexT": 2}


def test_one_plane_has_no_frames(server: ImageServer, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", STACK[0, 0])
    tiles = server.get(f"item/{server.load(tmp_path / 'one.tif')}/tiles")
    assert not {"frames", "IndexRange", "channels"} & tiles.keys()


def test_internal_metadata(server: ImageServer, item: str) -> None:
    internal = server.get(f"item/{item}/tiles/internal_metadata")
    assert (internal["tilesource"], internal["tifffileKind"]) == ("tifffile", "ome")
    channels = internal["xml"]["OME"]["Image"]["Pixels"]["Channel"]
    assert [channel["Name"] for channel in channels] == ["a", "b", "c"]


# Regions


@pytest.mark.parametrize(
    ("query", "rows", "columns"),
    [
        ({}, slice(None), slice(None)),
        ({"left": 3, "top": 5, "right": 50, "bottom": 61}, slice(5, 61), slice(3, 50)),
        ({"left": 3, "top": 5, "regionWidth": 10, "regionHeight": 1}, slice(5, 6), slice(3, 13)),
        ({"right": 20, "regionWidth": 7, "bottom": 30, "regionHeight": 4}, slice(26, 30), slice(13, 20)),
        ({"left": -10, "top": -20, "right": -3, "bottom": -1}, slice(-20, -1), slice(-10, -3)),
        ({"left": 190, "right": 5000, "top": 290, "bottom": 5000}, slice(290, None), slice(190, None)),
        ({"left": 10.4, "right": 20.6}, slice(None), slice(10, 21)),
        ({"units": "fraction", "left": 0.5, "top": 0, "bottom": 1}, slice(None), slice(102, None)),
        ({"units": "mm", "left": 0.01, "right": 0.02}, slice(None), slice(20, 40)),
        ({"units": "um", "top": 10, "regionHeight": 5}, slice(20, 30), slice(None)),
        ({"left": 5, "unitsWH": "fraction", "regionWidth": 0.5}, slice(None), slice(5, 106)),
    ],
)
def test_regions_are_slices(server: ImageServer, item: str, query: dict[str, Any], rows: slice, columns: slice) -> None:
    for frame, plane in enumerate(STACK.reshape(6, HEIGHT, WIDTH)):
        region = server.pixels(item, frame=frame, **query)
        np.testing.assert_array_equal(region[..., 0], plane[rows, columns], strict=True)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_pickle_protocols(server: ImageServer, item: str, protocol: int) -> None:
    region = server.pixels(item, protocol=protocol, left=1, right=3, top=1, bottom=3)
    np.testing.assert_array_equal(region[..., 0], STACK[0, 0, 1:3, 1:3], strict=True)
    _, _, body = server.request("GET", f"item/{item}/tiles/region", encoding=f"pickle:{protocol}", right=1)
    assert body[:2] == pickle.dumps(None, protocol)[:2]
    _, _, body = server.request("GET", f"item/{item}/tiles/region", encoding="pickle", right=1)
    assert body[:2] == pickle.dumps(None, 4)[:2]


def test_smaller_regions(server: ImageServer, item: str) -> None:
    region = server.pixels(item, width=100, height=1000)
    assert region.shape == (148, 100, 1) and region.dtype == np.uint16
    expected = STACK[0, 0][np.arange(148) * HEIGHT // 148][:, np.arange(100) * WIDTH // 100]
    assert np.abs(region[..., 0].astype(int) - expected).max() < 300
    assert server.pixels(item, mm_x=0.001).shape == (150, 101, 1)


@pytest.mark.parametrize("encoding", ["PNG", "JPEG", "JFIF", "TIFF"])
def test_encoded_regions(server: ImageServer, item: str, encoding: str) -> None:
    # Without a style, 16 bits are reduced to their upper 8, except in TIFF.
    query = {"left": 8, "top": 16, "right": 72, "bottom": 112, "frame": 4}
    status, kind, body = server.request("GET", f"item/{item}/tiles/region", encoding=encoding, **query)
    assert (status, kind) == (200, {"JFIF": "image/jpeg"}.get(encoding, f"image/{encoding.lower()}"))
    image = np.asarray(Image.open(io.BytesIO(body)))
    expected = STACK[1, 1, 16:112, 8:72]
    if encoding == "TIFF":
        np.testing.assert_array_equal(image, expected)
    else:
        image = image if image.ndim == 2 else image[..., 0]
        assert np.abs(image.astype(int) - expected // 256).max() <= (0 if encoding == "PNG" else 4)
    assert server.request("GET", f"item/{item}/tiles/region")[1] == "image/jpeg"


def test_styles(server: ImageServer, item: str) -> None:
    def styled(style: dict[str, Any], **query: Any) -> Array:
        text = json.dumps(style)
        path = f"item/{item}/tiles/region"
        status, _, body = server.request("GET", path, encoding="PNG", style=text, **query)
        assert status == 200, body
        return np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(int)

    contrast = styled({"min": 1000, "max": 5000}, frame=2)
    expected = np.clip((STACK[0, 2].astype(float) - 1000) / 4000, 0, 1) * 255
    assert np.abs(contrast - expected[..., None]).max() <= 1
    # One frame in red and one in blue, whatever frame is asked for.
    bands = [
        {"frame": 0, "palette": "#f00", "min": 0, "max": 9000},
        {"frame": 5, "palette": "#00f", "min": 0, "max": 9000},
    ]
    both = styled({"bands": bands})
    assert (both[..., 1] == 0).all()
    for colour, plane in ((0, STACK[0, 0]), (2, STACK[1, 2])):
        assert np.abs(both[..., colour] - np.clip(plane / 9000, 0, 1) * 255).max() <= 1
    # A style does not stay with the image.
    np.testing.assert_array_equal(server.pixels(item)[..., 0], STACK[0, 0])
    again = styled({"min": 1000, "max": 5000}, frame=2)
    np.testing.assert_array_equal(contrast, again)


BAD_REGIONS: list[tuple[dict[str, Any], str]] = [
    ({"left": "x"}, "left"),
    ({"left": "nan"}, "left"),
    ({"top": "inf"}, "top"),
    ({"left": 500}, "region is empty"),
    ({"left": 20, "right": 10}, "region is empty"),
    ({"regionWidth": 0}, "region is empty"),
    ({"regionWidth": -4}, "region is empty"),
    ({"frame": 6}, "Frame 6 does not exist; the image has 6"),
    ({"frame": -1}, "Frame -1 does not exist"),
    ({"frame": "one"}, "frame"),
    ({"units": "parsec"}, "Invalid units"),
    ({"width": 0}, "at least 1"),
    ({"height": -3}, "at least 1"),
    ({"width": 10**9}, "at most 8192 pixels"),
    ({"mm_x": 1e-9}, "at most 8192 pixels"),
    ({"width": 10, "height": 10**9, "fill": "#000"}, "at most 8192 pixels"),
    ({"mm_x": 1e-300}, "at most 8192 pixels"),
    ({"magnification": 1e308}, "infinity"),
    ({"units": "km", "left": 1e308}, "infinity"),
    ({"encoding": "GIF"}, "JPEG, JFIF, PNG, TIFF"),
    ({"encoding": "TILED"}, "JPEG, JFIF, PNG, TIFF"),
    ({"encoding": "pickle:6"}, "pickle:5"),
    ({"encoding": "pickle:x"}, "pickle:5"),
    ({"resample": "7"}, "resample"),
    ({"mm_x": -1}, "mm_x must be above 0"),
    ({"magnification": 0}, "magnification must be above 0"),
    ({"jpegQuality": 0}, "jpegQuality"),
    ({"jpegSubsampling": 3}, "jpegSubsampling"),
    ({"tiffCompression": "jpeg", "encoding": "TIFF"}, "tiffCompression"),
    ({"fill": "no colour", "width": 10, "height": 10}, "color"),
    ({"style": "{"}, "style must be valid JSON"),
    ({"style": "[]"}, "not a valid json object"),
    ({"style": '{"bands": 3}'}, "style"),
    ({"style": '{"min": {"a": 1}}'}, "style"),
    ({"style": '{"bands": [{"palette": "no such"}]}'}, "palette"),
    ({"style": '{"bands": [{"frame": 6}]}'}, "Frame does not exist"),
]


@pytest.mark.parametrize(("query", "message"), BAD_REGIONS)
def test_bad_regions(server: ImageServer, item: str, query: dict[str, Any], message: str) -> None:
    assert message in server.error(f"item/{item}/tiles/region", **{"encoding": "PNG", **query})
    if not any(key.startswith(("jpeg", "tiff")) for key in query):  # exact pixels are not compressed
        assert message in server.error(f"item/{item}/tiles/region", **{"encoding": "pickle:5", **query})
    # The image is as usable as before.
    np.testing.assert_array_equal(server.pixels(item, right=2, bottom=2)[..., 0], STACK[0, 0, :2, :2])


# Tiles and thumbnails


def test_tiles(server: ImageServer, tmp_path: Path) -> None:
    image = (smooth(2, 600, 1500) // 256).astype(np.uint8)
    tifffile.imwrite(tmp_path / "wide.tif", image, imagej=True, metadata={"axes": "CYX"})
    path = f"item/{server.load(tmp_path / 'wide.tif')}/tiles"
    tiles = server.get(path)
    assert (tiles["levels"], tiles["tileWidth"], tiles["tileHeight"]) == (2, 1024, 1024)

    def tile(name: str, **query: Any) -> Array:
        status, kind, body = server.request("GET", f"{path}/{name}", encoding="PNG", edge="crop", **query)
        assert (status, kind) == (200, "image/png")
        return np.asarray(Image.open(io.BytesIO(body)))

    for frame in range(2):
        np.testing.assert_array_equal(tile(f"fzxy/{frame}/1/1/0"), image[frame, :, 1024:])
        np.testing.assert_array_equal(tile(f"fzxy/{frame}/0/0/0"), image[frame, ::2, ::2])
        np.testing.assert_array_equal(tile("zxy/1/0/0", frame=frame), image[frame, :, :1024])
    contrast = tile("fzxy/1/1/1/0", style=json.dumps({"min": 100, "max": 200}))
    expected = np.clip((image[1, :, 1024:].astype(float) - 100) / 100, 0, 1) * 255
    assert np.abs(contrast[..., 0] if contrast.ndim == 3 else contrast - expected).max() <= 1
    assert server.request("GET", f"{path}/zxy/0/0/0")[1] == "image/jpeg"
    for name in (
        "zxy/2/0/0",
        "zxy/0/1/0",
        "zxy/0/0/1",
        "fzxy/2/0/0/0",
        "fzxy/-1/0/0/0",
        "zxy/99999999999999999999/0/0",
    ):
        server.error(f"{path}/{name}", status=404)
    for name in ("zxy/a/0/0", "zxy/-1/0/0", "fzxy/x/0/0/0", "zxy/0/0/0.5"):
        server.error(f"{path}/{name}")
    for query in ({"encoding": "pickle:5"}, {"edge": "no"}, {"style": "{}}"}):
        server.error(f"{path}/zxy/0/0/0", **query)


def test_thumbnails(server: ImageServer, item: str) -> None:
    path = f"item/{item}/tiles/thumbnail"
    status, kind, body = server.request("GET", path)
    assert (status, kind, Image.open(io.BytesIO(body)).size) == (200, "image/jpeg", (172, 256))
    _, _, body = server.request("GET", path, width=50, frame=3, encoding="pickle:4")
    small = pickle.loads(body)
    assert small.shape == (74, 50, 1)
    assert np.abs(small[..., 0].astype(int) - STACK[1, 0, ::4, ::4][:74, :50]).max() < 1500
    for query in ({"width": 1}, {"width": 10**6}, {"frame": 6}, {"encoding": "GIF"}, {"height": "x"}):
        server.error(path, **query)
