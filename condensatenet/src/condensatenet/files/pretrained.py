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
        if _is_complete(MODELS_DIR / name):
            return MODELS_DIR / name
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
    given, downloaded = Path(source), MODELS_DIR / Path(source).name
    if (given / CONFIG_FILE).is_file():
        return given
    if _is_complete(downloaded):  # an interrupted download is none yet
        return downloaded
    if given.is_dir():  # comes last, because any folder may be called like a model
        return given
    names = sorted(path.name for path in MODELS_DIR.glob("*/") if _is_complete(path))
    raise ModelNotFoundError(f"there is no model {os.fspath(source)!r}; there are: {', '.join([PRETRAINED, *names])}")


def _is_complete(directory: Path) -> bool:
    return (directory / CONFIG_FILE).is_file() and (directory / WEIGHTS_FILE).is_file()
