"""Models and devices, under the names that users of the original package expect."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condensatenet.devices import get_device
from condensatenet.files.download import download_model
from condensatenet.files.model_directory import WEIGHTS_FILE, load_network, read_config
from condensatenet.files.pretrained import MODELS_DIR, PRETRAINED, find_model

if TYPE_CHECKING:
    from condensatenet.network.model import CondensateNet

__all__ = ["MODELS_DIR", "download_model", "get_cache_dir", "get_device", "get_model_info", "load_model"]


def get_cache_dir() -> Path:
    """Return the directory that holds downloaded models; it need not exist yet."""
    return MODELS_DIR


def load_model(source: str | os.PathLike[str] | None = None, device: str | None = None) -> CondensateNet:
    """Return the network of a model in evaluation mode; None loads the pretrained one.

    Raises:
        ModelNotFoundError, InvalidModelError: there is no such model, or it is damaged.
    """
    return load_network(find_model(source), get_device(device))[0]


def get_model_info(source: str | os.PathLike[str] = PRETRAINED) -> dict[str, Any]:
    """Return what is known about a model without loading its weights: `path`, `size_bytes`, keys of its `config.json`.

    Raises:
        ModelNotFoundError, InvalidModelError: there is no such model, or its description is damaged.
    """
    directory = find_model(source)
    config = read_config(directory)
    weights = directory / WEIGHTS_FILE
    return {"path": str(directory), "size_bytes": weights.stat().st_size if weights.exists() else 0, **config}
