"""Small model directories for tests: a real network description, and weights of any size that no network has."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

from condensatenet.files.pretrained import SHIPPED_MODEL

REPORT = {"ap50_before": 0.25, "ap50_after": 0.5, "improved": True, "held_out": "1 region", "history": [{"loss": 1.0}]}


def make_model(directory: Path, *, seed: int = 0, weights_bytes: int = 3000, report: bool = True) -> Path:
    """Make a model directory whose weights are random bytes, which do not compress."""
    directory.mkdir(parents=True)
    config = json.loads((SHIPPED_MODEL / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps({**config, "seed": seed}), encoding="utf-8")
    tensors = {"weights": {"dtype": "U8", "shape": [weights_bytes], "data_offsets": [0, weights_bytes]}}
    header = json.dumps(tensors).encode()
    content = random.Random(seed).randbytes(weights_bytes)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + content)
    if report:
        (directory / "training_report.json").write_text(json.dumps(REPORT), encoding="utf-8")
        (directory / "README.md").write_text("# A model\n", encoding="utf-8")
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    """Return the names and bytes of all that lies in a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}
