"""GA3NodeMixin on the data classes of the stand-in limnode, without any worker."""

from __future__ import annotations

import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.measure import label, regionprops_table

sys.path.insert(0, str(Path(__file__).parent / "limnode"))
import limnode

from external_modules.errors import CallAbortedError, ExternalModuleError
from external_modules.ga3 import GA3NodeMixin
from external_modules.node import ExternalModuleNode
from external_modules.object_labels import Calibration

MIXIN = GA3NodeMixin()
CALIBRATED = (0.5, 0.25, 2.0)


def channel_input(data: np.ndarray, calibration: tuple[float, float, float] = CALIBRATED) -> limnode.InputChannelData:
    return limnode.InputChannelData(parName="image", data=data, calibration=calibration)


def binary_output(shape: tuple[int, ...], dtype: Any = np.int32) -> limnode.OutputBinaryData:
    return limnode.OutputBinaryData(parName="objects", data=np.zeros(shape, dtype))


def channel_output(shape: tuple[int, ...], dtype: Any) -> limnode.OutputChannelData:
    return limnode.OutputChannelData(parName="channel", data=np.zeros(shape, dtype))


def defined_table(node: GA3NodeMixin, data: limnode.InputChannelData) -> limnode.OutputTableData:
    loop = limnode.LoopDef(name="ZStack", type=limnode.ExperimentLoopType.loopTypeZStack, index=0)
    definition = limnode.OutputTableDef(parName="table", loopDefList=[loop])
    definitions = [limnode.InputChannelDef(parName="image", calibration=data.calibration)]
    node.define_outputs(definitions, [definition], name="cells")
    return limnode.OutputTableData(parName="table", data=definition.tableDef)


class ThresholdAt(GA3NodeMixin):
    """Segments in this process; `seen` are the images that it got."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def process_image(self, image: np.ndarray, **params: Any) -> Any:
        self.seen.append(image)
        return label(image > params["threshold"])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int32])
def test_planes_of_every_dtype_come_out_exactly(dtype: Any) -> None:
    volume = (np.arange(3 * 5 * 7 * 2) % 251).reshape(3, 5, 7, 2).astype(dtype)
    data = channel_input(volume)
    planes = list(MIXIN.iterate_planes(data))
    assert [plane[:2] for plane in planes] == [(z, c) for z in range(3) for c in range(2)]
    for z, channel, image in planes:
        assert image.dtype == dtype
        assert image.flags.c_contiguous and image.base is None
        np.testing.assert_array_equal(image, volume[z, :, :, channel])


def test_extract_takes_views_that_are_not_contiguous() -> None:
    volume = np.arange(2 * 8 * 12 * 3, dtype=np.uint16).reshape(2, 8, 12, 3)[:, ::-2, 1::3, ::-1]
    np.testing.assert_array_equal(MIXIN.extract_2d_image(channel_input(volume), 1, 2), volume[1, :, :, 2])


@pytest.mark.parametrize(("z", "channel"), [(2, 0), (0, 1), (-1, 0)])
def test_extract_refuses_planes_that_are_not_there(z: int, channel: int) -> None:
    with pytest.raises(ExternalModuleError, match="2 planes and 1 components"):
        MIXIN.extract_2d_image(channel_input(np.zeros((2, 4, 4, 1), np.uint8)), z, channel)


def test_an_array_of_other_rank_is_refused() -> None:
    with pytest.raises(ExternalModuleError, match="4 axes"):
        MIXIN.extract_2d_image(channel_input(np.zeros((4, 4), np.uint8)))


def test_insert_writes_one_plane_and_component() -> None:
    out = channel_output((2, 3, 4, 2), np.float32)
    result = np.linspace(0, 1, 24).reshape(6, 4)[::2]
    MIXIN.insert_2d_result(out, result, z=1, channel=1)
    np.testing.assert_array_equal(out.data[1, :, :, 1], result.astype(np.float32))
    assert np.count_nonzero(out.data) == np.count_nonzero(result)
    every = np.ones((3, 4, 2), bool)
    MIXIN.insert_2d_result(out, every, z=0)
    np.testing.assert_array_equal(out.data[0], 1.0)


def test_insert_refuses_another_shape() -> None:
    with pytest.raises(ExternalModuleError, match=r"shape \(4, 3\); the output needs \(3, 4\)"):
        MIXIN.insert_2d_result(binary_output((1, 3, 4, 1)), np.zeros((4, 3), int))


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.float32, np.float64, np.uint64])
def test_labels_above_65535_are_kept(dtype: Any) -> None:
    labels = np.arange(300 * 300).reshape(300, 300).astype(dtype)
    out = binary_output((1, 300, 300, 1))
    MIXIN.insert_2d_result(out, labels)
    np.testing.assert_array_equal(out.data[0, :, :, 0], np.arange(300 * 300).reshape(300, 300))


def test_labels_may_be_small_floats() -> None:
    labels = np.array([[0, 2048]], np.float16)  # a type that the largest number allowed does not fit into
    np.testing.assert_array_equal(MIXIN.to_object_labels(labels), [[0, 2048]])


def test_uint8_binary_takes_255_objects_and_refuses_256() -> None:
    labels = np.arange(257).reshape(1, 257)
    out = binary_output((1, 1, 256, 1), np.uint8)
    MIXIN.insert_2d_result(out, labels[:, :256])
    np.testing.assert_array_equal(out.data[0, :, :, 0], labels[:, :256])
    out.data[:] = 0
    with pytest.raises(ExternalModuleError, match="makeInt32"):
        MIXIN.insert_2d_result(out, labels[:, 1:])
    assert not out.data.any()


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.array([[0.5]]), "fractions"),
        (np.array([[np.nan]]), "fractions"),
        (np.array([[np.inf]]), "from inf to inf"),
        (np.array([[-1]]), "from -1 to -1"),
        (np.array([[2**31]]), "2147483648"),
        (np.array([[2**31]], np.float32), "2147483648"),
        (np.array([["a"]]), "must be numbers"),
    ],
)
def test_labels_that_mean_nothing_are_refused(labels: np.ndarray, text: str) -> None:
    with pytest.raises(ExternalModuleError, match=text):
        MIXIN.to_object_labels(labels)


@pytest.mark.parametrize(
    ("dtype", "result", "text"),
    [
        (np.uint8, np.array([[256]]), "makeUInt16"),
        (np.uint16, np.array([[70000]]), "makeFloat"),
        (np.uint16, np.array([[-1]]), "from -1"),
        (np.uint16, np.array([[0.5]]), "makeFloat"),
    ],
)
def test_channels_never_wrap(dtype: Any, result: np.ndarray, text: str) -> None:
    out = channel_output((1, 1, 1, 1), dtype)
    with pytest.raises(ExternalModuleError, match=text):
        MIXIN.insert_2d_result(out, result)
    assert not out.data.any()


def test_calibration_is_taken_as_the_host_gives_it() -> None:
    image = np.zeros((1, 2, 2, 1), np.uint8)
    assert MIXIN.calibration(channel_input(image)) == Calibration(0.5, 0.25, 2.0, "µm")
    assert MIXIN.calibration(channel_input(image, (-1.0, -1.0, 2.0))) == Calibration(1.0, 1.0, 2.0, "px")


@pytest.mark.parametrize("factor", [1, 1_000_000])
def test_object_table_measures_what_scikit_image_measures(factor: int) -> None:
    random = np.random.default_rng(5)
    labels = label(random.random((60, 90)) > 0.7)
    image = random.integers(0, 65536, labels.shape).astype(np.uint16)[:, ::-1]
    table = MIXIN.object_table(labels * factor, image, Calibration(0.5, 0.25, 1.0, "µm"))
    expected = regionprops_table(labels, image, properties=["label", "area", "centroid", "mean_intensity"])
    assert len(expected["label"]) > 50
    np.testing.assert_array_equal(table["ObjectId"], expected["label"] * factor)
    np.testing.assert_allclose(table["Area"], expected["area"] * 0.125)
    np.testing.assert_allclose(table["CentroidX"], (expected["centroid-1"] + 0.5) * 0.5)
    np.testing.assert_allclose(table["CentroidY"], (expected["centroid-0"] + 0.5) * 0.25)
    np.testing.assert_allclose(table["MeanIntensity"], expected["mean_intensity"])


def test_a_large_number_of_an_object_takes_no_memory() -> None:
    labels = np.zeros((4, 5), np.int32)
    labels[1, 2:4] = 50_000_000
    tracemalloc.start()
    table = MIXIN.object_table(labels, np.ones((4, 5)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert table["ObjectId"] == [50_000_000] and table["CentroidX"] == [3.0]
    assert peak < 1_000_000


def test_object_table_of_nothing_has_no_rows() -> None:
    table = MIXIN.object_table(np.zeros((4, 5), int), np.ones((4, 5)))
    assert {column.shape for column in table.values()} == {(0,)}


def test_defined_outputs() -> None:
    binary = limnode.OutputBinaryDef(parName="b")
    channel = limnode.OutputChannelDef(parName="c", assignedParName="image")
    table = limnode.OutputTableDef(parName="t")
    inp = [limnode.InputChannelDef(parName="image", calibration=CALIBRATED)]
    MIXIN.define_outputs(inp, [binary, channel, table], name="cells", color="#00FF80")
    assert (binary.binaryName, binary.binaryColor, binary.bitsPerComponent) == ("cells", 0x00FF80, 32)
    assert channel.assignedParName == "image"
    columns = {meta["title"]: meta.get("units") for meta in table.tableDef.colMetadataList}
    assert columns == {
        "Entity": None,
        "ObjectId": None,
        "Plane": None,
        "Area": "µm²",
        "CentroidX": "µm",
        "CentroidY": "µm",
        "MeanIntensity": None,
    }
    MIXIN.define_outputs([limnode.InputChannelDef(parName="image")], [table], name="cells")
    assert table.tableDef.colMetadataList[3]["units"] == "px²"
    with pytest.raises(ExternalModuleError, match="yellow"):
        MIXIN.define_outputs(inp, [binary], name="cells", color="yellow")


def test_run_2d_numbers_the_objects_of_a_volume_through_and_fills_the_table() -> None:
    volume = np.zeros((3, 6, 8, 2), np.uint16)
    volume[0, 1:3, 1:3, 1] = 100
    volume[0, 4, 5:7, 1] = 200
    volume[2, 0, 0, 1] = 300
    node = ThresholdAt()
    data = channel_input(volume)
    binary, channel = binary_output((3, 6, 8, 1)), channel_output((3, 6, 8, 1), np.uint8)
    table = defined_table(node, data)
    node.run_2d([data], [binary, channel, table], limnode.RunContext(), channel=1, threshold=50)
    assert len(node.seen) == 3
    assert binary.data[0, 1, 1, 0] == 1 and binary.data[0, 4, 5, 0] == 2 and binary.data[2, 0, 0, 0] == 3
    np.testing.assert_array_equal(np.unique(binary.data), [0, 1, 2, 3])
    assert channel.data[2, 0, 0, 0] == 1  # as the worker returned it
    rows = dict(zip(table.data.colTitleList, table.data.colDataList, strict=True))
    assert rows["Entity"] == ["cells"] * 3
    assert rows["ObjectId"] == [1, 2, 3]
    assert rows["Plane"] == [0, 0, 2]
    assert rows["Area"] == [4 * 0.125, 2 * 0.125, 0.125]
    assert rows["CentroidX"] == [1.0, 3.0, 0.25]
    assert rows["CentroidY"] == [0.5, 4.5 * 0.25, 0.125]
    assert rows["MeanIntensity"] == [100.0, 200.0, 300.0]
    assert rows["ZStackIndex"] == []  # the host's to fill


def test_run_2d_that_finds_nothing_leaves_a_table_without_rows() -> None:
    node = ThresholdAt()
    data = channel_input(np.zeros((2, 4, 4, 1), np.float32))
    binary, table = binary_output((2, 4, 4, 1)), defined_table(node, data)
    table.withColData(["ObjectId"], [[7]])
    node.run_2d([data], [binary, table], limnode.RunContext(), threshold=0)
    assert not binary.data.any()
    assert table.data.rowCount == 0


def test_values_that_are_no_number_become_empty_cells() -> None:
    node = ThresholdAt()
    data = channel_input(np.full((1, 2, 2, 1), np.nan, np.float32))
    table = defined_table(node, data)
    node.write_object_table(table, node.object_table(np.ones((2, 2), int), data.data[0, :, :, 0]))
    assert table.data.colData("MeanIntensity") == [None]


def test_a_table_that_output_did_not_define_is_refused() -> None:
    with pytest.raises(ExternalModuleError, match="define_outputs"):
        MIXIN.write_object_table(
            limnode.OutputTableData(parName="t", data=limnode.LimTableDataBase("t")), {"Area": np.ones(1)}
        )


def test_a_dict_gives_its_labels_and_numbers_never_overflow() -> None:
    class TwoHuge(GA3NodeMixin):
        def process_image(self, image: np.ndarray, **params: Any) -> Any:
            return {"labels": np.full(image.shape, 2**30 + 1), "text": "found"}

    out = binary_output((1, 2, 2, 1))
    TwoHuge().run_2d([channel_input(np.zeros((1, 2, 2, 1), np.uint8))], [out], limnode.RunContext())
    assert (out.data == 2**30 + 1).all()
    with pytest.raises(ExternalModuleError, match="2147483650"):
        TwoHuge().run_2d(
            [channel_input(np.zeros((2, 2, 2, 1), np.uint8))], [binary_output((2, 2, 2, 1))], limnode.RunContext()
        )


def test_run_2d_stops_between_planes_when_the_host_asks() -> None:
    node = ThresholdAt()
    context = limnode.RunContext()
    context._should_abort = lambda: len(node.seen) >= 2
    out = binary_output((4, 2, 2, 1))
    node.run_2d([channel_input(np.ones((4, 2, 2, 1), np.uint8))], [out], context, threshold=0)
    assert len(node.seen) == 2
    np.testing.assert_array_equal(out.data[:, 0, 0, 0], [1, 2, 0, 0])


def test_a_call_that_was_given_up_ends_the_run_quietly() -> None:
    class GivenUp(GA3NodeMixin):
        def process_image(self, image: np.ndarray, **params: Any) -> Any:
            raise CallAbortedError("asked to")

    out = binary_output((1, 2, 2, 1))
    GivenUp().run_2d([channel_input(np.ones((1, 2, 2, 1), np.uint8))], [out], limnode.RunContext())
    assert not out.data.any()


def test_a_node_needs_nothing_until_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(ExternalModuleNode, GA3NodeMixin):
        MODULE_NAME = "no such module"

    monkeypatch.setenv("EXTERNAL_MODULES_PATH", str(tmp_path))
    before = (list(sys.path), dict(os.environ), os.getcwd())
    node = Missing()
    node.close()
    with pytest.raises(NotImplementedError, match="process_image"):
        node.process_image(np.zeros((1, 1)))
    with pytest.raises(ExternalModuleError, match=r"no such module.*EXTERNAL_MODULES_PATH"):
        node.call_worker("worker.py")
    assert (sys.path, dict(os.environ), os.getcwd()) == before
