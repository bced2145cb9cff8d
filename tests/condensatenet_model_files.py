"""Models and archives of models for condensatenet_module."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from platform_driver import ROOT
from safetensors.numpy import load_file, save_file

from condensatenet.files.pretrained import SHIPPED_MODEL

MODULE = ROOT / "external_modules" / "modules" / "condensatenet_module"
MODEL_FILES = ("config.json", "model.safetensors")


def write_model(folder: Path, *, bias: float, **config: object) -> Path:
    folder.mkdir()
    described = json.loads((SHIPPED_MODEL / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**described, **config}))
    weights = load_file(SHIPPED_MODEL / "model.safetensors")
    weights["mask_head.bias"] = weights["mask_head.bias"] + np.float32(bias)
    save_file(weights, folder / "model.safetensors")
    return folder


def pack(folder: Path, archive: Path, *more: tuple[tarfile.TarInfo, bytes], prefix: str = "") -> Path:
    """Write an archive as a training stores it, with further entries before the model's files."""
    with gzip.open(archive, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        files = [(entry("manifest.json"), b'{"files": {}}'), (entry("training_report.json"), b"{}"), *more]
        for name in MODEL_FILES:
            files.append((entry(prefix + name), (folder / name).read_bytes()))
        for information, content in files:
            information.size = len(content) if information.isreg() else 0
            tar.addfile(information, io.BytesIO(content))
    return archive


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    information = tarfile.TarInfo(name)
    information.type, information.linkname = kind, link
    return information
