"""The two images as the platform runs them: against the workbench, and with models on a real Girder server."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from container_platform import ContainerPlatform, platform_with_girder
from platform_driver import ROOT, Finished, finish, tool_parameters
from running_workbench import RunningWorkbench
from worker_images import IMAGE_TAG, KINDS, Images, image_of

import utils
from condensatenet.simulation import simulate_frame

PLACES = ("workbench", "girder")
pytestmark = pytest.mark.timeout(1800)  # the first test waits for the images
TRAIN = {"Initial Model": "pretrained", "Annotation Tag": ["corrected"], "Region Tag": ["region"], "Patch Size": 128}
# As little as a container may be given: a read-only root, Docker's own 64 MB of shared memory, any user.
NARROW = ("--read-only", "--tmpfs", "/tmp", "--shm-size", "64m", "--user", "12345:12345")


@pytest.fixture(scope="module")
def dataset(workbench: RunningWorkbench) -> str:
    """A dataset of 2 frames, the first one annotated."""
    rng = np.random.default_rng(8)
    planes = sorted((simulate_frame((128, 128), rng=rng) for _ in range(12)), key=lambda plane: -int(plane[1].max()))
    identifier = workbench.import_array("frames", np.stack([p.astype(np.uint16) for p, _ in planes[:2]]), "ZYX")
    workbench.annotate_labels(identifier, planes[0][1], "corrected")
    workbench.platform.annotate(identifier, "rectangle", [(0, 0), (128, 0), (128, 128), (0, 128)], "region")
    return identifier


@pytest.fixture(scope="module", params=PLACES)
def platform(
    request: pytest.FixtureRequest, images: Images, workbench: RunningWorkbench, dataset: str, girder: dict[str, str]
) -> Iterator[ContainerPlatform]:
    """A platform that runs the images; its models lie in the place that the parameter names."""
    if request.param == "workbench":
        running = ContainerPlatform(workbench.platform.api_url, workbench.platform.token)
        yield running
        running.remove_container()
    else:
        with platform_with_girder(girder, workbench.platform, [dataset]) as api_url:
            running = ContainerPlatform(api_url, girder["token"], options=NARROW, models="Girder")
            yield running
            running.remove_container()


def parameters_of(kind: str, dataset_id: str, values: dict[str, Any], **tool: Any) -> dict[str, Any]:
    return tool_parameters(kind, dataset_id, values, image=image_of(kind), **tool)


def assert_done(finished: Finished) -> None:
    assert finished.exit_code == 0 and not finished.texts("error"), finished.output + finished.trouble


@pytest.mark.parametrize("kind", KINDS)
def test_interface(platform: ContainerPlatform, kind: str) -> None:
    finished = platform.run_worker(kind, "interface", {"image": image_of(kind)})
    assert_done(finished)
    assert finished.output == finished.trouble == ""
    interface = platform.connection.get("worker_interface", {"image": image_of(kind)})
    assert "pretrained" in interface["Model" if kind == "predict" else "Initial Model"]["items"]


def test_train_then_predict(platform: ContainerPlatform, dataset: str, report: list[str]) -> None:
    name = f"trained on {platform.models}"
    trained = platform.run_worker(
        "train", "compute", parameters_of("train", dataset, {**TRAIN, "New Model Name": name, "Epochs": 10}), dataset
    )
    assert_done(trained)
    assert trained.texts("warning").count("Training on the CPU, which takes longer.") == 1
    assert name in [item["model_name"] for item in utils.list_girder_models(platform.connection)[0]]

    tag = f"found {name}"
    values = {"Model": name, "Batch Z": "all"}
    predicted = platform.run_worker(
        "predict", "compute", parameters_of("predict", dataset, values, tags=[tag]), dataset
    )
    assert_done(predicted)
    assert predicted.output.splitlines().count("No GPU: computing on the CPU.") == 1
    found = list(platform.annotations.iter_annotations(dataset, shape="polygon", tags=[tag]))
    assert {annotation["location"]["Z"] for annotation in found} == {0, 1}
    report.append(
        f"models on {platform.models}: train {trained.seconds:.1f} s, "
        f"predict {predicted.seconds:.1f} s, {len(found)} outlines at 2 positions"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_in_the_middle(platform: ContainerPlatform, dataset: str, kind: str) -> None:
    values: dict[str, Any] = {"Model": "pretrained"}
    if kind == "train":
        values = {**TRAIN, "New Model Name": "cancelled", "Epochs": 500}
    began = time.monotonic()
    process = platform.start_worker(kind, "compute", parameters_of(kind, dataset, values), dataset)
    assert process.stdout is not None
    for line in process.stdout:
        if (kind == "predict" and "progress" in line) or "epoch 2" in line:
            break
    # What it still prints must go somewhere while it ends.
    stopping = threading.Thread(target=platform.cancel)
    stopping.start()
    finished = finish(process, began)
    stopping.join()
    assert finished.exit_code == 143, finished.trouble
    assert "Traceback" not in finished.trouble and not finished.texts("error")
    assert "cancelled" not in [item["model_name"] for item in utils.list_girder_models(platform.connection)[0]]
    left = subprocess.run(["docker", "inspect", platform.container], capture_output=True, check=False)
    assert left.returncode != 0, "the container is still there"


def test_a_session_that_has_ended_is_an_error(images: Images, workbench: RunningWorkbench, dataset: str) -> None:
    platform = ContainerPlatform(workbench.platform.api_url, "0" * 32)
    finished = platform.run_worker(
        "predict", "compute", parameters_of("predict", dataset, {"Model": "pretrained"}), dataset
    )
    assert finished.exit_code == 1
    assert "log in again" in finished.error


def test_the_loop_through_jobs_of_the_workbench(images: Images, tmp_path: Path, report: list[str]) -> None:
    """The workbench finds the images by their labels and runs them: nuclei, annotated, trained on, found better."""
    command = [sys.executable, ROOT / "examples" / "loop.py", "--once", "--containers", IMAGE_TAG, "--epochs", "10"]
    finished = subprocess.run(
        [*command, "--port", "0", "--output", tmp_path], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    table = re.search(r"^AP at IoU 0\.50 +([\d.]+) +([\d.]+)", finished.stdout, re.MULTILINE)
    assert table, finished.stdout
    assert float(table[2]) > float(table[1])
    report.append(f"./run --once --containers, 10 epochs: AP@0.5 {table[1]} before and {table[2]} after training")
