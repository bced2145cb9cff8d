"""Datasets of every shape that the platform makes, and pixels of them."""

from __future__ import annotations

import pickle
from typing import Any

import annotation_client_fixtures as fixtures
import numpy as np
import pytest
from girder_client import HttpError
from image_server import PLAIN, Frames, dataset, image, indexed, noise
from scripted_server import RESET_AFTER, Answer, ScriptedServer, error

from annotation_client import tiles
from annotation_client.errors import ClientError, DatasetError
from annotation_client.tiles import UPennContrastDataset

server = fixtures.server


# --- which image -----------------------------------------------------------------------------------------------------


def test_three_requests_are_enough(server: ScriptedServer) -> None:
    data = dataset(server, meta={"subtype": "contrastDataset", "selectedLargeImageId": "item1"})
    assert [request.path for request in server.requests] == ["/folder/folder1", "/item", "/item/item1/tiles"]
    assert server.requests[1].query == {"folderId": "folder1", "limit": "0"}
    assert (data.folderId, data.datasetId, data.dataset["name"], data.tiles) == ("folder1", "item1", "item1.tif", PLAIN)
    assert data.shape == (6, 9)


@pytest.mark.parametrize(
    "meta",
    [None, {}, {"selectedLargeImageId": None}, {"selectedLargeImageId": "gone"}, {"selectedLargeImageId": "table"}],
    ids=str,
)
def test_without_a_valid_selection_the_first_image_is_taken(server: ScriptedServer, meta: Any) -> None:
    items = [
        {"_id": "table", "name": "a.csv"},
        {"_id": "broken", "name": "b", "largeImage": None},
        image(),
        image("item2"),
    ]
    assert dataset(server, items=items, meta=meta).datasetId == "item1"


def test_the_selected_image_is_taken(server: ScriptedServer) -> None:
    items = [image("item0"), image("item1")]
    assert dataset(server, items=items, meta={"selectedLargeImageId": "item1"}).datasetId == "item1"


BEING_PREPARED = {"_id": "item1", "name": "a.tif", "largeImage": {"expected": True, "jobId": "7"}}


@pytest.mark.parametrize("items", [[], [{"_id": "table", "name": "a.csv"}], [BEING_PREPARED]], ids=str)
def test_a_dataset_without_an_image_is_an_error_that_says_so(server: ScriptedServer, items: Any) -> None:
    with pytest.raises(DatasetError, match=r"'cells' has no image\. Add one"):
        dataset(server, items=items, meta={"selectedLargeImageId": None})


@pytest.mark.parametrize("metadata", [{}, {"sizeX": 5}, {"sizeX": None, "sizeY": None}], ids=str)
def test_an_image_without_a_size_is_an_error(server: ScriptedServer, metadata: Any) -> None:
    with pytest.raises(DatasetError, match=r"cannot read the image 'item1\.tif'"):
        dataset(server, metadata)


def test_an_unknown_dataset_is_the_servers_error(server: ScriptedServer) -> None:
    server.on("GET", "/folder/folder2", error(400, "No such folder: folder2"))
    with pytest.raises(HttpError):
        UPennContrastDataset(server.url, "secret", "folder2", connection=server.connect())


@pytest.mark.parametrize("internal", [{"ome": 1}, {}, None])
def test_metadata_of_the_file_format_are_read_when_asked_for(server: ScriptedServer, internal: Any) -> None:
    server.on("GET", "/item/item1/tiles/internal_metadata", Answer(internal))
    assert dataset(server).tilesInternal == internal


# --- positions -------------------------------------------------------------------------------------------------------


def test_an_image_without_frames_is_one_frame(server: ScriptedServer) -> None:
    data = dataset(server)
    assert data.map == {0: {0: {0: {0: 0}}}}
    assert data.index_range == {"IndexXY": 1, "IndexZ": 1, "IndexT": 1, "IndexC": 1}
    assert (data.channel_count, data.channel_names, data.position_count()) == (1, ["Channel 1"], 1)
    assert data.coordinatesToFrameIndex(0) == 0


@pytest.mark.parametrize("frames", [None, [], [{"Frame": 0}], [{}], [{"Frame": 0, "IndexC": None}]], ids=str)
def test_what_is_not_stated_is_0(server: ScriptedServer, frames: Any) -> None:
    data = dataset(server, {**PLAIN, "frames": frames, "IndexRange": None, "channels": None})
    assert data.coordinatesToFrameIndex(0, 0, 0, 0) == 0 and data.channel_count == 1


def test_every_position_has_its_frame(server: ScriptedServer) -> None:
    data = dataset(server, indexed(T=2, XY=3, Z=4, C=2))
    expected = {places: number for number, places in enumerate(np.ndindex(2, 3, 4, 2))}
    for (time, xy, z, channel), number in expected.items():
        assert data.coordinatesToFrameIndex(xy, z, time, channel) == number
        assert data.map[channel][time][z][xy] == number
    assert data.index_range == {"IndexXY": 3, "IndexZ": 4, "IndexT": 2, "IndexC": 2}
    assert data.position_count() == 24


def test_axes_that_frames_leave_out_are_0(server: ScriptedServer) -> None:
    data = dataset(server, {**indexed(C=2), "channels": ["DAPI", "GFP"]})
    assert data.coordinatesToFrameIndex(0, channel=1) == 1
    assert data.channel_names == ["DAPI", "GFP"] and data.channel_count == 2


def test_frames_may_stand_in_any_order(server: ScriptedServer) -> None:
    metadata = indexed(Z=3)
    metadata["frames"].reverse()
    data = dataset(server, metadata)
    assert [data.coordinatesToFrameIndex(0, z) for z in range(3)] == [0, 1, 2]


def test_without_an_index_range_the_frames_count(server: ScriptedServer) -> None:
    metadata = indexed(T=3, C=2)
    del metadata["IndexRange"]
    assert dataset(server, metadata).index_range == {"IndexXY": 1, "IndexZ": 1, "IndexT": 3, "IndexC": 2}


def test_names_of_channels_may_stand_in_the_frames_or_be_missing(server: ScriptedServer) -> None:
    metadata = indexed(C=3)
    metadata["frames"][1]["Channel"] = "GFP"
    assert dataset(server, metadata).channel_names == ["Channel 1", "GFP", "Channel 3"]


def test_a_missing_combination_is_an_error_that_counts_from_1(server: ScriptedServer) -> None:
    metadata = indexed(T=2, Z=3)
    del metadata["frames"][5]
    data = dataset(server, metadata)
    assert data.position_count() == 5
    with pytest.raises(DatasetError, match=r"XY 1, Z 3, Time 2, channel 1.*3 Z planes, 2 time points"):
        data.coordinatesToFrameIndex(0, 2, 1, 0)
    with pytest.raises(ValueError, match="XY 0"):
        data.coordinatesToFrameIndex(-1)


# --- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
def test_pixels_arrive_exactly(server: ScriptedServer, dtype: str) -> None:
    frames = noise((4, 6, 9), dtype)
    data = dataset(server, {**indexed(C=2, Z=2), "dtype": dtype}, frames)
    assert data.getRegion(frame=1).shape == (6, 9, 1)
    for channel in range(2):
        for z in range(2):
            frame = data.frame(0, z, 0, channel)
            assert frame.dtype == dtype
            np.testing.assert_array_equal(frame, frames[channel * 2 + z])
    np.testing.assert_array_equal(data.crop(0, 1, 0, 1, (2, 1, 9, 5)), frames[3][1:5, 2:9])


def test_a_region_passes_the_platforms_arguments_on(server: ScriptedServer) -> None:
    data = dataset(server, frames=noise())
    data.getRegion("folder1", False, 4, left=1, top=2, right=5, bottom=6, frame=0, units="base_pixels", use_tiff=True)
    assert server.requests[-1].query == {
        "left": "1",
        "top": "2",
        "right": "5",
        "bottom": "6",
        "frame": "0",
        "units": "base_pixels",
        "encoding": "pickle:4",
    }
    assert data.getRegion(data.datasetId, protocol=pickle.HIGHEST_PROTOCOL, encoding="TIFF").shape == (6, 9, 1)
    assert len(server.sent("GET", "/folder/folder1")) == 1


def test_a_region_of_another_dataset_is_not_one_of_this(server: ScriptedServer) -> None:
    frames = noise()
    data = dataset(server, frames=frames)
    server.on("GET", "/folder/folder2", Answer({"_id": "folder2"}))
    server.on("GET", "/item", Answer([image("item2")]))
    server.on("GET", "/item/item2/tiles", Answer(PLAIN))
    server.on("GET", "/item/item2/tiles/region", Frames(frames + 1).region)
    np.testing.assert_array_equal(data.getRegion("folder2")[:, :, 0], frames[0] + 1)
    assert (data.folderId, data.datasetId) == ("folder2", "item2")
    data.getRegion(refreshImage=True)
    assert len(server.sent("GET", "/folder/folder2")) == 2


def test_a_region_is_read_again_after_faults(server: ScriptedServer) -> None:
    frames = noise()
    data = dataset(server, frames=frames)
    region = Frames(frames).region
    whole = pickle.dumps(frames[0][:, :, None], 5)
    broken = [Answer(status=503), Answer(whole, cut=40), Answer(fault=RESET_AFTER)]
    server.on("GET", "/item/item1/tiles/region", *broken, region)
    np.testing.assert_array_equal(data.frame(0, 0, 0, 0), frames[0])


@pytest.mark.parametrize("bands", [3, 4, 2])
def test_a_colour_image_is_an_error_that_says_what_to_do(server: ScriptedServer, bands: int) -> None:
    data = dataset(server, {**PLAIN, "bandCount": bands, "dtype": "uint8"}, noise((1, 6, 9, bands), "uint8"))
    before = len(server.requests)
    for read in (
        lambda: data.frame(0, 0, 0, 0),
        lambda: data.crop(0, 0, 0, 0, (0, 0, 2, 2)),
        lambda: data.getRegion(frame=0),
        lambda: data.intensity_percentiles(0, 0, 0, 0, 1, 99),
    ):
        with pytest.raises(DatasetError, match=r"colour image.*one grey image per channel"):
            read()
    assert len(server.requests) == before


def test_a_colour_image_whose_metadata_do_not_say_so_is_the_same_error(server: ScriptedServer) -> None:
    data = dataset(server, {"sizeX": 9, "sizeY": 6}, noise((1, 6, 9, 3), "uint8"))
    with pytest.raises(DatasetError, match="colour image"):
        data.frame(0, 0, 0, 0)


def test_pixels_without_the_axis_of_bands_are_understood(server: ScriptedServer) -> None:
    frames = noise()
    data = dataset(server)
    server.on("GET", "/item/item1/tiles/region", Answer(pickle.dumps(frames[0])))
    assert data.getRegion().shape == (6, 9, 1)
    np.testing.assert_array_equal(data.frame(0, 0, 0, 0), frames[0])


def test_another_number_of_pixels_than_asked_for_is_an_error(server: ScriptedServer) -> None:
    data = dataset(server)
    server.on("GET", "/item/item1/tiles/region", Answer(pickle.dumps(noise((5, 9, 1)))))
    with pytest.raises(DatasetError, match="9 x 5 pixels instead of 9 x 6"):
        data.frame(0, 0, 0, 0)


def test_something_else_than_pixels_is_an_error(server: ScriptedServer) -> None:
    data = dataset(server)
    server.on("GET", "/item/item1/tiles/region", Answer({"message": "soon"}))
    with pytest.raises(ClientError, match="Try again"):
        data.frame(0, 0, 0, 0)


@pytest.mark.parametrize(
    "box", [(0, 0, 10, 6), (0, 0, 9, 7), (-1, 0, 9, 6), (0, -1, 9, 6), (3, 0, 3, 6), (0, 5, 9, 4)], ids=str
)
def test_a_box_outside_the_frame_is_an_error(server: ScriptedServer, box: tuple[int, int, int, int]) -> None:
    data = dataset(server, frames=noise())
    with pytest.raises(DatasetError, match="does not lie in a frame of 9 x 6"):
        data.crop(0, 0, 0, 0, box)


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
def test_a_large_frame_arrives_in_strips(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(tiles, "_REQUEST_BYTES", rows * 9 * 8 + 5)
    frames = noise()
    data = dataset(server, frames=frames)
    np.testing.assert_array_equal(data.frame(0, 0, 0, 0), frames[0])
    assert len(server.sent("GET", "/item/item1/tiles/region")) == -(-6 // rows)


def test_the_raw_picture(server: ScriptedServer) -> None:
    data = dataset(server, indexed(Z=2))
    server.on("GET", "/item/item1/tiles/fzxy/1/0/0/0", Answer(b"JPEG"))
    assert data.getRawImage(0, 1) == b"JPEG"


# --- percentiles -----------------------------------------------------------------------------------------------------

PAIRS = [(0, 100), (0.1, 99.9), (1, 99.8), (50, 50), (33.3, 66.7)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16"])
@pytest.mark.parametrize("counted_by", ["server", "client"])
def test_percentiles_equal_numpys_without_the_frame(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, dtype: str, counted_by: str
) -> None:
    monkeypatch.setattr(tiles, "_STRIP_BYTES", 40 * 8 * 7)
    frames = noise((2, 50, 40), dtype)
    frames[0, :30] //= 100  # many equal values
    data = dataset(server, {**indexed(Z=2), "sizeX": 40, "sizeY": 50, "dtype": dtype}, frames)
    if counted_by == "client":
        server.on("GET", "/item/item1/tiles/histogram", error(404, "No matching route"))
    for z in range(2):
        for low, high in PAIRS:
            expected = tuple(np.percentile(frames[z], (low, high)))
            assert data.intensity_percentiles(0, z, 0, 0, low, high) == expected
    strips = server.sent("GET", "/item/item1/tiles/region")
    assert all(int(strip.query["bottom"]) - int(strip.query["top"]) <= 7 for strip in strips)
    assert len(strips) == (0 if counted_by == "server" else 10 * 8)
    assert len(server.sent("GET", "/item/item1/tiles/histogram")) == (10 if counted_by == "server" else 1)


@pytest.mark.parametrize(
    "answer",
    [
        Answer([]),
        Answer({}),
        Answer(None),
        Answer([{"hist": None}]),
        Answer([{"hist": [1.0] * 65536}]),
        Answer([{"hist": [54.0]}]),
        Answer([{"hist": [55.0, -1.0] + [0.0] * 65534}]),
        Answer([{"hist": ["a"] * 65536}]),
        error(500, "internal"),
        error(400, "no frames"),
    ],
    ids=lambda answer: f"{answer.status} {str(answer.body)[:30]}",
)
def test_a_server_that_does_not_count_every_pixel_is_not_believed(server: ScriptedServer, answer: Answer) -> None:
    frames = noise()
    data = dataset(server, frames=frames)
    server.on("GET", "/item/item1/tiles/histogram", answer)
    assert data.intensity_percentiles(0, 0, 0, 0, 5, 95) == tuple(np.percentile(frames[0], (5, 95)))
    data.intensity_percentiles(0, 0, 0, 0, 5, 95)
    assert len(server.sent("GET", "/item/item1/tiles/histogram")) == 1


def test_a_session_that_has_ended_is_not_hidden_by_the_other_way(server: ScriptedServer) -> None:
    data = dataset(server, frames=noise())
    server.on("GET", "/item/item1/tiles/histogram", error(401, "Read access denied"))
    with pytest.raises(HttpError):
        data.intensity_percentiles(0, 0, 0, 0, 5, 95)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint32", None])
def test_other_types_are_fetched_whole(server: ScriptedServer, dtype: str | None) -> None:
    frames = noise().astype(dtype or "uint16") / 7
    data = dataset(server, {**PLAIN, "dtype": dtype}, frames)
    expected = np.percentile(frames[0], (0.1, 99.9))
    assert data.intensity_percentiles(0, 0, 0, 0, 0.1, 99.9) == tuple(float(value) for value in expected)
    assert server.sent("GET", "/item/item1/tiles/histogram") == []
