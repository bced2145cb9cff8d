"""SIGTERM at 20 random moments of the two workers: they end in time, and nothing half-written is left anywhere."""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platform_driver import finish, tool_parameters
from running_workbench import RunningWorkbench

from condensatenet.files.model_directory import load_network
from condensatenet.simulation import simulate_frame

MOMENTS = {"predict": 12, "train": 8}
SECONDS_TO_END = 10
VALUES: dict[str, dict[str, Any]] = {
    "predict": {"Model": "pretrained", "Batch Z": "all", "Instance Grouping": "merged"},
    "train": {
        "Initial Model": "pretrained",
        "New Model Name": "stopped",
        "Annotation Tag": ["corrected"],
        "Region Tag": ["region"],
        "Epochs": 10,
        "Patch Size": 128,
    },
}


@pytest.fixture(scope="module")
def frames(workbench: RunningWorkbench) -> str:
    """A dataset of 3 frames, the first one annotated."""
    rng = np.random.default_rng(8)
    planes = [simulate_frame((128, 128), rng=rng) for _ in range(12)]
    planes = sorted(planes, key=lambda plane: -int(plane[1].max()))[:3]
    dataset = workbench.import_array("to be stopped", np.stack([p.astype(np.uint16) for p, _ in planes]), "ZYX")
    workbench.annotate_labels(dataset, planes[0][1], "corrected")
    workbench.platform.annotate(dataset, "rectangle", [(0, 0), (128, 0), (128, 128), (0, 128)], "region")
    return dataset


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["predict", "train"])
def test_stop_at_random_moments(workbench: RunningWorkbench, frames: str, kind: str, tmp_path: Path) -> None:
    platform, parameters = workbench.platform, tool_parameters(kind, frames, VALUES[kind])
    whole = platform.run_worker(kind, "compute", parameters, frames)
    assert whole.exit_code == 0, whole.trouble
    moments = random.Random(20)
    waits = [moments.uniform(0.02, 0.9) * whole.seconds for _ in range(MOMENTS[kind])]

    def stop_after(seconds: float, folder: Path) -> None:
        temporary, home = folder / "tmp", folder / "home"
        temporary.mkdir(parents=True)
        began = time.monotonic()
        process = platform.start_worker(kind, "compute", parameters, frames, TMPDIR=str(temporary), HOME=str(home))
        time.sleep(seconds)
        was_running = process.poll() is None
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        finished = finish(process, began)
        assert time.monotonic() - asked < SECONDS_TO_END
        was_done = any(line.get("progress") == 1 for line in finished.lines)  # and was about to end by itself
        if was_running and not (was_done and finished.exit_code == 0):
            # Before Python has begun to listen, the signal ends it directly.
            assert finished.exit_code in (143, -signal.SIGTERM), finished.trouble
        assert list(temporary.iterdir()) == []
        assert not any(path.is_file() for path in (home / ".condensatenet").rglob("*"))
        assert not finished.texts("error") and "Traceback" not in finished.trouble

    with ThreadPoolExecutor(2) as pool:  # a worker takes one core
        list(pool.map(stop_after, waits, (tmp_path / str(number) for number in range(len(waits)))))
    assert not any(files for _, _, files in os.walk(workbench.data / "files" / ".partial"))
    if kind == "train":
        load_network(workbench.fetch_model("stopped", tmp_path / "model"))
