"""A server with imported images, and the requests that the tests of images make to it."""

from __future__ import annotations

import json
import os
import pickle
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from workbench.images.importing import import_dataset
from workbench.images.source import sources_of
from workbench.server.running import running_server
from workbench.store.store import Store

TOKEN = "the-token-of-the-image-tests"
INDEX_KEYS = ("IndexXY", "IndexT", "IndexZ", "IndexC")


class ImageServer:
    """A running server, with its store opened a second time beside it, as an import does."""

    def __init__(self, store: Store, url: str) -> None:
        self.store = store
        self.url = url

    def request(self, method: str, path: str, body: bytes | None = None, **query: Any) -> tuple[int, str, bytes]:
        """Return status, content type and body of an answer, whatever it is."""
        request = urllib.request.Request(
            f"{self.url}/api/v1/{path}?{urlencode(query)}", body, {"Girder-Token": TOKEN}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers.get_content_type(), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers.get_content_type(), error.read()

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of an answer that must be a good one."""
        status, kind, body = self.request("GET", path, **query)
        assert (status, kind) == (200, "application/json"), (status, body[:500])
        return json.loads(body)

    def error(self, path: str, method: str = "GET", status: int = 400, **query: Any) -> str:
        """Return the message of an answer that must be an error."""
        given, _, body = self.request(method, path, **query)
        assert given == status, (given, body[:500])
        return str(json.loads(body)["message"])

    def pixels(self, item_id: str, protocol: int = 5, **query: Any) -> NDArray[Any]:
        """Return a region (H, W, bands) as the platform's clients fetch it."""
        path = f"item/{item_id}/tiles/region"
        status, kind, body = self.request("GET", path, encoding=f"pickle:{protocol}", **query)
        assert (status, kind) == (200, "application/octet-stream"), (status, body[:500])
        array = pickle.loads(body)
        assert type(array) is np.ndarray and array.ndim == 3
        return array

    def load(self, *paths: Path, **options: Any) -> str:
        """Import files as a dataset of an unused name, and return its item."""
        taken = len(self.store.folders.datasets())
        options.setdefault("name", f"dataset {taken}")
        folder = import_dataset(self.store, list(paths), **options)
        assert folder["meta"]["subtype"] == "contrastDataset"
        (item,) = self.store.items.children(folder["_id"])
        assert item["_id"] == folder["meta"]["selectedLargeImageId"]
        return str(item["_id"])

    def planes(self, item_id: str) -> dict[tuple[int, int, int, int], NDArray[Any]]:
        """Return every plane (H, W) of a dataset by its place on the axes XY, T, Z and C."""
        tiles = self.get(f"item/{item_id}/tiles")
        frames = tiles.get("frames", [{}])
        assert [frame.get("Frame", 0) for frame in frames] == list(range(len(frames)))
        planes = {}
        for number, frame in enumerate(frames):
            place = tuple(frame.get(key, 0) for key in INDEX_KEYS)
            region = self.pixels(item_id, frame=number)
            assert place not in planes and region.shape == (tiles["sizeY"], tiles["sizeX"], 1)
            planes[place] = region[..., 0]
        ranges = {key: 1 + max(place[i] for place in planes) for i, key in enumerate(INDEX_KEYS)}
        assert tiles.get("IndexRange", {}) == {key: size for key, size in ranges.items() if size > 1}
        return planes


@contextmanager
def serve_images(data: Path) -> Iterator[ImageServer]:
    """Serve a data folder."""
    with (
        running_server(data, host="127.0.0.1", port=0, token=TOKEN, workers=[]) as server,
        closing(Store(data)) as store,
    ):
        yield ImageServer(store, server.url)
        sources_of(store).close()


def files_in(store: Store) -> list[Path]:
    """Return what lies in the folder of contents, finished or not."""
    return sorted(path for path in store.files_folder.rglob("*") if path.is_file())


def open_files_in(folder: Path) -> int:
    """Count the open files of this process that lie in a folder; a mapped file counts twice. Linux only."""
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # of the listing itself, or closed since
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sum(link.startswith(f"{folder}/") for link in links)
