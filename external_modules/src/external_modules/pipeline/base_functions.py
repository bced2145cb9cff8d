"""The functions of the base that a step may name: reading an image, and writing what was found."""

from __future__ import annotations

import re
from typing import Any

from external_modules.pipeline.parameters import TEXT, WHOLE_NUMBER, Parameter
from external_modules.pipeline.worker_functions import Function

BASE = "external_modules"
LOAD, SAVE, TABLE = "load_tczyx_image", "save_tczyx_image", "save_object_table"

# By function: the ending of what it writes, and what stands between it and the image's name.
ENDINGS = {SAVE: ("labels", ".tif"), TABLE: ("objects", ".csv")}

FUNCTIONS = {
    LOAD: Function({"axes": Parameter(TEXT)}),
    SAVE: Function({"labels": Parameter(TEXT), "suffix": Parameter(TEXT)}),
    TABLE: Function({"labels": Parameter(TEXT), "suffix": Parameter(TEXT), "channel": Parameter(WHOLE_NUMBER)}),
}

_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def problem_of(name: str, value: Any) -> str:
    """Return what is wrong with a parameter of the base whose type is right; empty if nothing is."""
    if name == "channel" and value < 0:
        return f"is {value}; channels are counted from 0"
    if name == "suffix" and not _SUFFIX.fullmatch(value):
        return f"is {value!r}; it must be a part of a file's name, of letters, digits, _ and -"
    if name == "axes" and not (set("YX") <= set(value) <= set("TCZSYX") and len(set(value)) == len(value)):
        return f"is {value!r}; it must name the file's axes in order with the letters T, C, Z, S, Y and X, such as ZCYX"
    return ""
