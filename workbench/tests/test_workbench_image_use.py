"""Many threads and many images at a time, and long ones."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import workbench_image_examples
from workbench_image_examples import STACK, add_content, smooth, tiff, upload
from workbench_image_server import ImageServer, open_files_in

from workbench.errors import RestError
from workbench.images.source import ImageSources, sources_of
from workbench.store.store import Store

item = workbench_image_examples.item


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
