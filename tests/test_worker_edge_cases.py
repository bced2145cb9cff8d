"""What users get wrong, and what goes wrong around them, through the workers' real command line."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import time
from typing import Any

import numpy as np
import pytest
from cutting_proxy import CuttingProxy
from platform_driver import Finished, Platform, finish, tool_parameters
from running_workbench import RunningWorkbench

from condensatenet.simulation import simulate_frame

TRAIN = {
    "Initial Model": "pretrained",
    "New Model Name": "edge case",
    "Annotation Tag": ["corrected"],
    "Region Tag": ["region"],
    "Channel": 0,
    "Epochs": 10,
    "Learning Rate": 0.001,
    "Patch Size": 128,
}
LIST_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}
PREDICT = {"Model": "pretrained", "Instance Grouping": "merged"}


@pytest.fixture(scope="module")
def frames(workbench: RunningWorkbench) -> str:
    """A dataset of 2 Z slices with one complete region on the first one."""
    rng = np.random.default_rng(5)
    planes = [simulate_frame((160, 160), rng=rng) for _ in range(2)]
    dataset = workbench.import_array("edge cases", np.stack([image.astype(np.uint16) for image, _ in planes]), "ZYX")
    workbench.annotate_labels(dataset, planes[0][1], "corrected")
    workbench.platform.annotate(dataset, "rectangle", [(0, 0), (160, 0), (160, 160), (0, 160)], "region")
    workbench.platform.annotate(dataset, "rectangle", [(500, 500), (600, 500), (600, 600)], "outside")
    workbench.platform.annotate(dataset, "rectangle", [(0, 0), (9, 0), (9, 9)], "other slice", location=(0, 1, 0))
    workbench.platform.annotate(dataset, "rectangle", [(0, 0), (9, 0), (9, 9)], "no such slice", location=(0, 7, 0))
    workbench.platform.annotate(dataset, "polygon", [(1, 1), (3, 1), (3, 3)], "corrected", location=(0, 7, 0))
    workbench.platform.annotate(dataset, "polygon", [(5, 5), (5, 5), (5, 5)], "corrected")
    return dataset


def model_names(platform: Platform) -> list[str]:
    """Names that the predict tool offers."""
    platform.run_worker("predict", "interface", {"image": "for-the-names"})
    items: list[str] = platform.connection.get("worker_interface", {"image": "for-the-names"})["Model"]["items"]
    return items


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"Annotation Tag": []}, ["Annotation Tag"]),
        ({"Annotation Tag": None}, ["Annotation Tag"]),
        ({"Region Tag": []}, ["Region Tag"]),
        ({"Region Tag": ["corrected"]}, ["corrected", "both"]),
        ({"Annotation Tag": ["nobody"]}, ["nobody", "Annotation Tag"]),
        ({"Region Tag": ["nowhere"]}, ["nowhere", "Region Tag"]),
        ({"Region Tag": ["other slice"]}, ["Annotation Tag", "XY, Z and Time"]),
        ({"Region Tag": ["outside"]}, ["region", "on the image"]),
        ({"Region Tag": ["no such slice"]}, ["region", "on the image"]),
        ({"Initial Model": None}, ["Initial Model"]),
        ({"Initial Model": ""}, ["Initial Model"]),
        ({"Initial Model": "gone"}, ["gone", "pretrained"]),
        ({"New Model Name": "../up"}, ["name"]),
        ({"New Model Name": "pretrained"}, ["pretrained"]),
        ({"Channel": 3}, ["Channel"]),
        ({"Epochs": 5000}, ["Epochs", "10", "500"]),
        ({"Epochs": "many"}, ["Epochs", "many"]),
        ({"Learning Rate": 5}, ["Learning Rate"]),
        ({"Patch Size": 4096}, ["Patch Size", "512"]),
    ],
)
def test_training_that_cannot_work_says_so_at_once(
    workbench: RunningWorkbench, frames: str, values: dict[str, Any], words: list[str]
) -> None:
    parameters = tool_parameters("train", frames, {**TRAIN, **values})
    finished = workbench.platform.run_worker("train", "compute", parameters, frames, **LIST_IMPORTS)
    assert finished.exit_code == 1
    assert all(word in shown(finished) for word in words), shown(finished)
    assert imported("requests", finished) and not imported("torch", finished)


@pytest.mark.parametrize(
    ("values", "tool", "words"),
    [
        ({"Model": None}, {}, ["Model"]),
        ({"Model": "gone"}, {}, ["gone", "pretrained"]),
        ({"Model": "../../etc"}, {}, ["etc"]),
        ({"Batch Z": "1-3"}, {}, ["Batch Z", "3"]),
        ({"Batch Z": "2-1"}, {}, ["Batch Z", "backwards"]),
        ({"Batch Time": "0"}, {}, ["Batch Time"]),
        ({"Batch XY": "all but one"}, {}, ["Batch XY"]),
        ({"Probability Threshold": "1.5"}, {}, ["Probability Threshold"]),
        ({"Min Size": 700}, {}, ["Min Size", "Max Size"]),
        ({"Tile Size": 100}, {}, ["Tile Size"]),
        ({"Instance Grouping": "other"}, {}, ["Instance Grouping"]),
        ({}, {"channel": 4}, ["channel"]),
        ({}, {"tile": {"XY": 0, "Z": 9, "Time": 0}}, ["Batch Z", "10"]),
    ],
)
def test_prediction_that_cannot_work_says_so_at_once(
    workbench: RunningWorkbench, frames: str, values: dict[str, Any], tool: dict[str, Any], words: list[str]
) -> None:
    parameters = tool_parameters("predict", frames, {**PREDICT, **values}, **tool)
    finished = workbench.platform.run_worker("predict", "compute", parameters, frames, **LIST_IMPORTS)
    assert finished.exit_code == 1
    assert all(word in shown(finished) for word in words), shown(finished)
    assert imported("requests", finished) and not imported("torch", finished)


def test_values_as_the_platform_really_sends_them(workbench: RunningWorkbench, frames: str) -> None:
    """Numbers as text and unrounded, empty fields, and a tool that was saved with the earlier worker."""
    values = {"Model Version": "condensatenet-v1", "Min Size": "15", "Max Size": 599.6, "Padding": "", "Batch Z": 2}
    finished = workbench.platform.compute("predict", frames, values, tags=["saved tool"])
    assert finished.exit_code == 0, finished.trouble
    assert any("pretrained is used" in text for text in finished.texts("warning"))
    assert "No GPU" in finished.output
    found = workbench.platform.annotations.getAnnotationsByDatasetId(frames, tags=["saved tool"])
    assert found and {document["location"]["Z"] for document in found} == {1}
    assert finished.lines[-1]["info"].startswith(f"{len(found)} condensates")


def test_taken_name_is_replaced_and_the_new_model_works(workbench: RunningWorkbench, frames: str) -> None:
    platform = workbench.platform
    for learning_rate in (0.001, 0.002):
        finished = platform.compute("train", frames, {**TRAIN, "Learning Rate": learning_rate, "Patch Size": 140})
        assert finished.exit_code == 0, finished.trouble
        warnings = finished.texts("warning")
        assert any("128 is used instead of 140" in text for text in warnings)
        assert any("1 outline left out" in text for text in warnings)  # the one of `frames` without an area
        assert "Training on the CPU, which takes longer." in warnings
        assert "AP@0.5" in warnings[-1] and "edge case" in warnings[-1]
    assert model_names(platform).count("edge case") == 1
    predicted = platform.compute("predict", frames, {**PREDICT, "Model": "edge case"}, tags=["by edge case"])
    assert predicted.exit_code == 0, predicted.trouble
    assert platform.annotations.countAnnotationsByDatasetId(frames)["count"] > 0


def test_unreadable_archive(workbench: RunningWorkbench, frames: str) -> None:
    workbench.upload_model_archive("broken", b"this is no archive")
    finished = workbench.platform.compute("predict", frames, {**PREDICT, "Model": "broken"})
    assert finished.exit_code == 1 and "broken" in finished.error


def test_pickle_in_an_archive_is_not_executed(workbench: RunningWorkbench, frames: str) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in (("config.json", b"{}"), ("model.safetensors", b"\x80\x04c__builtin__\nexec\n.")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    workbench.upload_model_archive("pickled", content.getvalue())
    finished = workbench.platform.compute("train", frames, {**TRAIN, "Initial Model": "pickled"})
    assert finished.exit_code == 1 and len(finished.texts("error")) == 1


@pytest.mark.parametrize("kind", ["predict", "train"])
def test_refused_token(workbench: RunningWorkbench, frames: str, kind: str) -> None:
    stranger = Platform(workbench.platform.api_url, "0" * 24)
    finished = stranger.compute(kind, frames, PREDICT if kind == "predict" else TRAIN)
    assert finished.exit_code == 1 and "log in" in finished.error


def test_unknown_dataset(workbench: RunningWorkbench) -> None:
    finished = workbench.platform.compute("predict", "f" * 24, PREDICT)
    assert finished.exit_code == 1 and len(finished.texts("error")) == 1


def test_server_gone_in_mid_prediction(workbench: RunningWorkbench, frames: str) -> None:
    """The connection is cut for good while the network is at work on the first of two slices."""
    with CuttingProxy(workbench.platform.api_url) as proxy:
        platform = Platform(proxy.api_url, workbench.platform.token)
        parameters = tool_parameters("predict", frames, {**PREDICT, "Batch Z": "all"}, tags=["cut off"])
        began = time.monotonic()
        process = platform.start_worker("predict", "compute", parameters, frames)
        wait_for_line(process, "loading the image")
        proxy.cut()
        finished = finish(process, began)
    assert finished.exit_code == 1
    assert "cannot be reached" in finished.error or "broke" in finished.error
    assert workbench.platform.annotations.getAnnotationsByDatasetId(frames, tags=["cut off"]) == []


def test_server_away_at_the_end_of_training_does_not_cost_the_model(workbench: RunningWorkbench, frames: str) -> None:
    with CuttingProxy(workbench.platform.api_url) as proxy:
        platform = Platform(proxy.api_url, workbench.platform.token)
        parameters = tool_parameters("train", frames, {**TRAIN, "New Model Name": "waited for"})
        began = time.monotonic()
        process = platform.start_worker("train", "compute", parameters, frames)
        wait_for_line(process, "epoch")
        proxy.cut()
        wait_for_line(process, "waiting to save the model")
        assert "waited for" not in model_names(workbench.platform)
        proxy.join()
        finished = finish(process, began)
    assert finished.exit_code == 0, finished.trouble
    assert "waited for" in model_names(workbench.platform)


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    """Read what a worker prints up to a line with this text."""
    assert process.stdout is not None
    while line := process.stdout.readline():
        if text in line:
            return
    raise AssertionError(f"the worker ended without saying {text!r}")


def imported(module: str, finished: Finished) -> bool:
    """Whether a worker that was run with LIST_IMPORTS imported a module."""
    return re.search(rf"\| +{module}$", finished.trouble, re.MULTILINE) is not None


def shown(finished: Finished) -> str:
    """What the user sees of an error: its title and text, on one line each."""
    (line,) = [line for line in finished.lines if "error" in line]
    assert "\n" not in line["error"] + line["title"]
    return f"{line['title']} {line['error']}"
