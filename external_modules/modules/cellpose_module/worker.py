"""Runs in the module's own environment: finds cells and nuclei with Cellpose 3."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

# All of it is imported here, because on Windows an import of compiled code can hang while another thread reads from the
# host (numpy/numpy#24290); nothing reads yet.
import numpy as np
import torch
from cellpose.models import CellposeModel
from cellpose_models import USUAL_MODEL, ModelError, channels_of_model, find_model
from module_worker import serve
from numpy.typing import NDArray

_KEPT_MODELS = 4  # so that a host may use a few in turn
_TILE, _OVERLAP = 224, 0.1  # Cellpose's own

Progress = Callable[[float, str], None]


def segment(
    input_image: NDArray[Any],
    *,
    nuclei_image: NDArray[Any] | None = None,
    model: str | None = None,
    diameter: float | None = None,
    flow_threshold: float = 0.4,
    cellprob_threshold: float = 0.0,
    min_size: int = 15,
    niter: int | None = None,
    progress: Progress,
) -> NDArray[np.int32]:
    """Label cells or nuclei.

    Args:
        input_image: (H, W) of any integer or floating dtype: what is segmented.
        nuclei_image: (H, W), the nuclei of the same cells, which helps the models that learnt with them (the cyto
            models did); None for none.
        model: path of a model that Cellpose 3 or an earlier one trained, or the name of one of Cellpose's own, such as
            "nuclei", which is downloaded at its first use. None for "cyto3". It stays loaded until its file changes.
        diameter: of the objects in pixels; None for the size that the model learnt from.
        flow_threshold: objects whose outline fits worse to what the network says are dropped; higher keeps more, 0
            all.
        cellprob_threshold: from about -6 to 6; lower finds more and larger objects.
        min_size: smaller objects, in pixels, are dropped.
        niter: steps in which pixels wander to their object's centre; None for a number that suits the diameter. Long
            objects may need 2000.
        progress: told how far it is.

    Returns:
        (H, W) int32 labels, 1 to the number of objects, 0 for background.
    """
    channels = [_checked(input_image)]
    if nuclei_image is not None:
        channels.append(_checked(nuclei_image))
        if nuclei_image.shape != input_image.shape:
            raise ValueError(f"nuclei_image has the shape {nuclei_image.shape}, and the image {input_image.shape}")
    if diameter is not None and not 1 <= diameter < math.inf:
        raise ValueError(f"diameter is {diameter}; it must be given in pixels, 1 or more, or None")

    path = find_model(USUAL_MODEL if model is None else model, lambda fraction, text: progress(0.1 * fraction, text))
    progress(0.1, "loading the model")
    status = os.stat(path)
    cellpose = _load(path, (status.st_mtime_ns, status.st_size))
    if len(channels) > cellpose.nchan:
        raise ValueError(f"the model {path} learnt from one channel; leave nuclei_image out")
    if min(input_image.shape) < 2:  # nothing can flow to a centre, and Cellpose fails
        return np.zeros(input_image.shape, np.int32)
    channels.extend(np.zeros_like(channels[0]) for _ in range(cellpose.nchan - len(channels)))

    progress(0.2, "computing")
    scale = cellpose.diam_mean / (cellpose.diam_labels if diameter is None else diameter)
    with _telling(cellpose.net, [length * scale for length in input_image.shape], progress):
        labels, *_ = cellpose.eval(
            np.stack(channels, axis=-1),
            channel_axis=2,
            batch_size=1 if cellpose.device.type == "cpu" else 8,  # a CPU takes twice as long for 8 as for 8 times 1
            diameter=diameter,
            flow_threshold=flow_threshold,
            cellprob_threshold=cellprob_threshold,
            min_size=min_size,
            niter=niter,
        )
    progress(1.0, f"{labels.max(initial=0)} objects")
    return labels.astype(np.int32)


def _checked(image: NDArray[Any]) -> NDArray[np.float32]:
    if image.ndim != 2:
        raise ValueError(f"an image of shape (H, W) is needed, not {image.shape}")
    converted = image.astype(np.float32)
    if not np.isfinite(converted).all():
        raise ValueError("the image holds values that are no number or infinite; replace them, by 0 for example")
    return converted


@lru_cache(maxsize=_KEPT_MODELS)
def _load(path: Path, state: tuple[int, int]) -> CellposeModel:
    print(f"loading the model {path}", flush=True)
    try:
        channels = channels_of_model(path)
    except ModelError as error:
        raise ModelError(f"The model {path} cannot be used: {error}") from None
    model = CellposeModel(gpu=True, pretrained_model=os.fspath(path), nchan=channels)
    print(f"loaded; computing on {model.device}", flush=True)
    return model


@contextmanager
def _telling(network: torch.nn.Module, size: list[float], progress: Progress) -> Iterator[None]:
    """Report every batch of tiles, which is also where a call can be given up."""
    tiles = math.prod(math.ceil((1 + 2 * _OVERLAP) * length / _TILE) for length in size)
    done = 0

    def tell(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], outputs: object) -> None:
        nonlocal done
        done += len(inputs[0])
        progress(0.2 + 0.6 * min(1.0, done / max(tiles, 1)), f"{done} of about {tiles} tiles")

    hook = network.register_forward_hook(tell)
    try:
        yield
    finally:
        hook.remove()


if __name__ == "__main__":
    serve(segment)
