"""Descriptions of images that are made of several files.

large_image's own language can name any source with any parameters, styles that run functions, and sizes without end.
Here a description says where which plane of which file goes, and no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import RestError
from workbench.images.plain_values import (
    Check,
    integer,
    is_boolean,
    is_text,
    list_of,
    number,
    object_of,
    one_of,
    refused_key,
)

MOST_FRAMES = 10**5
LARGEST_SIDE = 10**6  # pixels

_LIMIT_BYTES = 16 * 2**20
_AXES = ("z", "t", "xy", "c")
_place = integer(0, MOST_FRAMES)
_step = integer(1, MOST_FRAMES)
_size = integer(1, LARGEST_SIDE)
_length = number(-LARGEST_SIDE, LARGEST_SIDE)
_positive = number(1e-12, LARGEST_SIDE)
_names = list_of(is_text, MOST_FRAMES)

_POSITION = {
    **dict.fromkeys(("x", "y", "s11", "s12", "s21", "s22"), _length),
    "scale": _positive,
    "crop": object_of(dict.fromkeys(("left", "top", "right", "bottom"), integer(-LARGEST_SIDE, LARGEST_SIDE))),
}
_SOURCE = {
    "path": is_text,
    "name": is_text,
    "description": is_text,
    **dict.fromkeys(("frame", *_AXES, *(f"{axis}Set" for axis in _AXES)), _place),
    **dict.fromkeys([f"{axis}Values" for axis in ("frame", *_AXES)], list_of(_place, MOST_FRAMES)),
    **dict.fromkeys([f"{axis}Step" for axis in _AXES], _step),
    "framesAsAxes": object_of(dict.fromkeys(_AXES, _step)),
    "frames": list_of(_place, MOST_FRAMES),
    "channel": is_text,
    "channels": _names,
    "position": object_of(_POSITION),
    "params": object_of({"frame": _place}),
}
_WHOLE = {
    "name": is_text,
    "description": is_text,
    "width": _size,
    "height": _size,
    "tileWidth": _size,
    "tileHeight": _size,
    "channels": _names,
    "scale": object_of(dict.fromkeys(("mm_x", "mm_y", "magnification"), _positive)),
    "backgroundColor": list_of(number(-1e300, 1e300), 4),
    "basePath": is_text,
    "uniformSources": is_boolean,
    "dtype": one_of("uint8", "uint16", "float32"),
    "singleBand": is_boolean,
    "sources": list_of(lambda value: isinstance(value, dict), MOST_FRAMES),
}


def read_specification(path: Path) -> dict[str, Any]:
    """Read a description, in JSON or YAML, and check it.

    Raises:
        RestError: it cannot be read, or says more than it may.
    """
    import yaml

    if path.stat().st_size > _LIMIT_BYTES:
        raise RestError(400, "This is not the description of a multi-source image; it is too long.")
    text = path.read_bytes()
    try:
        # JSON first: it is read a hundred times faster.
        specification = json.loads(text) if text.lstrip()[:1] == b"{" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise RestError(400, f"The description of the multi-source image cannot be read ({error}).") from error
    if not isinstance(specification, dict) or not isinstance(specification.get("sources"), list):
        raise RestError(400, "The description of the multi-source image has no list of sources.")
    _check(specification, _WHOLE)
    for source in specification["sources"]:
        if "path" not in source:
            raise RestError(400, "A multi-source image must name each of its images by a path.")
        _check(source, _SOURCE)
    return specification


def _check(values: Mapping[Any, Any], checks: Mapping[str, Check]) -> None:
    refused = refused_key(values, checks)
    if refused is not None:
        raise RestError(
            400,
            f"The description of the multi-source image cannot be used: {refused[:100]!r} is not a key that it may "
            "have, or has a wrong value.",
        )
