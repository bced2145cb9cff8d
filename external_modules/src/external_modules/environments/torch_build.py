"""Which build of torch an environment gets (CPU, or one for the machine's GPU), and where it may come from."""

from __future__ import annotations

import os
import shutil
import sys

BACKEND_VARIABLE = "EXTERNAL_MODULES_TORCH_BACKEND"


def torch_backend() -> str:
    """Return a name that uv's --torch-backend knows: cpu; cu126 and the like; or auto, which fits the machine."""
    return os.environ.get(BACKEND_VARIABLE) or "auto"


def torch_requests(version: str, *, backend: str, from_folders: bool) -> list[list[str]]:
    """Return the arguments with which uv is to be asked for torch, one after the other until one succeeds.

    Args:
        version: of torch.
        backend: as `torch_backend`.
        from_folders: whether uv knows folders of wheels: a build that lies there needs no download.
    """
    build = "cpu" if backend == "auto" and not _has_nvidia_gpu() else backend
    online = [*_rules(backend), "--torch-backend", backend, _name(version, backend)]
    if not from_folders or build == "auto":
        return [online]
    return [[*_rules(build), "--no-index", _name(version, build)], online]


def _rules(build: str) -> list[str]:
    # No hash says which file is right: so the first index that has a name is the only one that is asked for it.
    strategy = ["--index-strategy", "first-index"]
    # On Linux the libraries for a GPU are packages of their own. No other build needs anything that is not locked.
    return strategy if sys.platform == "linux" and build != "cpu" else [*strategy, "--no-deps"]


def _name(version: str, build: str) -> str:
    # On macOS there is one build, without a name.
    return f"torch=={version}" if build == "auto" or sys.platform == "darwin" else f"torch=={version}+{build}"


def _has_nvidia_gpu() -> bool:
    drivers = ("/proc/driver/nvidia/version", "/sys/module/nvidia/version")
    return any(os.path.exists(path) for path in drivers) or shutil.which("nvidia-smi") is not None
