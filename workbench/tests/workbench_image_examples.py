"""Images for tests: arrays, their files, and ways into a store."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from workbench_image_server import ImageServer

from workbench.store.documents import Document
from workbench.store.store import Store

Array = NDArray[Any]
HEIGHT, WIDTH = 301, 203


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


def values(*shape: int, dtype: str = "uint16", seed: int = 1) -> Array:
    """Values over the whole range of a type, so that none can be scaled or cut unseen."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return (rng.standard_normal(shape) * 1e5).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def write_all(folder: Path, names: str) -> tuple[list[Path], dict[str, Array]]:
    """Write a small image for each name."""
    folder.mkdir(exist_ok=True)
    images = {name: values(5, 6, seed=seed) for seed, name in enumerate(names.split())}
    for name, image in images.items():
        tifffile.imwrite(folder / f"{name}.tif", image, photometric="minisblack")
    return [folder / f"{name}.tif" for name in images], images


def assert_planes(server: ImageServer, item_id: str, expected: Array) -> None:
    """Compare a dataset with an array of the axes XY, T, Z, C, Y and X."""
    planes = server.planes(item_id)
    assert sorted(planes) == list(np.ndindex(expected.shape[:4]))
    for place, plane in planes.items():
        assert plane.dtype == expected.dtype
        np.testing.assert_array_equal(plane, expected[place], strict=True)
