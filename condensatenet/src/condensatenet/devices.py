"""Which processor the network runs on."""

from __future__ import annotations

from condensatenet.errors import InvalidOptionError


def get_device(device: str | None = None) -> str:
    """Return the name of the device to compute on: `device` if it is there, else CUDA, else MPS, else the CPU.

    Raises:
        InvalidOptionError: the device that was asked for is unknown or not there.
    """
    import torch

    if device is None or device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InvalidOptionError(f"unknown device {device!r}; use cuda, mps or cpu") from error
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise InvalidOptionError(
            f"device {device!r} was asked for, but this machine does not offer it; use cpu or leave it out"
        )
    return device
