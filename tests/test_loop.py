"""The main job: the whole loop through real processes and HTTP, on the real sample and on simulated frames."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from platform_driver import ROOT

from condensatenet.files.images import read_labels

POSITIONS = {"nuclei": 1, "simulated": 12}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("sample", POSITIONS)
def test_training_through_the_workers_helps_on_what_it_never_saw(sample: str, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "examples" / "loop.py", "--once", "--sample", sample]
    finished = subprocess.run(
        [*command, "--epochs", "10", "--port", "0", "--output", tmp_path], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    table = re.search(r"^AP at IoU 0\.50 +([\d.]+) +([\d.]+)", finished.stdout, re.MULTILINE)
    assert table, finished.stdout
    assert float(table[2]) > float(table[1]), finished.stdout
    assert "Training helped: AP@0.5" in finished.stderr

    output = tmp_path / sample
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
    data = tmp_path / "workbench"
    assert not (data / "server.json").exists()
    assert not any(path.is_file() for path in (data / "files" / ".partial").rglob("*"))
