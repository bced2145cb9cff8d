"""What images may not ask for: styles that run code, descriptions without end, files that are no pictures, damage."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from workbench_image_examples import add_content
from workbench_image_server import ImageServer

from workbench.errors import InvalidImageError
from workbench.images.picture_input import PictureInput
from workbench.server import tiles

PLANE = np.random.default_rng(7).integers(0, 60000, (64, 48)).astype(np.uint16)


@pytest.fixture(scope="module")
def item(server: ImageServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("plane") / "plane.tif"
    tifffile.imwrite(path, PLANE)
    return server.load(path)


def upload(server: ImageServer, files: dict[str, bytes]) -> str:
    """Put files into a new folder, each in an item, and return the last item."""
    store = server.store
    folder = store.folders.create(store.users.user["_id"], "files", parent_type="user", rename=True)
    for name, content in files.items():
        item = store.items.create(folder["_id"], name)
        add_content(store, item["_id"], name, content)
    return str(item["_id"])


def picture(kind: str, shape: tuple[int, ...] = (200, 300, 3)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def tiff(image: np.ndarray[Any, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


def with_size(png: bytes, width: int, height: int) -> bytes:
    """Write another size into the header of a PNG file."""
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


# Styles


def calling(path: Path) -> dict[str, Any]:
    """Give an entry that makes a file if it is followed."""
    return {"name": "pydoc.pipepager", "parameters": {"cmd": f"touch {path}"}, "stage": ["pre", "main", "band"]}


@pytest.mark.parametrize("place", ["region", "thumbnail", "zxy/0/0/0", "histogram"])
def test_styles_call_no_functions(server: ImageServer, item: str, tmp_path: Path, place: str) -> None:
    made = tmp_path / "made"
    function = calling(made)
    for style in ({"function": function}, {"min": 0, "function": [function]}, {"bands": [{"function": function}]}):
        assert "'function'" in server.error(f"item/{item}/tiles/{place}", style=json.dumps(style))
    assert not made.exists()


@pytest.mark.parametrize(
    "style",
    [
        {"unknown": 1},
        {"bands": [{"bands": []}]},
        {"bands": []},
        {"bands": [3]},
        {"bands": [{}] * 101},
        {"band": "os"},
        {"band": True},
        {"frame": -1},
        {"frame": "0"},
        {"framedelta": 0.5},
        {"min": "auto:x"},
        {"min": [1]},
        {"max": 1e999},
        {"palette": "viridis.Viridis_12"},
        {"palette": "viridis.__loader__"},
        {"palette": ["#000", [1, 0, 0]]},
        {"palette": []},
        {"composite": "screen"},
        {"dtype": "O"},
        {"axis": 9},
        {"icc": "perceptual"},
        {"nodata": {}},
        {"style": {}},
    ],
)
def test_styles_hold_plain_values_only(server: ImageServer, item: str, style: dict[str, Any]) -> None:
    text = json.dumps(style).replace("Infinity", "1e999")
    assert "style cannot be used" in server.error(f"item/{item}/tiles/region", style=text)


@pytest.mark.parametrize(
    "style",
    [
        {"min": 0, "max": "full", "palette": ["#000", "lime"], "clamp": False, "scheme": "discrete", "nodata": 3},
        {"min": "min", "max": "max:0.01", "composite": "multiply", "dtype": "uint8", "axis": 0, "icc": False},
        {"bands": [{"band": 1, "frame": None, "palette": "rgb(1, 2, 3)"}, {"framedelta": 0, "band": "red"}]},
    ],
)
def test_plain_styles_are_used(server: ImageServer, item: str, style: dict[str, Any]) -> None:
    status, kind, body = server.request("GET", f"item/{item}/tiles/region", encoding="PNG", style=json.dumps(style))
    assert (status, kind) == (200, "image/png"), body


# Descriptions of several files


def describe(server: ImageServer, source: dict[str, Any], **whole: Any) -> str:
    """Upload an image and a description that refers to it, and return the item of the description."""
    text = json.dumps({"sources": [{"path": "plane.tif", **source}], **whole})
    return upload(server, {"plane.tif": tiff(PLANE), "multi.json": text.encode()})


def test_descriptions_call_no_functions(server: ImageServer, tmp_path: Path) -> None:
    made = tmp_path / "made"
    style = {"function": calling(made)}
    for source in ({"style": style}, {"params": {"style": style}}, {"params": {"style": json.dumps(style)}}):
        item = describe(server, source)
        assert "is not a key that it may have" in server.error(f"item/{item}/tiles", "POST")
    assert not made.exists()


@pytest.mark.parametrize(
    "source",
    [
        {"params": {"maxSize": 10**9}},
        {"params": {"noSuchOption": 1}},
        {"params": 3},
        {"sourceName": "test"},
        {"pathPattern": ".*"},
        {"z": -1},
        {"z": 0.5},
        {"xy": 10**9},
        {"tValues": [10**6]},
        {"cValues": []},
        {"zValues": "0"},
        {"zStep": 0},
        {"position": {"x": 1e9}},
        {"position": {"scale": 0}},
        {"position": {"warp": {}}},
        {"position": {"crop": {"left": 1.5}}},
        {"channel": 3},
        {"channels": "abc"},
        {"sampleScale": 0},
    ],
)
def test_sources_say_where_they_go_and_no_more(server: ImageServer, source: dict[str, Any]) -> None:
    item = describe(server, source)
    assert f"{next(iter(source))!r} is not a key" in server.error(f"item/{item}/tiles", "POST")


@pytest.mark.parametrize(
    "whole", [{"width": 10**7}, {"height": 0}, {"axes": ["q"]}, {"dtype": "O"}, {"scale": {"mm_x": -1}}, {"more": 1}]
)
def test_descriptions_have_known_keys(server: ImageServer, whole: dict[str, Any]) -> None:
    item = describe(server, {}, **whole)
    assert f"{next(iter(whole))!r} is not a key" in server.error(f"item/{item}/tiles", "POST")


def test_descriptions_make_images_that_can_be_listed(server: ImageServer) -> None:
    item = describe(server, {"z": 99_999, "t": 99_999, "xy": 99_999})
    assert "more than 100000 frames" in server.error(f"item/{item}/tiles", "POST")
    item = describe(server, {"position": {"scale": 10**6}})
    assert "larger than 1000000 pixels" in server.error(f"item/{item}/tiles", "POST")
    item = describe(server, {"framesAsAxes": {"z": 7}})
    server.request("POST", f"item/{item}/tiles")  # whatever comes of it


def test_what_a_description_may_say(server: ImageServer) -> None:
    source = {"z": 1, "cValues": [0], "position": {"x": 5, "y": 3}, "channel": "DAPI", "params": {"frame": 0}}
    item = describe(server, source, name="a", scale={"mm_x": 0.001}, uniformSources=True, width=60, height=70)
    assert server.request("POST", f"item/{item}/tiles")[0] == 200
    assert server.get(f"item/{item}/tiles")["IndexRange"] == {"IndexZ": 2}
    np.testing.assert_array_equal(server.pixels(item, frame=1, left=5, top=3, right=53, bottom=67)[..., 0], PLANE)


# Files


def test_only_three_kinds_of_files_are_shown(server: ImageServer) -> None:
    for kind in ("GIF", "BMP", "PPM", "WEBP"):
        item = upload(server, {f"a.{kind.lower()}": picture(kind)})
        assert server.error(f"item/{item}/tiles", "POST") == "Only TIFF, PNG and JPEG files can be shown. Convert it."


def test_large_pictures_are_refused_by_their_header(server: ImageServer, tmp_path: Path) -> None:
    huge = with_size(picture("PNG"), 100_000, 100_000)
    item = upload(server, {"huge.png": huge})
    assert "100000 x 100000 pixels" in server.error(f"item/{item}/tiles", "POST")
    (tmp_path / "huge.png").write_bytes(huge)
    with pytest.raises(InvalidImageError, match="too large for a file of this type"):
        PictureInput(tmp_path / "huge.png")


def test_damaged_pixels_are_the_files_fault(server: ImageServer) -> None:
    png, jpeg = picture("PNG"), picture("JPEG")
    for name, content in {
        "cut.png": png[: len(png) // 2],
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "bad.png": png.replace(b"IDAT\x78", b"IDAT\0"),
    }.items():
        item = upload(server, {name: content})
        for _ in range(2):
            message = server.error(f"item/{item}/tiles", "POST")
            assert message == "The image file is damaged: its pixels cannot be read. Upload a whole copy of it.", name


def test_damaged_planes_are_told_when_they_are_read(server: ImageServer) -> None:
    stack = tiff(np.stack([PLANE] * 3), photometric="minisblack", compression="zlib", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(io.BytesIO(stack)) as file:
        start = file.pages[1].dataoffsets[0]
    item = upload(server, {"bad.tif": stack[: start + 100] + bytes(300) + stack[start + 400 :]})
    assert server.request("POST", f"item/{item}/tiles")[0] == 200
    for _ in range(2):
        assert "The TIFF file cannot be read" in server.error(f"item/{item}/tiles/region", frame=1)
        np.testing.assert_array_equal(server.pixels(item, frame=2)[..., 0], PLANE)


# Output


def test_no_output_is_larger_than_the_limit(server: ImageServer, item: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tiles._LARGEST_OUTPUT_BYTES == 2**30
    path = f"item/{item}/tiles"
    monkeypatch.setattr(tiles, "_LARGEST_OUTPUT_BYTES", PLANE.nbytes)
    np.testing.assert_array_equal(server.pixels(item)[..., 0], PLANE)
    monkeypatch.setattr(tiles, "_LARGEST_OUTPUT_BYTES", PLANE.nbytes - 1)
    for query in ({"encoding": "pickle:5"}, {"encoding": "PNG"}, {"fill": "#000", "width": 10, "height": 2000}):
        assert "Ask for a part with left, top, right, bottom." in server.error(f"{path}/region", **query)
    assert "1 GiB" in server.error(f"{path}/thumbnail", width=64)
    assert "1 GiB" in server.error(f"{path}/region", style='{"min": 0}', right=24)
    assert server.pixels(item, bottom=63).shape == (63, 48, 1)
    assert server.get(f"{path}/histogram")[0]["samples"] == PLANE.size  # counted piece by piece


def test_pixels_are_not_copied_again() -> None:
    class Bytes(bytes):
        pass

    data = Bytes(b"encoded")
    response = tiles._pixels(data, "image/png", 0)
    assert response.body is data
    assert response.headers["X-Content-Type-Options"] == "nosniff"
