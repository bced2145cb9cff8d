"""What the platform can send in the workers' fields becomes a setting that can be used, or an error to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from model_files import make_model
from worker_modules import load_worker_module

import utils
from annotation_utilities.errors import InterfaceValueError
from utils import ModelStoreError, validate_model_name
from worker_client import WorkerError

predict = load_worker_module("predict/entrypoint.py")
train = load_worker_module("train/entrypoint.py")

READABLE = (InterfaceValueError, WorkerError, ModelStoreError)

PREDICT_VALUES = {
    "Model": "pretrained",
    "Batch XY": "",
    "Batch Z": "1-2",
    "Batch Time": "all",
    "Probability Threshold": 0.15,
    "Min Size": 15,
    "Max Size": 600,
    "Smoothing": 0.3,
    "Padding": 0,
    "Tile Size": 1024,
    "Tile Overlap": 0.1,
    "Instance Grouping": "merged",
}
TRAIN_VALUES = {
    "About": "",
    "Initial Model": "pretrained",
    "New Model Name": "my model",
    "Annotation Tag": ["corrected"],
    "Region Tag": ["region"],
    "Channel": 0,
    "Epochs": 100,
    "Learning Rate": 0.0001,
    "Patch Size": 256,
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
numbers = st.floats(-30, 3000) | st.integers(-30, 3000)
texts = st.sampled_from(
    ["", " ", "merged", "exact", "pretrained", "condensatenet-v1", "condensatenet (original)", "a/b"]
)
"""Values that arrive when a field was typed into, cleared, or saved long ago."""
likely = (
    numbers
    | numbers.map(str)
    | numbers.map(lambda number: f" {number:.3g}\n")
    | texts
    | st.lists(st.sampled_from(["corrected", "region", "", " "]), max_size=3)
    | st.sampled_from([None, [None], "nan", "-inf", "1e999", 10**400, 1e308, "1_0", "٣٠", "0x10", True, "\ud800"])
)


def forms(valid: Mapping[str, Any], *more_fields: str) -> st.SearchStrategy[dict[str, Any]]:
    """Forms of which up to four values are replaced, and of which some are missing."""
    names = st.sampled_from([*valid, *more_fields])
    return st.builds(
        lambda changed, missing: {
            name: value for name, value in {**valid, **changed}.items() if name not in missing or name in changed
        },
        st.dictionaries(names, likely | json_values, max_size=4),
        st.sets(names, max_size=3),
    )


def check_limits(found: Mapping[str, Any], fields: Mapping[str, Mapping[str, Any]], whole: set[str]) -> None:
    assert found.keys() == fields.keys()
    for name, value in found.items():
        assert type(value) in ((int,) if name in whole else (int, float)), name
        assert fields[name]["min"] <= value <= fields[name]["max"], name


def check_readable(error: Exception) -> None:
    """The text names a field and can be sent."""
    text = str(error)
    json.dumps(text)
    assert len(text) > 20 and len(text) < 1000
    assert text[0].isupper() or text[0] in "\"'", text
    if isinstance(error, InterfaceValueError):
        assert text.startswith(f"{error.field}: ")


@pytest.fixture(scope="module", autouse=True)
def baked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An image without models, whatever this machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "BAKED_MODELS_DIR", tmp_path_factory.mktemp("baked"))
        yield patch


@pytest.fixture
def baked_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the models that come with the image, as the test fills it."""
    monkeypatch.setattr(utils, "BAKED_MODELS_DIR", tmp_path / "baked")
    return tmp_path / "baked"


# ---- segmentation


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(forms(PREDICT_VALUES, "Model Version"))
@example({})
@example({"Model": "pretrained", "Min Size": 601, "Max Size": "600"})
def test_any_form_gives_settings_within_the_limits_or_an_error_to_read(values: dict[str, Any]) -> None:
    try:
        found = predict.read_settings(values)
    except READABLE as error:
        check_readable(error)
        return
    segmentation = dict(found.segmentation)
    assert segmentation.pop("grouping") in ("merged", "exact")
    assert segmentation["min_size"] <= segmentation["max_size"]
    fields = {
        "prob_threshold": "Probability Threshold",
        "min_size": "Min Size",
        "max_size": "Max Size",
        "tile_size": "Tile Size",
        "overlap": "Tile Overlap",
    }
    by_name = {fields[name]: value for name, value in segmentation.items()}
    by_name |= {"Smoothing": found.smoothing, "Padding": found.padding}
    check_limits(by_name, predict.NUMBERS, {"Min Size", "Max Size", "Tile Size"})
    assert isinstance(found.model, str) and found.model.strip()


def test_the_fields_are_those_of_the_interface() -> None:
    assert set(predict.NUMBERS) < set(PREDICT_VALUES)
    assert set(train.NUMBERS) < set(TRAIN_VALUES)
    for fields in (predict.NUMBERS, train.NUMBERS):
        assert all(field["min"] <= field["default"] <= field["max"] for field in fields.values())


@pytest.mark.parametrize("empty", [None, "", "  ", ...])
def test_empty_numbers_are_the_defaults(empty: Any) -> None:
    values = {} if empty is ... else dict.fromkeys(predict.NUMBERS, empty)
    found = predict.read_settings({"Model": "mine", **values})
    assert (found.model, found.smoothing, found.padding) == ("mine", 0.3, 0)
    assert found.segmentation == {
        "prob_threshold": 0.15,
        "min_size": 15,
        "max_size": 600,
        "tile_size": 1024,
        "overlap": 0.1,
        "grouping": "exact",  # what a tool computed that was saved before there was a choice
    }


def test_typed_and_unrounded_numbers_are_understood() -> None:
    values = {
        "Model": "mine",
        "Min Size": "20",
        "Max Size": 103.4487,
        "Padding": " -1.5 ",
        "Instance Grouping": "merged",
    }
    found = predict.read_settings(values)
    assert (found.segmentation["min_size"], found.segmentation["max_size"], found.padding) == (20, 103, -1.5)
    assert found.segmentation["grouping"] == "merged"


@pytest.mark.parametrize("name", list(predict.NUMBERS))
@pytest.mark.parametrize("end", ["min", "max"])
def test_limits_are_accepted_and_what_is_beyond_is_refused(name: str, end: str) -> None:
    limit = predict.NUMBERS[name][end]
    wide = {"Model": "mine", "Min Size": 0, "Max Size": 100_000}
    if (name, end) == ("Max Size", "min"):
        wide["Min Size"] = 1
    predict.read_settings({**wide, name: limit})
    beyond = limit + predict.NUMBERS[name]["step"] * (1 if end == "max" else -1)
    with pytest.raises(InterfaceValueError, match=f"^{name}: "):
        predict.read_settings({**wide, name: beyond})


def test_sizes_that_let_nothing_through_are_refused() -> None:
    with pytest.raises(WorkerError, match=r"Min Size \(50\) is larger than Max Size \(49\)"):
        predict.read_settings({"Model": "mine", "Min Size": 50, "Max Size": 49})
    assert predict.read_settings({"Model": "mine", "Min Size": 50, "Max Size": 50}).segmentation["min_size"] == 50


@pytest.mark.parametrize(
    ("version", "directory"), [("condensatenet-v1", "condensatenet-v1"), ("condensatenet (original)", "condensatenet")]
)
def test_a_model_version_of_an_older_tool_is_the_model_of_the_image(
    version: str, directory: str, baked_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(baked_models / directory)
    assert predict.read_settings({"Model Version": version}).model == directory
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("other", [None, "condensatenet"])
def test_a_model_version_that_is_not_installed_is_replaced_with_a_warning(
    other: str | None, baked_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if other:
        make_model(baked_models / other)
    assert predict.read_settings({"Model Version": "condensatenet-v1"}).model == "pretrained"
    message = json.loads(capsys.readouterr().out)
    assert message["title"] == "Another model is used"
    assert message["warning"].startswith("condensatenet-v1 is not installed here, so the model pretrained is used.")


def test_a_model_is_preferred_to_a_model_version(baked_models: Path) -> None:
    make_model(baked_models / "condensatenet-v1")
    assert predict.read_settings({"Model": "mine", "Model Version": "condensatenet-v1"}).model == "mine"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "Model"),
        ({"Model": None}, "Model"),
        ({"Model": ""}, "Model"),
        ({"Model": 3}, "Model"),
        ({"Model": None, "Model Version": "condensatenet-v1"}, "Model"),
        ({"Model Version": None}, "Model Version"),
        ({"Model Version": ""}, "Model Version"),
        ({"Model Version": "condensatenet-v9"}, "Model Version"),
        ({"Model Version": ["condensatenet-v1"]}, "Model Version"),
    ],
)
def test_a_model_that_was_not_chosen_is_asked_for(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InterfaceValueError) as caught:
        predict.read_settings(values)
    assert caught.value.field == field


# ---- training


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(forms(TRAIN_VALUES))
@example({})
def test_any_form_gives_a_training_within_the_limits_or_an_error_to_read(values: dict[str, Any]) -> None:
    try:
        found = train.read_settings(values)
    except READABLE as error:
        check_readable(error)
        return
    by_name = {"Epochs": found.epochs, "Learning Rate": found.learning_rate, "Patch Size": found.patch_size}
    check_limits(by_name, train.NUMBERS, {"Epochs", "Patch Size"})
    assert found.patch_size % 32 == 0
    assert isinstance(found.initial_model, str) and found.initial_model.strip()
    assert validate_model_name(found.name) == found.name
    for tags in (found.annotation_tags, found.region_tags):
        assert tags and all(isinstance(tag, str) and tag.strip() for tag in tags) and len(set(tags)) == len(tags)
    assert not set(found.annotation_tags) & set(found.region_tags)


@pytest.mark.parametrize("empty", [None, "", "  ", ...])
def test_empty_fields_of_a_training_are_the_defaults(empty: Any, capsys: pytest.CaptureFixture[str]) -> None:
    given_values = {name: TRAIN_VALUES[name] for name in ("Initial Model", "Annotation Tag", "Region Tag")}
    if empty is not ...:
        given_values |= dict.fromkeys([*train.NUMBERS, "New Model Name"], empty)
    found = train.read_settings(given_values)
    assert (found.epochs, found.learning_rate, found.patch_size) == (100, 0.0001, 256)
    assert is_default(found.name)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", list(train.NUMBERS))
@pytest.mark.parametrize("end", ["min", "max"])
def test_limits_of_a_training_are_accepted_and_what_is_beyond_is_refused(name: str, end: str) -> None:
    limit = train.NUMBERS[name][end]
    train.read_settings({**TRAIN_VALUES, name: limit})
    beyond = limit + train.NUMBERS[name]["step"] * (1 if end == "max" else -1)
    with pytest.raises(InterfaceValueError, match=f"^{name}: "):
        train.read_settings({**TRAIN_VALUES, name: beyond})


def test_typed_and_unrounded_numbers_of_a_training_are_understood() -> None:
    values = {
        "Epochs": 20.7,
        "Learning Rate": " 1e-3 ",
        "Patch Size": "192",
        "New Model Name": 7,
        "Annotation Tag": "a",
    }
    found = train.read_settings({**TRAIN_VALUES, **values})
    assert (found.epochs, found.learning_rate, found.patch_size) == (21, 0.001, 192)
    assert (found.name, found.annotation_tags) == ("7", ["a"])


def test_a_tag_cannot_mark_both_regions_and_objects() -> None:
    with pytest.raises(WorkerError, match='"b" is both an Annotation Tag and a Region Tag'):
        train.read_settings({**TRAIN_VALUES, "Annotation Tag": ["a", "b"], "Region Tag": ["b", "c"]})
    found = train.read_settings({**TRAIN_VALUES, "Annotation Tag": "a", "Region Tag": ["B", " ", "B"]})
    assert (found.annotation_tags, found.region_tags) == (["a"], ["B"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(128, 512) | st.integers(1280, 5120).map(lambda tenths: tenths / 10))
def test_the_patch_size_is_the_nearest_multiple_of_32(capsys: pytest.CaptureFixture[str], size: float) -> None:
    found = train.read_settings({**TRAIN_VALUES, "Patch Size": size})
    assert type(found.patch_size) is int
    assert found.patch_size % 32 == 0 and 128 <= found.patch_size <= 512
    assert abs(found.patch_size - round(size)) <= 16
    output = capsys.readouterr().out
    if found.patch_size == round(size):
        assert output == ""
    else:
        message = json.loads(output)
        assert message["title"] == "Patch Size was rounded"
        assert f"{found.patch_size} is used instead of {round(size)}." in message["warning"]


# ---- names of new models

DEFAULT = "condensatenet-2026-01-02-030405"


def is_default(name: str) -> bool:
    """Whether `unique_name` replaces the name when it is taken."""
    return bool(train.unique_name(name, [name]) != name)


def test_the_default_name_is_valid_and_is_taken_for_a_default() -> None:
    before = datetime.now().replace(microsecond=0)
    name = train.new_default_name()
    moment = datetime.strptime(name, "condensatenet-%Y-%m-%d-%H%M%S")
    assert before <= moment <= datetime.now()
    assert validate_model_name(name) == name
    assert is_default(name) and is_default(DEFAULT) and is_default(f"{DEFAULT}-2")


@pytest.mark.parametrize(
    "name", ["my model", "condensatenet-2026", f"{DEFAULT}-x", f"my {DEFAULT}", f"{DEFAULT} ", DEFAULT.upper()]
)
def test_a_name_that_the_user_chose_is_kept_although_it_is_taken(name: str) -> None:
    assert train.unique_name(name, ["pretrained", name, DEFAULT]) == name


def test_a_default_that_is_free_is_kept() -> None:
    assert train.unique_name(DEFAULT, ["pretrained", f"{DEFAULT}-2"]) == DEFAULT
    assert train.unique_name(DEFAULT, []) == DEFAULT


def test_a_default_that_is_taken_becomes_a_new_one() -> None:
    before = datetime.now().replace(microsecond=0)
    name = train.unique_name(DEFAULT, [DEFAULT])
    assert datetime.strptime(name, "condensatenet-%Y-%m-%d-%H%M%S") >= before
    assert validate_model_name(name) == name


def test_a_new_default_that_is_taken_is_numbered() -> None:
    start = datetime.now()
    soon = [f"condensatenet-{start + timedelta(seconds=n):%Y-%m-%d-%H%M%S}" for n in range(60)]
    assert train.unique_name(DEFAULT, [DEFAULT, *soon]) in [f"{name}-2" for name in soon]
    numbered = [f"{name}-{n}" for name in soon for n in (2, 3)]
    name = train.unique_name(DEFAULT, [DEFAULT, *soon, *numbered])
    assert name in [f"{name}-4" for name in soon]
    assert validate_model_name(name) == name


@given(st.text(max_size=40) | st.just(DEFAULT), st.lists(st.text(max_size=40) | st.just(DEFAULT), max_size=5))
def test_the_name_is_the_given_one_or_free(name: str, existing: list[str]) -> None:
    found = train.unique_name(name, existing)
    assert found == name or (name == DEFAULT and found not in existing)
    assert found not in existing or name != DEFAULT
