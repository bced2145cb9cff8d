"""From an image to instances in one call: what images and options it takes, and what it does with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thin_network import bumpy_image, random_network

from condensatenet.errors import (
    CondensateNetError,
    InvalidImageError,
    InvalidModelError,
    InvalidOptionError,
    ModelNotFoundError,
)
from condensatenet.files import pretrained
from condensatenet.files.model_directory import save_network
from condensatenet.inference import pipeline as pipeline_module
from condensatenet.inference.instances import flow_to_instances
from condensatenet.inference.normalize import normalize_image
from condensatenet.inference.pipeline import CondensateNetPipeline, SegmentationSettings

ANY_SIZE: dict[str, Any] = {"min_size": 1, "max_size": 10**6}


@pytest.fixture(scope="module")
def pipeline(model_path: Path) -> CondensateNetPipeline:
    return CondensateNetPipeline.from_local(model_path, device="cpu", prob_threshold=0.5, **ANY_SIZE)


# ---- what it returns


def test_segment_is_its_three_steps(pipeline: CondensateNetPipeline) -> None:
    image = bumpy_image()
    normalized = pipeline.preprocess(image)
    np.testing.assert_array_equal(normalized, normalize_image(image))
    probabilities, flows = pipeline.predict(normalized)
    padded = np.pad(normalized, [(0, 26), (0, 6)], mode="reflect")
    with torch.inference_mode():
        plain = random_network()(torch.from_numpy(padded)[None, None])
    np.testing.assert_allclose(probabilities, plain["mask"].sigmoid()[0, 0, :70, :90], atol=1e-4)
    np.testing.assert_allclose(flows, plain["flows"][0, :, :70, :90], atol=1e-4)
    instances = pipeline.postprocess(probabilities, flows)
    np.testing.assert_array_equal(instances, flow_to_instances(probabilities, flows, 0.5, 1, 10**6, grouping="merged"))
    assert instances.max() > 3

    output = pipeline.segment(image, full_output=True)
    assert set(output) == {"instances", "mask_probs", "flows", "num_instances"}
    np.testing.assert_array_equal(output["instances"], instances)
    np.testing.assert_array_equal(output["mask_probs"], probabilities)
    np.testing.assert_array_equal(output["flows"], flows)
    assert output["num_instances"] == instances.max() and type(output["num_instances"]) is int
    only = pipeline.segment(image)
    assert only.dtype == np.int32 and only.flags.writeable
    np.testing.assert_array_equal(only, instances)


def test_normalised_image_can_be_passed_as_it_is(pipeline: CondensateNetPipeline) -> None:
    normalized = normalize_image(bumpy_image())
    expected = pipeline.segment(bumpy_image())
    for same in (normalized, normalized.astype(np.float64), normalized[:, :, None]):
        np.testing.assert_array_equal(pipeline.segment(same, skip_preprocessing=True), expected)
    wider = np.where(normalized == 1, 7, np.where(normalized == 0, -3, normalized))
    np.testing.assert_array_equal(pipeline.segment(wider, skip_preprocessing=True), expected)
    binary = (normalized > 0.5).astype(np.uint8)
    np.testing.assert_array_equal(
        pipeline.segment(binary, skip_preprocessing=True),
        pipeline.segment(binary.astype(float), skip_preprocessing=True),
    )
    with pytest.raises(InvalidImageError, match="NaN"):
        pipeline.segment(np.full((5, 5), np.nan), skip_preprocessing=True)


# ---- any image


@pytest.mark.parametrize("tile_size", [None, 64])
@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i2", "i4", "u4", "i8", "f2", "f4", ">f4", "f8"])
def test_every_number_type_gives_the_same(pipeline: CondensateNetPipeline, dtype: str, tile_size: int | None) -> None:
    expected = pipeline.segment(bumpy_image(), full_output=True, tile_size=tile_size)
    found = pipeline.segment(bumpy_image(dtype=dtype), full_output=True, tile_size=tile_size)
    tolerance = 0.05 if dtype == "f2" else 1e-4  # NumPy computes percentiles of float16 in float16
    np.testing.assert_allclose(found["mask_probs"], expected["mask_probs"], atol=tolerance)
    assert found["instances"].shape == (70, 90)
    if dtype != "f2":
        assert np.mean(found["instances"] != expected["instances"]) < 0.01


@pytest.mark.parametrize("tile_size", [None, 64])
def test_every_memory_layout_gives_the_same(pipeline: CondensateNetPipeline, tile_size: int | None) -> None:
    image = bumpy_image()
    expected = pipeline.segment(image, tile_size=tile_size)
    spread = np.zeros((140, 270), np.uint16)
    spread[::2, ::3] = image
    read_only = image.copy()
    read_only.flags.writeable = False
    for same in (spread[::2, ::3], np.asfortranarray(image), image[::-1][::-1], read_only, image[:, :, None]):
        np.testing.assert_array_equal(pipeline.segment(same, tile_size=tile_size), expected)
    assert expected.max() > 3


@pytest.mark.parametrize("tile_size", [None, 64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 3), (1, 150), (150, 1), (31, 33), (65, 129), (200, 5)])
def test_every_size_works(pipeline: CondensateNetPipeline, shape: tuple[int, int], tile_size: int | None) -> None:
    image = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
    output = pipeline.segment(image, full_output=True, tile_size=tile_size)
    assert output["instances"].shape == output["mask_probs"].shape == shape
    assert output["flows"].shape == (2, *shape)
    if image.size > 1:
        assert output["mask_probs"].any()


@pytest.mark.parametrize("value", [0, 3, 255])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8"])
def test_constant_image_has_no_instances(pipeline: CondensateNetPipeline, dtype: str, value: int) -> None:
    for shape in ((1, 1), (40, 100)):
        image = np.full(shape, value, dtype)
        output = pipeline.segment(image, full_output=True, tile_size=64, prob_threshold=0.0)
        assert output["num_instances"] == 0
        assert not output["instances"].any() and output["instances"].shape == shape
        assert not pipeline.segment(image / 255, skip_preprocessing=True, prob_threshold=0.0).any()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((9, 9), np.nan), "NaN"),
        (np.full((9, 9), np.inf), "infinite"),
        (np.zeros((9, 9, 3), np.uint8), "3 channels"),
        (np.zeros((7, 9, 9), np.uint8), "2-D plane"),
        (np.zeros((0, 9), np.uint8), "empty"),
        (np.zeros((9, 9), bool), "bool"),
    ],
)
def test_image_that_is_none_is_refused(pipeline: CondensateNetPipeline, image: Any, reason: str) -> None:
    with pytest.raises(InvalidImageError, match=reason):
        pipeline.segment(image)


# ---- options


def test_percentile_0_can_be_set(pipeline: CondensateNetPipeline, model_path: Path) -> None:
    image = bumpy_image() + 5
    image[0, :5] = 0  # fewer than half a percent
    normalized = normalize_image(image, 0, 100)
    assert not np.array_equal(normalized, normalize_image(image))
    np.testing.assert_array_equal(pipeline.preprocess(image, low_percentile=0, high_percentile=100), normalized)
    expected = pipeline.predict(normalized)[0]
    output = pipeline.segment(image, full_output=True, low_percentile=0, high_percentile=100)
    np.testing.assert_array_equal(output["mask_probs"], expected)
    lasting = CondensateNetPipeline.from_local(model_path, "cpu", low_percentile=0, high_percentile=100)
    np.testing.assert_array_equal(lasting.segment(image, full_output=True)["mask_probs"], expected)


def test_options_hold_for_one_call(pipeline: CondensateNetPipeline) -> None:
    image = bumpy_image()
    usual = pipeline.segment(image)
    areas = np.bincount(usual.ravel())[1:]
    limit = int(np.median(areas))
    assert 0 < (areas > limit).sum() < areas.size
    assert pipeline.segment(image, max_size=limit).max() == (areas <= limit).sum()
    assert pipeline.segment(image, min_size=limit + 1).max() == (areas > limit).sum()
    assert not pipeline.segment(image, prob_threshold=1.0).any()
    assert pipeline.segment(image, prob_threshold=0).all()
    exact = pipeline.segment(image, grouping="exact", flow_steps=7, step_scale=0.9)
    output = pipeline.segment(image, full_output=True)
    np.testing.assert_array_equal(
        exact, flow_to_instances(output["mask_probs"], output["flows"], 0.5, 1, 10**6, 7, 0.9, grouping="exact")
    )
    tiled = pipeline.segment(image, full_output=True, tile_size=64, overlap=0.5)
    assert not np.array_equal(tiled["mask_probs"], output["mask_probs"])
    np.testing.assert_array_equal(pipeline.segment(image), usual)


def test_none_leaves_an_option_as_it_is(pipeline: CondensateNetPipeline) -> None:
    same = SegmentationSettings(min_size=3, tile_size=64).with_options({"min_size": None, "overlap": None})
    assert same == SegmentationSettings(min_size=3, tile_size=64)
    assert same.with_options({"tile_size": None}).tile_size is None


def test_progress_is_told(pipeline: CondensateNetPipeline) -> None:
    calls: list[tuple[float, str]] = []
    pipeline.segment(bumpy_image(), tile_size=64, progress_callback=lambda *call: calls.append(call))
    assert [fraction for fraction, _ in calls] == [0.25, 0.5, 0.75, 1.0]


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"low_percentile": -1}, "0 <= low < high <= 100"),
    ({"high_percentile": 100.5}, "0 <= low < high <= 100"),
    ({"low_percentile": 60, "high_percentile": 50}, "0 <= low < high <= 100"),
    ({"low_percentile": float("nan")}, "0 <= low < high <= 100"),
    ({"low_percentile": "0.5"}, "low_percentile must be a number, not '0.5'"),
    ({"prob_threshold": 1.1}, "prob_threshold must be from 0 to 1"),
    ({"prob_threshold": -0.1}, "prob_threshold must be from 0 to 1"),
    ({"prob_threshold": True}, "prob_threshold must be a number, not True"),
    ({"min_size": -1}, "0 <= min_size <= max_size"),
    ({"min_size": 10, "max_size": 9}, "0 <= min_size <= max_size, not 10 and 9"),
    ({"min_size": "15"}, "min_size must be a number, not '15'"),
    ({"max_size": [600]}, "max_size must be a number"),
    ({"flow_steps": -1}, "flow_steps must not be negative"),
    ({"flow_steps": 1.5}, "flow_steps must be a whole number, not 1.5"),
    ({"step_scale": 0}, "step_scale must be positive"),
    ({"step_scale": float("nan")}, "step_scale must be positive"),
    ({"grouping": "both"}, "grouping must be 'merged' or 'exact'"),
    ({"tile_size": 63}, "tile_size must be at least 64 pixels, not 63"),
    ({"tile_size": 0}, "tile_size must be at least 64"),
    ({"tile_size": 100.5}, "tile_size must be a whole number"),
    ({"overlap": 0.51}, "overlap must be from 0 to 0.5"),
    ({"overlap": -0.1}, "overlap must be from 0 to 0.5"),
    ({"threshold": 0.5}, "unknown option 'threshold'; there are low_percentile, .*, overlap"),
]


@pytest.mark.parametrize(("options", "reason"), BAD_OPTIONS, ids=[str(options) for options, _ in BAD_OPTIONS])
def test_wrong_option_is_refused(
    pipeline: CondensateNetPipeline, model_path: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidOptionError, match=reason):
        pipeline.segment(bumpy_image(), **options)
    with pytest.raises(InvalidOptionError, match=reason):
        CondensateNetPipeline.from_local(model_path, "cpu", **options)


def test_numbers_of_numpy_are_numbers(pipeline: CondensateNetPipeline) -> None:
    options = {"min_size": np.int64(4), "tile_size": np.int32(64), "prob_threshold": np.float32(0.5)}
    np.testing.assert_array_equal(
        pipeline.segment(bumpy_image(), **options), pipeline.segment(bumpy_image(), min_size=4, tile_size=64)
    )


# ---- models


def test_models_own_sizes_are_its_defaults(tmp_path: Path) -> None:
    save_network(tmp_path, random_network(), {"min_size": 3, "max_size": 2000})
    pipeline = CondensateNetPipeline.from_local(tmp_path, "cpu")
    assert (pipeline.settings.min_size, pipeline.settings.max_size) == (3, 2000)
    assert CondensateNetPipeline.from_local(tmp_path, "cpu", min_size=7).settings.min_size == 7
    found = pipeline.segment(bumpy_image(), prob_threshold=0.5)
    expected = pipeline.segment(bumpy_image(), prob_threshold=0.5, min_size=3, max_size=2000)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, pipeline.segment(bumpy_image(), prob_threshold=0.5, min_size=15, max_size=600))


def test_defaults_are_the_originals(model_path: Path) -> None:
    settings = CondensateNetPipeline.from_local(model_path, "cpu").settings
    assert (settings.low_percentile, settings.high_percentile, settings.prob_threshold) == (0.5, 99.5, 0.15)
    assert (settings.min_size, settings.max_size, settings.flow_steps, settings.step_scale) == (15, 600, 200, 0.1)


@pytest.mark.parametrize("sizes", [{"min_size": "3"}, {"min_size": 900}, {"max_size": [5]}, {"min_size": True}])
def test_model_with_impossible_sizes_is_refused(tmp_path: Path, sizes: dict[str, Any]) -> None:
    save_network(tmp_path, random_network(), sizes)
    with pytest.raises(InvalidModelError, match=r"config.json: .*size"):
        CondensateNetPipeline.from_local(tmp_path, "cpu")


def test_model_is_loaded_by_path_and_by_name(model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "MODELS_DIR", tmp_path)
    monkeypatch.setattr(pipeline_module, "MODELS_DIR", tmp_path)
    expected = CondensateNetPipeline.from_local(model_path, "cpu").segment(bumpy_image(), prob_threshold=0.5)
    shutil.copytree(model_path, tmp_path / "condensatenet")
    for source in (model_path, str(model_path), "pretrained", "condensatenet", "rajlab/condensatenet"):
        loaded = CondensateNetPipeline.from_pretrained(source, device="cpu")
        assert loaded.device == "cpu"
        np.testing.assert_array_equal(loaded.segment(bumpy_image(), prob_threshold=0.5), expected)
    with pytest.raises(ModelNotFoundError, match="there is no model 'other'; there are: pretrained, condensatenet"):
        CondensateNetPipeline.from_pretrained("other")
    with pytest.raises(ModelNotFoundError):
        CondensateNetPipeline.from_pretrained("./lab/other")
    monkeypatch.setenv("HF_ENDPOINT", "nowhere")
    with pytest.raises(InvalidOptionError, match="HF_ENDPOINT"):  # a name of the hub is looked for there
        CondensateNetPipeline.from_pretrained("lab/other")
    (tmp_path / "other").mkdir()  # what an interrupted download leaves
    with pytest.raises(InvalidOptionError, match="HF_ENDPOINT"):
        CondensateNetPipeline.from_pretrained("lab/other")


def test_unknown_device_is_refused(model_path: Path) -> None:
    for device, reason in (
        ("tpu7", "unknown device 'tpu7'"),
        ("cuda", "does not offer it"),
        ("mps", "does not offer it"),
    ):
        if {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(device, bool)():
            continue
        with pytest.raises(InvalidOptionError, match=reason):
            CondensateNetPipeline.from_local(model_path, device=device)


def test_damaged_model_is_refused(model_path: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(model_path, tmp_path / "broken")
    (broken / "config.json").write_text(json.dumps({"encoder_variant": "b7"}), encoding="utf-8")
    with pytest.raises(InvalidModelError, match="b7") as caught:
        CondensateNetPipeline.from_pretrained(broken)
    assert isinstance(caught.value, CondensateNetError)
