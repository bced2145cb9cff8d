"""The main job: the whole loop through real processes and HTTP, and the model that came of it at a microscope."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from microscope import make_environment
from platform_driver import ROOT
from whole_modules import share_downloads

from condensatenet import CondensateNetPipeline, simulate_frame
from condensatenet.files.images import read_labels
from external_modules.external_module import ExternalModule

MODULE = ROOT / "external_modules" / "modules" / "condensatenet_module"
POSITIONS = {"nuclei": 1, "simulated": 12}


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Loop]]:
    """Both samples at the same time, with a core for each."""
    command = [sys.executable, ROOT / "examples" / "loop.py", "--once", "--epochs", "10", "--port", "0"]
    started: dict[str, Loop] = {}
    for sample in POSITIONS:
        output = tmp_path_factory.mktemp(sample)
        with open(output / "stdout", "w") as stdout, open(output / "stderr", "w") as stderr:
            process = subprocess.Popen(
                [*command, "--sample", sample, "--output", output],
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        started[sample] = Loop(process, output)
    yield started
    for loop in started.values():
        loop.process.terminate()
        loop.process.wait()


class Loop(NamedTuple):
    """A run of the whole loop."""

    process: subprocess.Popen[bytes]
    output: Path

    def finish(self) -> tuple[str, str]:
        """Wait for its end; return what it printed on stdout and stderr."""
        code = self.process.wait()
        printed = [(self.output / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        assert code == 0, "".join(printed)
        return printed[0], printed[1]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("sample", POSITIONS)
def test_training_through_the_workers_helps_on_what_it_never_saw(sample: str, loops: dict[str, Loop]) -> None:
    printed, said = loops[sample].finish()
    table = re.search(r"^AP at IoU 0\.50 +([\d.]+) +([\d.]+)", printed, re.MULTILINE)
    assert table, printed
    assert float(table[2]) > float(table[1]), printed
    assert "Training helped: AP@0.5" in said

    output = loops[sample].output / sample
    assert (output / "unseen_part.png").read_bytes().startswith(b"\x89PNG")
    masks = [read_labels(file) for file in sorted((output / "export" / "labels").iterdir())]
    assert len(masks) == POSITIONS[sample]
    (outlines,) = (output / "export").glob("*.geojson")
    features = json.loads(outlines.read_text(encoding="utf-8"))["features"]
    (objects,) = (output / "export").glob("*.csv")
    with objects.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(features) == len(rows) == sum(int(mask.max()) for mask in masks) > 10

    # The workbench has ended and left nothing that only lives while it runs.
    data = loops[sample].output / "workbench"
    assert not (data / "server.json").exists()
    assert not any(path.is_file() for path in (data / "files" / ".partial").rglob("*"))


@pytest.mark.timeout(1800)  # torch may have to be downloaded
def test_what_was_learnt_runs_at_the_microscope(
    loops: dict[str, Loop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops["simulated"].finish()
    data = str(loops["simulated"].output / "workbench")
    item = "Private/.condensatenet/models/my model.tar.gz"
    command = [sys.executable, "-m", "workbench", "files", item, "--output", tmp_path, "--data", data]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    image, _ = simulate_frame((200, 260), rng=np.random.default_rng(5), bit_depth=16)
    with tarfile.open(tmp_path / "my model.tar.gz") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (model,) = (path.parent for path in (tmp_path / "unpacked").rglob("config.json"))
    expected = CondensateNetPipeline.from_local(model, "cpu").segment(image)
    assert expected.max() > 3

    home = tmp_path / "home"
    home.mkdir()
    share_downloads(home)
    monkeypatch.setenv("EXTERNAL_MODULES_TORCH_BACKEND", "cpu")
    with ExternalModule(MODULE, home) as module:
        make_environment(module)
        labels = module.call("worker.py", input_image=image, model=tmp_path / "my model.tar.gz")
    assert np.array_equal(labels, expected)
