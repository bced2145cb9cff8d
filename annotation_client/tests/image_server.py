"""The image routes of the platform, for tests."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scripted_server import Answer, Request, ScriptedServer

from annotation_client.tiles import UPennContrastDataset

PLAIN: dict[str, Any] = {"sizeX": 9, "sizeY": 6, "bandCount": 1, "dtype": "uint16", "levels": 1, "mm_x": None}


def image(item_id: str = "item1", **more: Any) -> dict[str, Any]:
    return {"_id": item_id, "name": f"{item_id}.tif", "largeImage": {"fileId": "f"}, "_modelType": "item", **more}


class Frames:
    """Serves the frames of an image as the platform's region and histogram routes do."""

    def __init__(self, frames: NDArray[Any]) -> None:
        self.frames = frames

    def region(self, request: Request) -> Any:
        query = request.query
        frame = self.frames[int(query.get("frame", 0))]
        left, top = int(query.get("left", 0)), int(query.get("top", 0))
        right, bottom = int(query.get("right", frame.shape[1])), int(query.get("bottom", frame.shape[0]))
        kind, _, protocol = query["encoding"].partition(":")
        assert kind == "pickle" and 3 <= int(protocol) <= 5
        part = frame[top:bottom, left:right]
        return Answer(pickle.dumps(part[:, :, None] if part.ndim == 2 else part, int(protocol)))

    def histogram(self, request: Request) -> Any:
        query = request.query
        height, width = self.frames.shape[1:3]
        assert (int(query["width"]), int(query["height"])) == (width, height)
        limits = (int(query["rangeMin"]), int(query["rangeMax"]))
        counts, edges = np.histogram(self.frames[int(query["frame"])], int(query["bins"]), limits)
        return [{"hist": [float(n) for n in counts], "bin_edges": list(edges), "bins": int(query["bins"])}]


def dataset(
    server: ScriptedServer,
    metadata: dict[str, Any] | None = None,
    frames: NDArray[Any] | None = None,
    *,
    items: list[dict[str, Any]] | None = None,
    meta: dict[str, Any] | None = None,
) -> UPennContrastDataset:
    folder: dict[str, Any] = {"_id": "folder1", "name": "cells", "_modelType": "folder"}
    if meta is not None:
        folder["meta"] = meta
    server.on("GET", "/folder/folder1", Answer(folder))
    server.on("GET", "/item", Answer([image()] if items is None else items))
    server.on("GET", "/item/item1/tiles", Answer(PLAIN if metadata is None else metadata))
    if frames is not None:
        server.on("GET", "/item/item1/tiles/region", Frames(frames).region)
        server.on("GET", "/item/item1/tiles/histogram", Frames(frames).histogram)
    return UPennContrastDataset(server.url, "secret", "folder1", connection=server.connect())


def noise(shape: tuple[int, ...] = (1, 6, 9), dtype: str = "uint16") -> NDArray[Any]:
    limits = np.iinfo(dtype)
    return np.random.default_rng(5).integers(limits.min, limits.max + 1, shape, dtype)


def indexed(**counts: int) -> dict[str, Any]:
    """Metadata of a dataset with frames in the order in which the platform numbers them."""
    frames = [
        {
            "Frame": number,
            "Index": number,
            **{f"Index{axis}": int(place) for axis, place in zip(counts, places, strict=True)},
        }
        for number, places in enumerate(np.ndindex(*counts.values()))
    ]
    several = {f"Index{axis}": count for axis, count in counts.items() if count > 1}
    return {**PLAIN, "frames": frames, "IndexRange": several}
