"""The routes of images over HTTP: regions against slices of arrays, metadata against large_image's, bad requests."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from workbench_image_server import ImageServer, open_files_in, serve_images

from workbench.errors import RestError
from workbench.images.source import ImageSources, sources_of
from workbench.store.documents import Document
from workbench.store.store import Store

Array = NDArray[Any]
HEIGHT, WIDTH = 301, 203


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageServer]:
    with serve_images(tmp_path_factory.mktemp("images") / "data") as running:
        yield running


def smooth(*shape: int) -> Array:
    """16-bit values that hardly change from a pixel to the next, with some noise."""
    *outer, height, width = shape
    ramp = np.add.outer(np.arange(height) * 50, np.arange(width) * 30)
    noise = np.random.default_rng(5).integers(0, 100, (*outer, height, width))
    return (ramp + noise + 1000 * np.arange(int(np.prod(outer))).reshape(*outer, 1, 1)).astype(np.uint16)


STACK = smooth(2, 3, HEIGHT, WIDTH)  # T, C


@pytest.fixture(scope="module")
def item(server: ImageServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two times and three channels, with pixels of 0.5 µm."""
    path = tmp_path_factory.mktemp("stack") / "stack.ome.tif"
    metadata = {"axes": "TCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": ["a", "b", "c"]}}
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata=metadata)
    return server.load(path)


def upload(server: ImageServer, name: str, content: bytes, folder: Document | None = None) -> str:
    """Add a file to the store as a client would, and return its item."""
    store = server.store
    if folder is None:
        folder = store.folders.create(store.users.user["_id"], "uploads", parent_type="user", reuse_existing=True)
    new = store.items.create(folder["_id"], name)
    add_content(store, new["_id"], name, content)
    return str(new["_id"])


def add_content(store: Store, item_id: str, name: str, content: bytes) -> Document:
    partial = store.contents.new_partial()
    partial.write_bytes(content)
    return store.files.create(item_id, name, store.contents.keep(partial))


def encoded(image: Array, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def tiff(image: Array, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **{"photometric": "minisblack", **options})
    return buffer.getvalue()


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


# Histograms and bands


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


# Images that were not imported


def test_an_uploaded_file_becomes_an_image(server: ImageServer) -> None:
    colours = np.random.default_rng(3).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    item = upload(server, "photo.png", encoded(colours))
    assert "No large image" in server.error(f"item/{item}/tiles")
    status, _, body = server.request("POST", f"item/{item}/tiles")
    assert (status, body) == (200, b"null")
    assert server.store.items.load(item)["largeImage"]["sourceName"] == "pil"
    tiles = server.get(f"item/{item}/tiles")
    assert (tiles["bandCount"], tiles["sizeX"], tiles["sizeY"]) == (3, 30, 20)
    np.testing.assert_array_equal(server.pixels(item), colours)
    assert list(server.get(f"item/{item}/tiles/bands")) == ["1", "2", "3"]
    assert len(server.get(f"item/{item}/tiles/histogram", bins=4)) == 3
    assert "already" in server.error(f"item/{item}/tiles", "POST")
    assert server.request("DELETE", f"item/{item}/tiles")[2] == b'{"deleted":true}'
    assert server.request("DELETE", f"item/{item}/tiles")[2] == b'{"deleted":false}'
    assert "No large image" in server.error(f"item/{item}/tiles/region")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"compression": "zlib"}, id="compressed"),
        pytest.param({"compression": "zlib", "tile": (16, 16), "byteorder": ">"}, id="tiled, big-endian"),
        pytest.param({"truncate": True}, id="one page for all"),
        pytest.param({"imagej": True}, id="imagej"),
        pytest.param({"planarconfig": "separate", "photometric": "rgb", "metadata": None}, id="colours apart"),
    ],
)
def test_uploaded_tiff_files(server: ImageServer, options: dict[str, Any]) -> None:
    stack = smooth(3, 40, 50)
    item = upload(server, "stack.tif", tiff(stack, **{"metadata": {"axes": "ZYX"}, **options}))
    assert server.request("POST", f"item/{item}/tiles")[0] == 200
    if "planarconfig" in options:
        np.testing.assert_array_equal(server.pixels(item), np.moveaxis(stack, 0, 2))
        return
    planes = server.planes(item)
    for z in range(3):
        np.testing.assert_array_equal(planes[0, 0, z, 0], stack[z], strict=True)


@pytest.mark.parametrize("content", [b"", b"no image", b"II*\0no tiff", b"II*\0\x08\0\0\0", tiff(STACK[0, 0])[:9000]])
def test_what_is_no_image_is_refused(server: ImageServer, content: bytes) -> None:
    item = upload(server, "image", content)
    server.error(f"item/{item}/tiles", "POST")
    assert "largeImage" not in server.store.items.load(item)


def test_the_file_must_be_clear(server: ImageServer, item: str) -> None:
    empty = server.store.items.create(server.store.items.load(item)["folderId"], "empty")["_id"]
    assert "fileId" in server.error(f"item/{empty}/tiles", "POST")
    other = server.store.items.load(item)["largeImage"]["fileId"]
    assert "must be in" in server.error(f"item/{empty}/tiles", "POST", fileId=other)
    server.store.items.delete(empty)
    server.error(f"item/{empty}/tiles")
    server.error("item/nonsense/tiles/region")
    assert server.request("GET", f"item/{item}/tiles", token="wrong")[0] == 401


def test_replaced_bytes_are_seen_at_once(server: ImageServer) -> None:
    first, second = smooth(40, 50), smooth(30, 60) + 7
    item = upload(server, "image.tif", tiff(first))
    server.request("POST", f"item/{item}/tiles")
    path = f"item/{item}/tiles"
    for image, content in ((first, None), (second, tiff(second)), (first, tiff(first, compression="zlib"))):
        if content is not None:
            (file,) = server.store.files.children(item)
            partial = server.store.contents.new_partial()
            partial.write_bytes(content)
            server.store.files.replace_content(file["_id"], server.store.contents.keep(partial))
        np.testing.assert_array_equal(server.pixels(item)[..., 0], image)
        assert server.get(f"{path}/histogram")[0]["max"] == image.max()
        assert server.request("GET", f"{path}/thumbnail", encoding="TIFF")[0] == 200
    (file,) = server.store.files.children(item)
    server.store.files.delete(file["_id"])
    assert "deleted" in server.error(path)


# Several files as one image


@pytest.mark.parametrize("name", ["multi-source2.json", "multi.yaml"])
def test_multi_source_images(server: ImageServer, name: str) -> None:
    """As the platform makes them: an item describes how the images beside it make up one."""
    stack = smooth(2, 2, 40, 50)  # XY, C
    user = server.store.users.user["_id"]
    folder = server.store.folders.create(user, f"sources of {name}", parent_type="user")
    sources = []
    for position, channel in np.ndindex(2, 2):
        part = f"xy{position}_c{channel}.tif"
        upload(server, part, tiff(stack[position, channel], compression="zlib"), folder)
        sources.append({"path": f"./{part}", "xyValues": [position], "cValues": [channel]})
    description = {"channels": ["DAPI", "GFP"], "scale": {"mm_x": 0.0005, "mm_y": 0.0005}, "sources": sources}
    text = json.dumps(description)
    if name.endswith("yaml"):
        lines = [f"  - {json.dumps(source)}" for source in sources]  # JSON is YAML
        text = "\n".join(["channels: [DAPI, GFP]", "scale: {mm_x: 0.0005, mm_y: 0.0005}", "sources:", *lines])
    item = upload(server, name, text.encode(), folder)
    assert server.request("POST", f"item/{item}/tiles")[0] == 200
    tiles = server.get(f"item/{item}/tiles")
    assert tiles["channels"] == ["DAPI", "GFP"] and tiles["channelmap"] == {"DAPI": 0, "GFP": 1}
    assert tiles["IndexRange"] == {"IndexC": 2, "IndexXY": 2} and tiles["mm_x"] == 0.0005
    planes = server.planes(item)
    for position, channel in np.ndindex(2, 2):
        np.testing.assert_array_equal(planes[position, 0, 0, channel], stack[position, channel], strict=True)
    internal = json.dumps(server.get(f"item/{item}/tiles/internal_metadata"))
    assert str(server.store.data_folder) not in internal
    style = json.dumps({"bands": [{"frame": 3, "min": 0, "max": 9000, "palette": "#fff"}]})
    assert server.request("GET", f"item/{item}/tiles/region", style=style)[0] == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("sources: [", "cannot be read"),
        ("[]", "no list of sources"),
        ('{"sources": 3}', "no list of sources"),
        ('{"sources": [3]}', "'sources' is not a key"),
        ('{"sources": [{}]}', "must name each of its images"),
        ('{"sources": [{"path": "/etc/passwd"}]}', "needs passwd, which is not in its folder"),
        ('{"sources": [{"path": "../image.tif"}]}', "needs image.tif, which is not in its folder"),
        ('{"sources": [{"path": "plain.tif", "xy": "first"}]}', "'xy' is not a key"),
        ('{"sources": [{"path": "self.json"}]}', "Only TIFF, PNG and JPEG files can be shown. Convert it."),
    ],
)
def test_bad_multi_source_images(server: ImageServer, text: str, message: str) -> None:
    user = server.store.users.user["_id"]
    folder = server.store.folders.create(user, "bad sources", parent_type="user", rename=True)
    upload(server, "plain.tif", tiff(STACK[0, 0]), folder)
    item = upload(server, "self.json", text.encode(), folder)
    assert message in server.error(f"item/{item}/tiles", "POST")


# Many at a time, and long ones


def test_many_threads_get_the_planes_that_they_ask_for(server: ImageServer, item: str) -> None:
    compressed = upload(server, "compressed.tif", tiff(STACK[0], compression="zlib", metadata={"axes": "CYX"}))
    server.request("POST", f"item/{compressed}/tiles")
    wrong: list[Any] = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(12):
            frame, left, top = (int(rng.integers(limit)) for limit in (3, 150, 250))
            one = (item, compressed)[int(rng.integers(2))]
            region = server.pixels(one, frame=frame, left=left, top=top)
            if not np.array_equal(region[..., 0], STACK[0, frame, top:, left:]):
                wrong.append((one, frame, left, top))
            style = json.dumps({"min": 0, "max": int(rng.integers(1, 9000))})
            status, _, body = server.request("GET", f"item/{one}/tiles/fzxy/{frame}/0/0/0", style=style)
            if status != 200:
                wrong.append(body)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_image_is_used_by_one_thread_at_a_time(server: ImageServer, item: str) -> None:
    image = server.store.items.load(item)
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait()
        with sources_of(server.store).open(image):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with sources_of(server.store).open(image):
        inside.set()
        thread.join(timeout=0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/fd")
def test_few_files_stay_open(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "data")) as store:
        user = store.users.user["_id"]
        folder = store.folders.create(user, "many", parent_type="user")
        images = []
        for number in range(20):
            item = store.items.create(folder["_id"], f"{number}.tif")
            file = add_content(store, item["_id"], f"{number}.tif", tiff(smooth(8, 9) + number))
            images.append(store.items.set_large_image(item["_id"], {"fileId": file["_id"]}))
        sources = ImageSources(store)
        for _ in range(2):
            for number, image in enumerate(images):
                with sources.open(image) as source, sources.open(images[0], style='{"max": 9}') as styled:
                    pixels = source.getRegion(format="numpy")[0]
                    styled.getRegion(format="numpy")
                np.testing.assert_array_equal(pixels[..., 0], smooth(8, 9) + number)
                assert open_files_in(store.files_folder) <= 20
        with pytest.raises(RestError, match="deleted"), sources.open({**images[0], "largeImage": {"fileId": "0"}}):
            pass
        sources.close()
        assert open_files_in(store.files_folder) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/statm")
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "compressionargs": {"level": 0}}])
def test_a_long_image_is_not_loaded_into_memory(tmp_path: Path, options: dict[str, Any]) -> None:
    plane = smooth(1024, 1024)
    with closing(Store(tmp_path / "data")) as store:
        folder = store.folders.create(store.users.user["_id"], "long", parent_type="user")
        for length in (1, 60):  # the first for imports and caches
            item = store.items.create(folder["_id"], f"{length}.tif")
            partial = store.contents.new_partial()
            shape = (length, 1024, 1024)
            tifffile.imwrite(partial, (plane + z for z in range(length)), shape=shape, dtype="uint16", **options)
            file = store.files.create(item["_id"], item["name"], store.contents.keep(partial))
            image = store.items.set_large_image(item["_id"], {"fileId": file["_id"]})
            before = private_bytes()
            for z in range(length):
                with sources_of(store).open(image) as source:
                    corner = source.getRegion(format="numpy", frame=z, region={"right": 5, "bottom": 5})[0]
                np.testing.assert_array_equal(corner[..., 0], plane[:5, :5] + z)
        grown = private_bytes() - before
        sources_of(store).close()
    assert grown < 50 * 2**20 < 60 * plane.nbytes


def private_bytes() -> int:
    """Memory of this process without the files that are mapped into it."""
    with open("/proc/self/statm", encoding="ascii") as file:
        _, resident, shared, *_ = (int(number) * os.sysconf("SC_PAGE_SIZE") for number in file.read().split())
    return resident - shared
