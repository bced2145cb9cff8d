"""The state of an unfinished training run on disk, from which it goes on bit by bit as if it had never stopped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from condensatenet.errors import TrainingError

_STATE_FILE = "state.pt"


def checkpoint_directory(output_path: Path) -> Path:
    """Return where the unfinished run that will become `output_path` is kept: beside it."""
    return output_path.with_name(output_path.name + ".training")


def write_checkpoint(directory: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint; a kill at any moment leaves the old one or the new one."""
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / (_STATE_FILE + ".partial")
    with partial.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, directory / _STATE_FILE)


def read_checkpoint(directory: Path, device: str) -> dict[str, Any] | None:
    """Return the state that was written last, or None if there is none.

    Raises:
        TrainingError: the file is damaged.
    """
    file = directory / _STATE_FILE
    if not file.exists():
        return None
    try:
        # weights_only: tensors and plain values, no code.
        return torch.load(file, map_location=device, weights_only=True)
    except Exception as error:
        raise TrainingError(f"{file} cannot be read ({error}); start again without resuming") from error


def remove_checkpoint(directory: Path) -> None:
    """Delete the state of a finished run."""
    shutil.rmtree(directory, ignore_errors=True)
