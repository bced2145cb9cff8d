"""Writes a new module: the threshold module under another name, with a README that says what to change."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from external_modules.errors import ExternalModuleError
from external_modules.module_folder import DESCRIPTION_FILE, ModuleFolder
from external_modules.module_places import module_places

_PATTERN = "threshold_module"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,56}")
_SUFFIX = "_module"
_KINDS = (".py", ".json", ".toml", ".txt", ".md")
_README_TABLE = "| file |"
_README_ADMISSION = re.compile(
    r"^Nothing of this could be run inside NIS-Elements.*?(?=\n\n)", re.MULTILINE | re.DOTALL
)

_README = """\
# {name}

Finds bright objects on a darker background, for now: this module was written by `external-modules new` and is yours to
change. It works as it is, so that you can try every step below before you change anything, and after each change.

1. `worker.py`: replace what `segment` does. Its first argument is the image, (H, W); the others are settings, and need
   defaults. It returns labels, (H, W) int32, 0 for background. Load a model once, outside of the function or when it is
   called first: the worker stays alive between calls.
2. `pyproject.toml`: the packages that this needs. Then write `requirements.txt` anew, see "Change it" below.
3. `module.json`: title, what it segments, the licence (of your code and of what it calls), and in `import_probe` the
   packages as they are imported. torch does not belong into `pyproject.toml`: write its version here, as
   `"torch": {"version": "2.13.0"}`.
4. `{node}.py` and `{node}_v6_20.py`: the settings in `run`.
5. `test_{name}.py` and `external-modules doctor {name}` try the worker on an image with 20 bright
   spots, about 14 pixels wide. If it needs other settings to find them, name these in `module.json`:
   `"test_arguments": {"diameter": 14}`.
6. This file.

"""
_ADMISSION = "The steps below were tried with a stand-in for NIS-Elements, not inside it."
_WORKER_COMMENT = "# Replace what this function does with your own work: README.md says how.\n"


def write_new_module(text: str, folder: Path) -> Path:
    """Write a module that works at once.

    Args:
        text: its name, such as "stardist"; "_module" is added where it is missing.
        folder: the folder of modules, which must be there.

    Returns:
        The module's folder.

    Raises:
        ExternalModuleError: the name cannot be one, or something is in the way.
    """
    stem = text[: -len(_SUFFIX)] if text.endswith(_SUFFIX) else text
    if not _NAME.fullmatch(stem):
        raise ExternalModuleError(
            f"{text!r} cannot be the name of a module: it must begin with a letter and hold only letters (a to z), "
            "digits and underscores, such as stardist."
        )
    name = stem + _SUFFIX
    target = folder / name
    if not folder.is_dir():
        raise ExternalModuleError(f"There is no folder {folder}. Make it, or name the folder of your modules.")
    if os.path.lexists(target):
        raise ExternalModuleError(f"{target} is there already. Choose another name, or remove it first.")
    pattern = _pattern_folder()
    new = folder / f".{name}.new"
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for path in sorted(pattern.iterdir()):
            if path.is_file() and path.suffix in _KINDS:
                content = _adapt(path, stem, folder)
                (new / _rename(path.name, stem)).write_text(content, encoding="utf-8", newline="\n")
        os.rename(new, target)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise ExternalModuleError(f"{target} cannot be written: {error}. See that you may write there.") from error
    ModuleFolder(target)
    return target


def _pattern_folder() -> Path:
    """Return the threshold module."""
    places = [folder / _PATTERN for folder in module_places()]
    for path in places:
        if (path / DESCRIPTION_FILE).is_file():
            return path
    raise ExternalModuleError(
        f"The pattern of new modules is missing; it should be {' or '.join(map(str, places))}. Copy the whole folder "
        "external_modules again."
    )


def _adapt(path: Path, stem: str, folder: Path) -> str:
    """Return what the new module's file holds, in a folder of modules."""
    text = path.read_text(encoding="utf-8")
    if path.name == DESCRIPTION_FILE:
        description = {**json.loads(text), "name": stem + _SUFFIX, "version": "0.1.0", "title": stem.replace("_", " ")}
        return json.dumps(description, indent=2) + "\n"
    text = _rename(text, stem)
    if path.name == "README.md":
        _, table, rest = text.partition(_README_TABLE)
        begin = _README.replace("{name}", stem + _SUFFIX).replace("{node}", f"{stem}_node")
        return begin + table + _README_ADMISSION.sub(_ADMISSION, rest)
    sources = Path(__file__).resolve().parents[1]
    if path.name.startswith("test_") and folder.parent / "src" != sources:
        return text.replace('str(Path(__file__).resolve().parents[2] / "src")', repr(str(sources)))
    if path.name == "worker.py":
        return text.replace("def segment(", f"{_WORKER_COMMENT}def segment(", 1)
    return text


def _rename(text: str, stem: str) -> str:
    class_name = "".join(part[:1].upper() + part[1:] for part in stem.split("_"))
    for old, new in (
        ("threshold_module", stem + _SUFFIX),
        ("threshold-module", f"{stem}{_SUFFIX}".replace("_", "-").lower()),
        ("threshold_node", f"{stem}_node"),
        ("ThresholdNode", f"{class_name}Node"),
    ):
        text = text.replace(old, new)
    return text
