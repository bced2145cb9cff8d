"""Where models lie on this machine, and what `pretrained` means here."""

from __future__ import annotations

import os
from pathlib import Path

from condensatenet.errors import ModelNotFoundError
from condensatenet.files.model_directory import CONFIG_FILE, WEIGHTS_FILE

MODELS_DIR = Path.home() / ".condensatenet" / "models"
"""Downloaded models, one directory each."""

SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "pretrained"
"""The small model inside this package, trained on simulated condensates."""

PRETRAINED = "pretrained"
_PUBLISHED = ("condensatenet-v1", "condensatenet")


def find_pretrained() -> Path:
    """Return the directory of the published model if it was downloaded, else that of the shipped small one."""
    for name in _PUBLISHED:
        directory = MODELS_DIR / name
        if (directory / CONFIG_FILE).is_file() and (directory / WEIGHTS_FILE).is_file():
            return directory
    return SHIPPED_MODEL


def find_model(source: str | os.PathLike[str] | None = None) -> Path:
    """Return a model's directory.

    Args:
        source: a directory, the name of a downloaded model, or None or "pretrained" for `find_pretrained`.

    Raises:
        ModelNotFoundError: there is no such model; the text lists what exists.
    """
    if source is None or source == PRETRAINED:
        return find_pretrained()
    # Any folder may be called like a model, so one that holds a model comes first.
    places = (Path(source), MODELS_DIR / Path(source).name)
    for directory in sorted(places, key=lambda place: not (place / CONFIG_FILE).is_file()):
        if directory.is_dir():
            return directory
    downloaded = sorted(path.name for path in MODELS_DIR.glob("*/") if path.is_dir())
    raise ModelNotFoundError(
        f"there is no model {os.fspath(source)!r}; there are: {', '.join([PRETRAINED, *downloaded])}"
    )
