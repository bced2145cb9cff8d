"""The main job: the whole loop through real processes and HTTP, on the real sample and on simulated frames."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from platform_driver import ROOT

from condensatenet.files.images import read_labels

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
