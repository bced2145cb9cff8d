"""Images that were uploaded, not imported: what becomes one, what is refused, and replaced bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import workbench_image_examples
from workbench_image_examples import STACK, encoded, smooth, tiff, upload
from workbench_image_server import ImageServer

item = workbench_image_examples.item


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


def test_a_file_of_this_machine_is_no_companion(server: ImageServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret.xml"
    secret.write_text('<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Secret>42</Secret></OME>')
    xml = f'<?xml version="1.0"?><OME><BinaryOnly MetadataFile="{secret}" UUID="urn:uuid:0"/></OME>'
    item = upload(server, "image.ome.tif", tiff(STACK[0, 0], description=xml, metadata=None))
    assert server.request("POST", f"item/{item}/tiles")[0] == 200
    shown = json.dumps([server.get(f"item/{item}/tiles"), server.get(f"item/{item}/tiles/internal_metadata")])
    assert "BinaryOnly" in shown and "Secret" not in shown


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
