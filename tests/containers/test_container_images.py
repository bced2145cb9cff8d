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

import numpy as np
import pytest
from container_platform import ContainerPlatform
from platform_driver import ROOT, tool_parameters
from running_workbench import RunningWorkbench
from stand_in_base import docker
from worker_images import KINDS, Images, image_of, run_build_script

from condensatenet.files.pretrained import SHIPPED_MODEL
from condensatenet.simulation import simulate_frame

pytestmark = pytest.mark.timeout(1800)  # the first test waits for the images
OWN_LAYERS = 2  # with the modules of a worker, and their bytecode
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


def labels(image: str) -> dict[str, str]:
    """Return an image's labels but for those that newer versions of compose add."""
    found = config(image)["Labels"]
    return {name: value for name, value in found.items() if not name.startswith("com.docker.compose.")}


def config(image: str) -> dict[str, Any]:
    return dict(json.loads(docker("inspect", "--format", "{{json .Config}}", image)))


def layers(kind: str) -> list[str]:
    return list(json.loads(docker("inspect", "--format", "{{json .RootFS.Layers}}", image_of(kind))))


def shell(kind: str, script: str, *options: str) -> str:
    """Return what a shell in a container prints."""
    return docker("run", "--rm", *options, "--entrypoint", "sh", image_of(kind), "-c", script)


def test_a_build_that_reaches_no_hub_says_so(images: Images) -> None:
    assert "The published models could not be downloaded: the images hold the small model" in images.output
    assert shell("predict", "ls -A /models") == ""


@pytest.mark.parametrize("kind", KINDS)
def test_labels(images: Images, kind: str) -> None:
    assert labels(image_of(kind)) == LABELS[kind]


def test_the_workbench_offers_the_images_with_their_labels(images: Images, workbench: RunningWorkbench) -> None:
    available = workbench.platform.connection.get("worker_interface/available")
    assert {kind: LABELS[kind].items() <= available[image_of(kind)].items() for kind in KINDS} == dict.fromkeys(
        KINDS, True
    )


def test_python_is_started_directly_and_by_no_mighty_user(images: Images) -> None:
    for kind in KINDS:
        assert config(image_of(kind))["Entrypoint"] == ["/opt/venv/bin/python", "/worker/entrypoint.py"]
        assert not config(image_of(kind)).get("Cmd")
        assert shell(kind, "id -u").strip() != "0"


def test_nothing_is_shipped_that_only_builds_or_tests(images: Images) -> None:
    as_root = ("--user", "0")
    for kind in KINDS:
        assert shell(kind, "for name in gcc cc c++ ld strip nvcc git pip uv; do command -v $name || true; done") == ""
        assert shell(kind, "find /opt /worker -type d '(' -name tests -o -path '*/torch/test' ')'", *as_root) == ""
        assert shell(kind, "find / -xdev -name .cache -o -name '*.deb'", *as_root) == ""
        folders = "/tmp /source /wheels /root/.cache /var/lib/apt/lists /var/cache/apt"
        assert shell(kind, f"find {folders} -size +0 -type f 2>/dev/null || true", *as_root) == ""
    assert "training_set.py" not in shell("predict", "ls /worker")


def test_the_images_differ_in_their_last_layers_only(images: Images) -> None:
    predict, train = (layers(kind) for kind in KINDS)
    assert predict[:-OWN_LAYERS] == train[:-OWN_LAYERS]


def test_a_changed_entrypoint_costs_only_these_layers(images: Images, report: list[str]) -> None:
    before = layers("predict"), layers("train")
    entrypoint = images.tree / "workers" / "annotations" / "condensatenet" / "predict" / "entrypoint.py"
    text = entrypoint.read_text(encoding="utf-8")
    entrypoint.write_text(text + "# changed\n", encoding="utf-8")
    began = time.monotonic()
    images.build("--build-arg", "PUBLISHED_MODELS=no", "condensatenet")
    report.append(f"both images built again after a change to an entrypoint: {time.monotonic() - began:.1f} s")
    assert layers("predict")[:-OWN_LAYERS] == before[0][:-OWN_LAYERS]
    assert layers("predict")[-OWN_LAYERS:] != before[0][-OWN_LAYERS:]
    assert layers("train") == before[1]
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


@pytest.fixture(scope="module")
def dataset(workbench: RunningWorkbench) -> str:
    frame, _ = simulate_frame((128, 128), rng=np.random.default_rng(3))
    return workbench.import_array("a frame", frame.astype(np.uint16), "YX")


def test_published_models_are_baked_in(
    images: Images, workbench: RunningWorkbench, dataset: str, tmp_path: Path
) -> None:
    with hub(tmp_path) as endpoint:
        output = images.build("--build-arg", f"HF_ENDPOINT={endpoint}", "condensatenet_predict")
    try:
        assert "could not be downloaded" not in output
        platform = ContainerPlatform(workbench.platform.api_url, workbench.platform.token)
        finished = platform.run_worker("predict", "interface", {"image": image_of("predict")})
        assert finished.exit_code == 0, finished.trouble
        interface = platform.connection.get("worker_interface", {"image": image_of("predict")})
        assert interface["Model"]["items"][:3] == ["pretrained", "condensatenet", "condensatenet-v1"]
        finished = platform.run_worker(
            "predict", "compute", tool_parameters("predict", dataset, {"Model": "condensatenet"}), dataset
        )
        assert finished.exit_code == 0, finished.output + finished.trouble
    finally:
        images.build("--build-arg", "PUBLISHED_MODELS=no", "condensatenet_predict")


def test_tools_of_the_older_image(images: Images, workbench: RunningWorkbench, dataset: str) -> None:
    """The recipe of the guide: the older image's name leads to the new worker, and both stand in the menu."""
    guide = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    (recipe,) = [part for part in guide.split("```") if "docker build --tag annotations/condensatenet:latest" in part]
    older = image_of("predict").replace("condensatenet_predict", "condensatenet")
    recipe = recipe.replace("annotations/condensatenet:latest", older).replace(
        "annotations/condensatenet_predict:latest", image_of("predict")
    )
    subprocess.run(["bash", "-ec", recipe], check=True, capture_output=True)
    try:
        of_the_older = labels(older)
        assert of_the_older.pop("interfaceName") != LABELS["predict"]["interfaceName"]
        assert of_the_older.items() <= LABELS["predict"].items()
        deadline = time.monotonic() + 30  # the workbench looks for images every few seconds
        while older not in (available := workbench.platform.connection.get("worker_interface/available")):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert image_of("predict") in available
        values = {"Model Version": "condensatenet-v1", "Min Size": 15}
        parameters = tool_parameters("predict", dataset, values, image=older)
        platform = ContainerPlatform(workbench.platform.api_url, workbench.platform.token, image=older)
        finished = platform.run_worker("predict", "compute", parameters, dataset)
        assert finished.exit_code == 0, finished.output + finished.trouble
        assert any("condensatenet-v1 is not installed here" in text for text in finished.texts("warning"))
    finally:
        docker("rmi", older)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["condensatenet_predikt"], "There is no worker condensatenet_predikt. There are: condensatenet_predict"),
        (["--cache"], "Unknown option: --cache"),
        (
            ["--build-arg", "TORCH=cpu"],
            "--build-arg needs NAME=VALUE, such as TORCH_BUILD=cpu",
        ),
        (["--build-arg", "PUBLISHED_MODELS=maybe"], "PUBLISHED_MODELS is yes or no."),
        (["--build-arg"], "(Given: nothing)"),
    ],
)
def test_the_build_script_refuses_what_it_does_not_know(images: Images, arguments: list[str], message: str) -> None:
    assert message in run_build_script(images.tree, *arguments, succeeds=False)


def test_a_build_that_fails_is_a_failure(images: Images) -> None:
    arguments = ("--build-arg", "BASE_IMAGE=condensatenet-tests/missing:latest", "condensatenet_train")
    assert "Built" not in run_build_script(images.tree, *arguments, succeeds=False)
