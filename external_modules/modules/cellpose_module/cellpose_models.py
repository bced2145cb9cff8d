"""Finds the file of a Cellpose model, by its path or its name, and looks into it before Cellpose does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from cellpose.models import MODEL_DIR, MODEL_NAMES
from cellpose.resnet_torch import CPnet
from model_download import DownloadError, download

USUAL_MODEL = "cyto3"
ADDRESS = "https://www.cellpose.org/models"

# Cellpose's own models by name. The two transformers need a package that Cellpose does not bring along.
OWN_MODELS = tuple(dict.fromkeys(name for name in MODEL_NAMES if "transformer" not in name))
_FILE_NAMES = {"cyto": "cytotorch_0", "cyto2": "cyto2torch_0", "nuclei": "nucleitorch_0"}  # others: as the model

_LAYERS = [32, 64, 128, 256]
_OUTPUTS = 3  # two flows, and the probability of being in a cell


class ModelError(ValueError):
    """A model cannot be used; the text says why and what to do."""


def find_model(model: str, progress: Callable[[float, str], None]) -> Path:
    """Return the file of a model, downloaded if it is one of Cellpose's own that is not there.

    Args:
        model: absolute path of a file; or a name: one of `OWN_MODELS`, or of a file in Cellpose's folder of models,
            where its program keeps the models that users trained.
        progress: told how far a download is.

    Raises:
        ModelError: there is no such model, or it cannot be downloaded.
    """
    path = Path(model)
    if path.is_absolute():
        if not path.is_file():
            raise ModelError(f"there is no model {path}; check the path")
        return path
    if path.name != model:
        raise ModelError(f"the path of a model must be a whole one, such as C:\\models\\mine, not {model!r}")
    file = MODEL_DIR / _FILE_NAMES.get(model, model)
    if file.is_file():
        return file
    if model not in OWN_MODELS:
        raise ModelError(
            f"there is no model {model!r}. Give the path of one, or a name: {', '.join(OWN_MODELS)}, or that of a file "
            f"in {MODEL_DIR}. (Models of Cellpose 4, such as cpsam, need a module of their own.)"
        )
    address = f"{ADDRESS}/{file.name}"
    print(f"downloading {address}", flush=True)
    try:
        download(
            address,
            file,
            check=channels_of_model,
            progress=lambda fraction, text: progress(fraction, f"downloading the model {model} ({text})"),
        )
    except (DownloadError, ModelError) as error:
        raise ModelError(
            f"The model {model} could not be downloaded: {str(error).rstrip('.')}. Connect this computer to the "
            f"internet, or download {address} on another one and copy it to {file}"
        ) from None
    return file


def channels_of_model(path: Path) -> int:
    """Return how many channels a model takes, 1 or 2. Nothing in the file is run.

    Raises:
        ModelError: the file is not one of the standard network of Cellpose 1 to 3; tells why, but not which file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file leads to; torch's own text would advise to trust it
        print(f"{path}: {type(error).__name__}: {error}", flush=True)
        raise ModelError("it is damaged, or no model of Cellpose. Copy or download it again.") from None
    tensors = state if isinstance(state, dict) else {}
    if "W2" in tensors:
        raise ModelError(
            "it is one of Cellpose 4 (Cellpose-SAM), and this module computes with Cellpose 3. Train it again with "
            "Cellpose 3, or use a module that has Cellpose 4."
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    for channels in (1, 2):
        if _expected_shapes(channels).items() <= shapes.items():
            return channels
    raise ModelError(
        "it holds something else than Cellpose's standard network for segmentation. Transformers and models that "
        "denoise are not computed here."
    )


@cache
def _expected_shapes(channels: int) -> dict[str, tuple[int, ...]]:
    # Cellpose itself would leave what a file lacks as it is, at random.
    return {
        name: tuple(tensor.shape)
        for name, tensor in CPnet([channels, *_LAYERS], _OUTPUTS, sz=3).state_dict().items()
        if not name.startswith("diam_") and not name.endswith("num_batches_tracked")  # older files lack them
    }
