"""From a label mask to the outlines that are uploaded, and what the user is told on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import ndimage
from worker_modules import load_worker_module

from annotation_client.errors import DatasetError
from annotation_client.tiles import UPennContrastDataset
from annotation_utilities.geometry import geometries_to_labels

predict = load_worker_module("predict/entrypoint.py")

IMAGE = np.arange(12.0).reshape(3, 4)

Ring = list[tuple[float, float]]


@dataclass
class KnownMask:
    """A pipeline that finds a known mask in any image.

    Attributes:
        mask: what `segment` returns.
        asked: the images and callbacks that it was called with.
    """

    mask: NDArray[np.int32]
    asked: list[tuple[Any, Any]]

    def segment(self, image: Any, *, progress_callback: Callable[[float, str], None] | None = None) -> Any:
        self.asked.append((image, progress_callback))
        return self.mask


def report(fraction: float, message: str) -> None:
    """Progress that nobody watches."""


def outlines(mask: NDArray[np.int32], *, padding: float = 0.0, smoothing: float = 0.0) -> list[Ring]:
    chosen = predict.PredictSettings(model="any", smoothing=smoothing, padding=padding, segmentation={})
    return [
        list(outline.exterior.coords) for outline in predict.find_outlines(KnownMask(mask, []), IMAGE, chosen, report)
    ]


def drawn(rings: list[Ring], shape: tuple[int, int]) -> NDArray[np.int32]:
    return geometries_to_labels({number: shapely.Polygon(ring) for number, ring in enumerate(rings, 1)}, shape)


def mask_with(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (30, 50)) -> NDArray[np.int32]:
    """Number rectangles (left, top, right, bottom) in their order; later ones lie on top."""
    mask = np.zeros(shape, np.int32)
    for number, (left, top, right, bottom) in enumerate(boxes, start=1):
        mask[top:bottom, left:right] = number
    return mask


# ---- outlines


def test_the_pipeline_gets_the_image_and_the_progress() -> None:
    pipeline = KnownMask(mask_with((1, 1, 3, 3)), [])
    chosen = predict.PredictSettings(model="any", smoothing=0, padding=0, segmentation={})
    assert len(predict.find_outlines(pipeline, IMAGE, chosen, report)) == 1
    ((image, callback),) = pipeline.asked
    assert image is IMAGE and callback is report


def test_an_outline_runs_along_the_corners_of_pixels() -> None:
    (ring,) = outlines(mask_with((5, 2, 9, 4)))
    assert ring[0] == ring[-1]
    assert set(ring) == {(5, 2), (9, 2), (9, 4), (5, 4)} and len(ring) == 5
    assert all(type(value) is float for corner in ring for value in corner)


@settings(max_examples=150, deadline=None)
@given(arrays.arrays(np.int8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 2)))
def test_the_outlines_give_the_mask_back(values: NDArray[np.int8]) -> None:
    """For instances in one part of any form, also one inside another; an outline has no holes, so these are filled."""
    mask = np.zeros(values.shape, np.int32)
    for value in (1, 2):
        parts, _ = ndimage.label(values == value)
        mask[parts > 0] = parts[parts > 0] + mask.max()
    filled = {number: ndimage.binary_fill_holes(mask == number) for number in range(1, mask.max() + 1)}
    expected = np.zeros_like(mask)
    for number in sorted(filled, key=lambda number: -filled[number].sum()):
        expected[filled[number]] = number
    rings = outlines(mask)
    assert len(rings) == mask.max()
    assert np.array_equal(drawn(rings, (len(mask), len(mask[0]))), expected)


@pytest.mark.parametrize("padding", [0.5, 1, 2.5, -0.5, -1, -2.5])
def test_padding_moves_outlines_outwards_or_inwards(padding: float) -> None:
    (ring,) = outlines(mask_with((10, 5, 30, 15)), padding=padding)
    polygon = shapely.Polygon(ring)
    assert polygon.bounds == pytest.approx((10 - padding, 5 - padding, 30 + padding, 15 + padding))
    missing = (4 - np.pi) * padding**2 if padding > 0 else 0  # corners are rounded outwards only
    assert polygon.area == pytest.approx((20 + 2 * padding) * (10 + 2 * padding) - missing, rel=1e-3)


def test_padding_may_leave_the_image_and_overlap_a_neighbour() -> None:
    rings = outlines(mask_with((0, 0, 4, 4), (5, 0, 9, 4)), padding=2)
    first, second = map(shapely.Polygon, rings)
    assert first.bounds == pytest.approx((-2, -2, 6, 6))
    assert first.intersects(second) and len(rings) == 2


def test_padding_that_leaves_nothing_leaves_no_outline() -> None:
    mask = mask_with((0, 0, 4, 4), (10, 10, 20, 20), (30, 0, 33, 9))
    assert len(outlines(mask)) == 3
    (ring,) = outlines(mask, padding=-2)
    assert shapely.Polygon(ring).bounds == pytest.approx((12, 12, 18, 18))
    assert outlines(mask, padding=-5) == []


def test_what_padding_splits_is_outlined_by_its_largest_part() -> None:
    dumbbell = np.maximum(mask_with((2, 2, 10, 10), (20, 2, 32, 14)), mask_with((8, 4, 22, 6)))
    (ring,) = outlines((dumbbell > 0).astype(np.int32), padding=-1.5)
    left, *others = shapely.Polygon(ring).bounds
    assert others == pytest.approx([3.5, 30.5, 12.5])
    assert 20 < left <= 21.5  # further left where the bridge was


@pytest.mark.parametrize("gap", [0, 3])
def test_an_instance_in_two_parts_has_one_outline(gap: int) -> None:
    """Parts that meet in a corner (gap 0) are two, as well."""
    mask = mask_with((2, 2, 6, 6), (6 + gap, 6 + gap, 16 + gap, 11 + gap))
    mask[mask > 0] = 7
    (ring,) = outlines(mask)
    assert shapely.Polygon(ring).bounds == (6 + gap, 6 + gap, 16 + gap, 11 + gap)


def test_background_has_no_outline() -> None:
    assert outlines(np.zeros((9, 9), np.int32)) == []
    assert outlines(np.zeros((0, 9), np.int32)) == []


@pytest.mark.parametrize(("padding", "smoothing"), [(0, 0.75), (0, 1), (1.5, 0.3), (1.5, 1), (-1.5, 0.5)])
def test_smoothing_leaves_out_corners_within_its_tolerance(padding: float, smoothing: float) -> None:
    y, x = np.mgrid[:60, :60]
    disc = ((y - 30) ** 2 + (x - 30) ** 2 < 20**2).astype(np.int32)
    (exact,), (smooth,) = outlines(disc, padding=padding), outlines(disc, padding=padding, smoothing=smoothing)
    assert len(smooth) < len(exact)
    distance = shapely.hausdorff_distance(shapely.LineString(exact), shapely.LineString(smooth), densify=0.01)
    assert 0 < distance <= smoothing + 1e-9
    assert shapely.Polygon(smooth).is_valid


# ---- warnings


def warnings_in(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line]


@pytest.mark.parametrize(
    ("config", "chosen", "words"),
    [
        ({}, (15, 600), None),
        ({"min_size": None, "max_size": None}, (15, 600), None),
        ({"min_size": 15, "max_size": 600}, (15, 600), None),
        ({"min_size": 20, "max_size": 500}, (15, 600), None),
        ({"min_size": 14, "max_size": 600}, (15, 600), ("at most 14 ", "at least 600 ")),
        ({"min_size": 15, "max_size": 601}, (15, 600), ("at most 15 ", "at least 601 ")),
        ({"min_size": 0}, (15, 600), ("at most 0 ", "at least 600 ")),
        ({"max_size": 900}, (0, 600), ("at most 0 ", "at least 900 ")),
    ],
)
def test_sizes_that_a_model_was_not_made_for_are_pointed_out(
    config: dict[str, Any], chosen: tuple[int, int], words: tuple[str, str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    segmentation = dict(zip(("min_size", "max_size"), chosen, strict=True))
    predict.warn_of_sizes(config, predict.PredictSettings("my model", 0.3, 0, segmentation))
    messages = warnings_in(capsys.readouterr().out)
    if words is None:
        assert messages == []
    else:
        (message,) = messages
        assert message["title"] == "Objects may be left out"
        assert all(word in message["warning"] for word in ("my model", *words))


# ---- positions


class Answers:
    """A connection to a server that has one dataset with these tiles."""

    def __init__(self, tiles: dict[str, Any]) -> None:
        self.documents: dict[str, Any] = {
            "folder/dataset": {"_id": "dataset", "name": "sparse"},
            "item": [{"_id": "image", "largeImage": {"fileId": "file"}}],
            "item/image/tiles": tiles,
        }

    def get(self, path: str, parameters: dict[str, Any] | None = None) -> Any:
        return self.documents[path]


@dataclass
class Worker:
    """What `existing_positions` needs of a `WorkerClient`."""

    datasetClient: UPennContrastDataset  # noqa: N815
    channel: int
    chosen: list[tuple[int, int, int]]

    def positions(self) -> list[dict[str, int]]:
        return [dict(zip(("XY", "Z", "Time"), place, strict=True)) for place in self.chosen]


SPARSE = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 1, 0, 0), (2, 0, 0, 0), (0, 0, 3, 0)]
"""(XY, Z, Time, channel) of the frames that there are."""


def existing(chosen: list[tuple[int, int, int]], *, channel: int = 0, **tiles: Any) -> list[tuple[int, int, int]]:
    frames = [dict(zip(("IndexXY", "IndexZ", "IndexT", "IndexC"), place, strict=True)) for place in SPARSE]
    document = {"sizeX": 9, "sizeY": 9, "frames": frames, **tiles}
    connection: Any = Answers(document)
    dataset = UPennContrastDataset("", "", "dataset", connection=connection)
    found = predict.existing_positions(Worker(dataset, channel, chosen))
    return [(position["XY"], position["Z"], position["Time"]) for position in found]


def test_positions_that_exist_are_kept_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [(2, 0, 0), (0, 1, 0), (0, 0, 3), (0, 0, 0)]
    assert existing(chosen) == chosen
    assert capsys.readouterr().out == ""


def test_positions_that_are_lacking_are_left_out_with_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [(xy, z, time) for xy in range(3) for z in range(2) for time in range(4)]
    assert existing(chosen) == [(0, 0, 0), (0, 0, 3), (0, 1, 0), (2, 0, 0)]
    (message,) = warnings_in(capsys.readouterr().out)
    assert message["title"] == "Positions left out" and message["warning"].startswith("20 of the chosen positions")


def test_the_channel_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert existing([(0, 0, 0), (0, 1, 0)], channel=1) == [(0, 0, 0)]
    assert "1 of the chosen positions have no image in this channel" in capsys.readouterr().out


def test_nothing_but_lacking_positions_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DatasetError, match=r"no image at XY 1, Z 2, Time 4, channel 1\b"):
        existing([(1, 1, 1), (0, 1, 3)])
    assert capsys.readouterr().out == ""


def test_colour_images_are_refused() -> None:
    with pytest.raises(DatasetError, match="colour"):
        existing([(0, 0, 0)], bandCount=3)
