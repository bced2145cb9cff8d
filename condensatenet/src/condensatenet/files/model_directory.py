"""A model on disk: a directory with `config.json` and `model.safetensors`, read by our own code only.

Nothing in a model directory is executed: the network is built from this package, and the weights are plain tensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condensatenet.errors import InvalidModelError, ModelNotFoundError
from condensatenet.files.safetensors_header import read_header
from condensatenet.network.variants import NetworkConfig

if TYPE_CHECKING:
    from torch import Tensor

    from condensatenet.network.model import CondensateNet

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_MAX_CONFIG_BYTES = 2**20
_FLOAT_TYPES = ("F64", "F32", "F16", "BF16")
_HUB_CODE = "rajlab/condensatenet--"
_PUBLISHED_KEYS = {
    "architectures": ["CondensateNet"],
    "model_type": "condensatenet",
    # This form lets the original package load a directory that carries no code.
    "auto_map": {
        "AutoConfig": f"{_HUB_CODE}configuration_condensatenet.CondensateNetConfig",
        "AutoModel": f"{_HUB_CODE}modeling_condensatenet.CondensateNet",
    },
}


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the parsed and checked `config.json` of a model directory; unknown keys are kept.

    Raises:
        ModelNotFoundError: the directory or the file is not there.
        InvalidModelError: the file is not a JSON object or describes a network that this version does not know.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise ModelNotFoundError(
            f"there is no model directory {directory}; check the path, or leave it out for the shipped model"
        )
    file = _existing(directory / CONFIG_FILE)
    if file.stat().st_size > _MAX_CONFIG_BYTES:
        raise InvalidModelError(f"{file}: too large for a model description ({file.stat().st_size} bytes)")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidModelError(f"{file}: not valid JSON ({error}); copy the model again") from error
    if not isinstance(config, dict):
        raise InvalidModelError(f"{file}: must hold a JSON object, not {type(config).__name__}")
    try:
        NetworkConfig.from_dict(config)
    except InvalidModelError as error:
        raise InvalidModelError(f"{file}: {error}") from error
    return config


def load_network(path: str | os.PathLike[str], device: str = "cpu") -> tuple[CondensateNet, dict[str, Any]]:
    """Return the network of a model directory, in evaluation mode on `device`, and its parsed `config.json`.

    Raises:
        ModelNotFoundError: the directory or one of its two files is not there.
        InvalidModelError: a file is damaged, or the weights do not fit the network that the configuration describes.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from condensatenet.network.model import CondensateNet

    config = read_config(path)
    file = _existing(Path(path) / WEIGHTS_FILE)
    header = read_header(file)
    with torch.device("meta"):
        network = CondensateNet(NetworkConfig.from_dict(config))
    _check_tensors(file, header, network.state_dict())
    try:
        state = load_file(file)
    except SafetensorError as error:
        raise InvalidModelError(f"{file}: not a safetensors file ({error}); copy the model again") from error
    if not all(torch.isfinite(tensor).all() for tensor in state.values() if tensor.is_floating_point()):
        raise InvalidModelError(f"{file}: holds NaN or infinite weights; train or copy the model again")
    # Copied out of the mapped file, which can then be replaced (Windows would refuse to), to aligned memory, so that a
    # loaded network computes bit by bit what the saved one did.
    state = {
        name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in state.items()
    }
    network.load_state_dict(state, assign=True)
    return network.to(device).eval().requires_grad_(False), config


def save_network(path: str | os.PathLike[str], network: CondensateNet, config: Mapping[str, Any]) -> None:
    """Write `config.json` and `model.safetensors` into an existing directory.

    The configuration gets the keys of the published models besides those in `config`, so that the original package can
    load it; what describes the network's shape is taken from the network.
    """
    from safetensors.torch import save

    directory = Path(path)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    # Not `save_file`, whose files only their owner may read.
    (directory / WEIGHTS_FILE).write_bytes(save(state, metadata={"format": "pt"}))
    values = {**_PUBLISHED_KEYS, **config, **network.config.to_dict(), "dtype": "float32"}
    (directory / CONFIG_FILE).write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _existing(file: Path) -> Path:
    if not file.is_file():
        hint = ""
        if any((file.parent / name).exists() for name in ("pytorch_model.bin", "model.pt", "model.pth")):
            hint = "; a pickled model (.bin, .pt, .pth) is not loaded, because it can run code"
        raise ModelNotFoundError(f"{file} is missing; a model directory holds {CONFIG_FILE} and {WEIGHTS_FILE}{hint}")
    return file


def _check_tensors(file: Path, header: dict[str, Any], expected: dict[str, Tensor]) -> None:
    missing = sorted(expected.keys() - header.keys())
    unknown = sorted(header.keys() - expected.keys())
    if missing or unknown:
        example = f"{missing[0]} is missing" if missing else f"{unknown[0]} is not part of it"
        raise InvalidModelError(
            f"{file}: not the weights of the network in {CONFIG_FILE} "
            f"({len(missing)} tensors missing, {len(unknown)} unknown; {example})"
        )
    for name, tensor in expected.items():
        shape, dtype = tuple(tensor.shape), header[name].get("dtype")
        if tensor.is_floating_point() != (dtype in _FLOAT_TYPES):
            raise InvalidModelError(f"{file}: {name} holds {dtype} numbers; copy the model again")
        if tuple(header[name].get("shape", ())) != shape:
            raise InvalidModelError(
                f"{file}: {name} has shape {header[name].get('shape')} instead of {list(shape)}, "
                f"so it does not fit {CONFIG_FILE}"
            )
