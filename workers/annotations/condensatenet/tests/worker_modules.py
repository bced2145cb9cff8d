"""The workers' own modules, loaded by path: both workers call theirs `entrypoint`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

WORKERS = Path(__file__).resolve().parents[1]


def load_worker_module(path: str) -> ModuleType:
    """Return a module such as `train/entrypoint.py` under a name of its own, the same object each time."""
    name = f"condensatenet_worker_{path.removesuffix('.py').replace('/', '_')}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, WORKERS / path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up while they are made
        spec.loader.exec_module(module)
    return sys.modules[name]
