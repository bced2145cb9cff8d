"""Runs in the module's own environment: finds biomolecular condensates with CondensateNet."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

# Some are used later only, but on Windows an import of compiled code can hang while another thread reads from the host
# (numpy/numpy#24290); nothing reads yet.
import deeptile  # noqa: F401
import numpy as np
import safetensors.torch  # noqa: F401
from model_files import CONFIG_FILE, WEIGHTS_FILE, unpack_model
from module_worker import serve
from numpy.typing import NDArray

import condensatenet.inference.tiles  # noqa: F401
from condensatenet import CondensateNetPipeline
from condensatenet.errors import CondensateNetError
from condensatenet.files.pretrained import SHIPPED_MODEL

_KEPT_MODELS = 4  # so that a host may use a few in turn

Progress = Callable[[float, str], None]


def segment(
    input_image: NDArray[Any],
    *,
    model: str | None = None,
    prob_thresh: float | None = None,
    min_size: float | None = None,
    max_size: float | None = None,
    progress: Progress,
) -> NDArray[np.int32]:
    """Label condensates.

    Args:
        input_image: (H, W) of any integer or floating dtype.
        model: path of a model: its folder, or the .tar.gz that a training stored. None for the small model that comes
            with CondensateNet. It stays loaded until its files change.
        prob_thresh: pixels with a higher foreground probability, 0 to 1, belong to condensates; None for 0.15, which
            is right for every model that a training stored.
        min_size: smallest area of a condensate in pixels; None for what the model learnt, or else 15.
        max_size: largest area in pixels; None for what the model learnt, or else 600.
        progress: told how far it is.

    Returns:
        (H, W) int32 labels, 1 to the number of condensates, 0 for background.
    """
    progress(0.0, "loading the model")
    pipeline = _find_pipeline(model)
    progress(0.1, "computing")
    labels = pipeline.segment(
        input_image,
        prob_threshold=prob_thresh,
        min_size=min_size,
        max_size=max_size,
        progress_callback=lambda fraction, text: progress(0.1 + 0.8 * fraction, text),
    )
    progress(1.0, f"{labels.max(initial=0)} condensates")
    return labels


def _find_pipeline(model: str | None) -> CondensateNetPipeline:
    if model is None:
        return _load(SHIPPED_MODEL, _state_of(SHIPPED_MODEL))
    path = Path(model)
    if not path.is_absolute():
        raise ValueError(f"the path of a model must be a whole one, such as C:\\models\\mine.tar.gz, not {model!r}")
    if not path.exists():
        raise FileNotFoundError(f"there is no model {path}; check the path, or use None for the shipped model")
    return _load(path, _state_of(path))


def _state_of(path: Path) -> tuple[tuple[int, int], ...]:
    files = [path / CONFIG_FILE, path / WEIGHTS_FILE] if path.is_dir() else [path]
    states = [os.stat(file) for file in files if file.exists()]  # what is missing is told when it is loaded
    return tuple((state.st_mtime_ns, state.st_size) for state in states)


@lru_cache(maxsize=_KEPT_MODELS)
def _load(path: Path, state: tuple[tuple[int, int], ...]) -> CondensateNetPipeline:
    print(f"loading the model {path}", flush=True)
    folder = path if path.is_dir() else unpack_model(path)
    try:
        pipeline = CondensateNetPipeline.from_local(folder)
    except CondensateNetError as error:
        if folder != path:
            shutil.rmtree(folder, ignore_errors=True)  # is unpacked anew next time
        raise ValueError(f"The model {path} cannot be used: {error}") from error
    print(f"loaded; computing on {pipeline.device}", flush=True)
    return pipeline


if __name__ == "__main__":
    serve(segment)
