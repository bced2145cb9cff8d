"""A dataset in memory whose pixels tell where they are from, and annotation documents as a server returns them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_client.errors import DatasetError

HEIGHT, WIDTH = 30, 40
COUNTS = (3, 4, 5, 2)  # XY, Z, Time, channels: all differ, so that no two of them can be mixed up

Corners = Sequence[tuple[float, float]]
Location = tuple[int, int, int]


class CodedDataset:
    """A dataset in memory whose pixels tell where they are from; read it with `origin_of`.

    Attributes:
        crops: (xy, z, time, channel, box) of every crop that was asked for.
        measured: (xy, z, time, channel) of every frame whose percentiles were asked for.
    """

    shape = (HEIGHT, WIDTH)

    def __init__(self, lacking: Sequence[Location] = ()) -> None:
        self.lacking = set(lacking)
        self.crops: list[tuple[int, int, int, int, tuple[int, int, int, int]]] = []
        self.measured: list[tuple[int, int, int, int]] = []

    def coordinatesToFrameIndex(self, XY: int, Z: int = 0, T: int = 0, channel: int = 0) -> int:
        place = (XY, Z, T, channel)
        if (XY, Z, T) in self.lacking or any(not 0 <= i < n for i, n in zip(place, COUNTS, strict=True)):
            raise DatasetError(f"no frame at {place}")
        return int(np.ravel_multi_index(place, COUNTS))

    def frame(self, xy: int, z: int, time: int, channel: int) -> NDArray[np.int64]:
        self.coordinatesToFrameIndex(xy, z, time, channel)
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        frame: NDArray[np.int64] = (((xy * 10 + z) * 10 + time) * 10 + channel) * 10_000 + y * 100 + x
        return frame

    def intensity_percentiles(
        self, xy: int, z: int, time: int, channel: int, low: float, high: float
    ) -> tuple[float, float]:
        self.measured.append((xy, z, time, channel))
        first, second = np.percentile(self.frame(xy, z, time, channel), (low, high))
        return float(first), float(second)

    def crop(self, xy: int, z: int, time: int, channel: int, box: tuple[int, int, int, int]) -> NDArray[np.int64]:
        left, top, right, bottom = box
        assert 0 <= left < right <= WIDTH and 0 <= top < bottom <= HEIGHT
        self.crops.append((xy, z, time, channel, box))
        return self.frame(xy, z, time, channel)[top:bottom, left:right]


def origin_of(pixel: int) -> tuple[int, int, int, int, int, int]:
    """Return (xy, z, time, channel, y, x)."""
    frame, place = divmod(int(pixel), 10_000)
    return frame // 1000, frame // 100 % 10, frame // 10 % 10, frame % 10, place // 100, place % 100


_ids = count()


def shape(corners: Corners, location: Location = (0, 0, 0)) -> dict[str, Any]:
    """An annotation document as the server returns it."""
    return {
        "_id": f"{next(_ids):024x}",
        "shape": "polygon",
        "coordinates": [{"x": x, "y": y, "z": 0} for x, y in corners],
        "location": dict(zip(("XY", "Z", "Time"), location, strict=True)),
    }


def box(left: float, top: float, right: float, bottom: float, location: Location = (0, 0, 0)) -> dict[str, Any]:
    return shape([(left, top), (right, top), (right, bottom), (left, bottom)], location)
