"""What requests for pixels ask for, in the terms of large_image."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from workbench.errors import RestError
from workbench.images.styles import check_style
from workbench.server.endpoint import Call

_ENCODINGS = ("JPEG", "JFIF", "PNG", "TIFF")
_TIFF_COMPRESSIONS = ("raw", "none", "lzw", "tiff_lzw", "deflate", "tiff_adobe_deflate")
_COLOUR = re.compile("#[0-9a-fA-F]{3,8}")


def read_part(call: Call) -> dict[str, Any]:
    """Read which part of which frame is meant, and how large it is to come out."""
    number, text, integer = call.number, call.text, call.integer
    region = read_given(call, left=number, top=number, right=number, bottom=number, units=text, unitsWH=text)
    region |= _read_as(call, number, regionWidth="width", regionHeight="height")
    scale = read_given(call, magnification=number, mm_x=number, mm_y=number)
    for name, value in scale.items():
        if value <= 0:
            raise RestError(400, f"{name} must be above 0.")
    if call.text("exact") is not None:
        scale["exact"] = call.boolean("exact")
    output = _read_as(call, integer, width="maxWidth", height="maxHeight")
    groups = {"region": region, "scale": scale, "output": output}
    arguments: dict[str, Any] = {key: group for key, group in groups.items() if group}
    arguments |= read_given(call, frame=integer)
    resample = (call.text("resample") or "").lower()
    if resample in ("true", "on", "yes", "false", "off", "no"):
        arguments["resample"] = call.boolean("resample")
    elif resample:
        arguments["resample"] = int(call.choice("resample", ("0", "1", "2", "3")))
    return arguments


def read_given(call: Call, **readers: Callable[[str], Any]) -> dict[str, Any]:
    """Read the parameters that are given."""
    values = {name: read(name) for name, read in readers.items()}
    return {name: value for name, value in values.items() if value is not None}


def _read_as(call: Call, read: Callable[[str], Any], **names: str) -> dict[str, Any]:
    values = {new: read(name) for name, new in names.items()}
    return {name: value for name, value in values.items() if value is not None}


def read_pickle_protocol(call: Call) -> int:
    """Give the pickle protocol that is asked for, or 0 for an encoded image."""
    word = call.text("encoding") or ""
    if not word.startswith("pickle"):
        return 0
    protocols = {"pickle": 4, "pickle:3": 3, "pickle:4": 4, "pickle:5": 5}
    call.choice("encoding", tuple(protocols))
    return protocols[word]


def read_encoding(call: Call) -> dict[str, Any]:
    """Read how pixels are to be encoded."""
    quality, subsampling = call.integer("jpegQuality", 95), call.integer("jpegSubsampling", 0)
    if quality is None or not 1 <= quality <= 100:
        raise RestError(400, "jpegQuality must be between 1 and 100.")
    if subsampling not in (0, 1, 2):
        raise RestError(400, "jpegSubsampling must be 0, 1 or 2.")
    return {
        "encoding": call.choice("encoding", _ENCODINGS, "JPEG"),
        "jpegQuality": quality,
        "jpegSubsampling": subsampling,
        "tiffCompression": call.choice("tiffCompression", _TIFF_COMPRESSIONS, "raw"),
    }


def read_edge(call: Call) -> dict[str, str]:
    """Read what tiles beyond the edge of the image are to be: whole, cropped, or filled with a colour."""
    value = call.text("edge") or "false"
    if value not in ("false", "true", "crop") and not _COLOUR.fullmatch(value):
        raise RestError(400, f'Invalid value for edge: "{value}". Give crop or a colour such as #ff0000.')
    return {} if value == "false" else {"edge": "crop" if value == "true" else value}


def read_style(call: Call) -> str | None:
    """Read how values become colours: a JSON object in a part of large_image's language, as text."""
    value = call.json("style")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise RestError(400, "Style is not a valid json object.")
    check_style(value)
    return json.dumps(value)  # of what was checked, however the text is read elsewhere
