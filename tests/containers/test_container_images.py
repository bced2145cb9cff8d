"""What is in the two images, how they are built, and that the platform knows them by their labels."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Images, run_build_script
from container_platform import ContainerPlatform, image_of
from platform_driver import ROOT
from running_workbench import RunningWorkbench
from stand_in_base import docker

from condensatenet.files.pretrained import SHIPPED_MODEL

KINDS = ("predict", "train")
COMMON_LABELS = {
    "isUPennContrastWorker": "",
    "isAnnotationWorker": "",
    "isGPUWorker": "true",
    "com.nvidia.volumes.needed": "nvidia_driver",
    "annotationShape": "polygon",
    "interfaceCategory": "CondensateNet",
    "hasPreview": "False",
}
LABELS = {
    "predict": {
        **COMMON_LABELS,
        "interfaceName": "CondensateNet segmentation",
        "defaultToolName": "CondensateNet segmentation",
        "description": "Outlines biomolecular condensates, with the pretrained network or with one that you trained",
    },
    "train": {
        **COMMON_LABELS,
        "interfaceName": "CondensateNet training",
        "defaultToolName": "CondensateNet training",
        "description": "Teaches CondensateNet with the outlines that you corrected",
        "advancedOptionsPanel": "False",
        "annotationConfigurationPanel": "False",
    },
}


def inspect(image: str) -> dict[str, Any]:
    (description,) = json.loads(docker("inspect", image))
    return dict(description)


def layers(kind: str) -> list[str]:
    return list(inspect(image_of(kind))["RootFS"]["Layers"])


def shell(kind: str, script: str) -> str:
    """Return what a shell in a container prints."""
    return docker("run", "--rm", "--entrypoint", "sh", image_of(kind), "-c", script)


def test_a_build_that_reaches_no_hub_says_so(images: Images) -> None:
    assert "The published models could not be downloaded: the images hold the small model" in images.output
    assert shell("predict", "ls -A /models") == ""


@pytest.mark.parametrize("kind", KINDS)
def test_labels(images: Images, kind: str) -> None:
    assert inspect(image_of(kind))["Config"]["Labels"] == LABELS[kind]


def test_the_workbench_offers_the_images_with_their_labels(images: Images, workbench: RunningWorkbench) -> None:
    available = workbench.platform.connection.get("worker_interface/available")
    assert {kind: available[image_of(kind)] for kind in KINDS} == LABELS


def test_python_is_started_directly_and_by_no_mighty_user(images: Images) -> None:
    for kind in KINDS:
        config = inspect(image_of(kind))["Config"]
        assert config["Entrypoint"] == ["/opt/venv/bin/python", "/worker/entrypoint.py"]
        assert not config["Cmd"]
        assert shell(kind, "id -u").strip() != "0"


def test_nothing_is_shipped_that_only_builds_or_tests(images: Images) -> None:
    for kind in KINDS:
        assert shell(kind, "for name in gcc cc c++ ld strip nvcc git pip uv; do command -v $name || true; done") == ""
        assert shell(kind, "find /opt/venv -type d -name tests") == ""
        folders = "/tmp /source /wheels /root /var/lib/apt/lists /var/cache/apt"
        assert shell(kind, f"find {folders} -size +0 -type f 2>/dev/null || true") == ""
    assert "training_set.py" not in shell("predict", "ls /worker")


def test_the_images_differ_in_their_last_layer_only(images: Images) -> None:
    predict, train = (layers(kind) for kind in KINDS)
    assert predict[:-1] == train[:-1] and predict[-1] != train[-1]


def test_a_changed_entrypoint_costs_one_layer(images: Images) -> None:
    before = layers("predict"), layers("train")
    entrypoint = images.tree / "workers" / "annotations" / "condensatenet" / "predict" / "entrypoint.py"
    text = entrypoint.read_text(encoding="utf-8")
    entrypoint.write_text(text + "# changed\n", encoding="utf-8")
    output = images.build("--build-arg", "PUBLISHED_MODELS=no", "condensatenet")
    assert "Successfully" in output or "exporting" in output
    predict, train = layers("predict"), layers("train")
    assert predict[:-1] == before[0][:-1] and predict[-1] != before[0][-1]
    assert train == before[1]
    entrypoint.write_text(text, encoding="utf-8")
    images.build("--build-arg", "PUBLISHED_MODELS=no", "condensatenet_predict")
    assert layers("predict") == before[0]


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """Serve the shipped model under the names of the published ones, where a hub has them."""
    for name in ("condensatenet", "condensatenet-v1"):
        (folder / "rajlab" / name / "resolve").mkdir(parents=True)
        (folder / "rajlab" / name / "resolve" / "main").symlink_to(SHIPPED_MODEL)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_published_models_are_baked_in(images: Images, workbench: RunningWorkbench, tmp_path: Path) -> None:
    with hub(tmp_path) as endpoint:
        output = images.build("--build-arg", f"HF_ENDPOINT={endpoint}", "condensatenet_predict")
    try:
        assert "could not be downloaded" not in output
        platform = ContainerPlatform(workbench.platform.api_url, workbench.platform.token)
        finished = platform.run_worker("predict", "interface", {"image": image_of("predict")})
        assert finished.exit_code == 0, finished.trouble
        interface = platform.connection.get("worker_interface", {"image": image_of("predict")})
        assert interface["Model"]["items"][:3] == ["pretrained", "condensatenet", "condensatenet-v1"]
    finally:
        images.build("--build-arg", "PUBLISHED_MODELS=no", "condensatenet_predict")


def test_tools_of_the_older_image(images: Images, workbench: RunningWorkbench, tmp_path: Path) -> None:
    """The recipe of the guide: the older image's name leads to the new worker, and both stand in the menu."""
    guide = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    (recipe,) = [
        part for part in guide.split("```") if "annotations/condensatenet:latest" in part and "docker build" in part
    ]
    older = "annotations/condensatenet:stand-in"
    recipe = recipe.replace("annotations/condensatenet:latest", older).replace(
        "annotations/condensatenet_predict:latest", image_of("predict")
    )
    subprocess.run(["bash", "-ec", recipe], check=True, capture_output=True)
    try:
        labels = inspect(older)["Config"]["Labels"]
        assert labels.pop("interfaceName") != LABELS["predict"]["interfaceName"]
        assert labels.items() <= LABELS["predict"].items()
        deadline = time.monotonic() + 30  # the workbench looks for images every few seconds
        while older not in (available := workbench.platform.connection.get("worker_interface/available")):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert image_of("predict") in available
    finally:
        docker("rmi", older)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["condensatenet_predikt"], "There is no worker condensatenet_predikt. There are: condensatenet_predict"),
        (["--cache"], "Unknown option: --cache"),
        (["--build-arg", "TORCH=cpu"], "no argument TORCH=cpu"),
        (["--build-arg"], "--build-arg needs NAME=VALUE"),
    ],
)
def test_the_build_script_refuses_what_it_does_not_know(images: Images, arguments: list[str], message: str) -> None:
    finished = run_build_script(images.tree, *arguments, succeeds=False)
    assert message in finished.stdout


def test_a_build_that_fails_is_a_failure(images: Images) -> None:
    finished = run_build_script(
        images.tree,
        "--build-arg",
        "BASE_IMAGE=condensatenet-tests/missing:latest",
        "condensatenet_train",
        succeeds=False,
    )
    assert "Built" not in finished.stdout
