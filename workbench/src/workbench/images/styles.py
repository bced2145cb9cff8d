"""Which of large_image's styles are accepted: its language also has entries that run any function of any module."""

from __future__ import annotations

import re
from typing import Any

from PIL import ImageColor

from workbench.errors import RestError
from workbench.images.plain_values import (
    either,
    integer,
    is_boolean,
    is_text,
    list_of,
    number,
    one_of,
    optional,
    refused_key,
)

_MOST_BANDS = 100
_MOST_COLOURS = 1024
_MOST_FRAMES = 10**9
_LIMIT = re.compile(r"(auto|min|max)(:[0-9]*\.?[0-9]+)?|full", re.ASCII)


def _is_limit(value: Any) -> bool:
    return isinstance(value, str) and _LIMIT.fullmatch(value) is not None


def _is_colour(value: Any) -> bool:
    if not is_text(value):
        return False
    try:
        ImageColor.getrgb(value)
    except ValueError:
        return False
    return True


_value = number(-1e300, 1e300)
_BAND = {
    "band": optional(either(integer(-1, 1000), one_of("red", "green", "blue", "gray", "grey", "alpha"))),
    "frame": optional(integer(0, _MOST_FRAMES)),
    "framedelta": optional(integer(-_MOST_FRAMES, _MOST_FRAMES)),
    "min": either(_value, _is_limit),
    "max": either(_value, _is_limit),
    "palette": either(_is_colour, list_of(_is_colour, _MOST_COLOURS)),
    "scheme": one_of("linear", "discrete"),
    "nodata": optional(_value),
    "composite": one_of("lighten", "multiply"),
    "clamp": is_boolean,
    "dtype": optional(one_of("uint8", "uint16", "float", "source")),
    "axis": optional(integer(0, 3)),
    "icc": is_boolean,
}
_STYLE = {**_BAND, "bands": list_of(lambda value: isinstance(value, dict), _MOST_BANDS)}


def check_style(style: dict[str, Any]) -> None:
    """Check how values are to become colours.

    Raises:
        RestError: the style holds anything but the plain keys with plain values.
    """
    refused = refused_key(style, _STYLE)
    for band in style["bands"] if refused is None and "bands" in style else ():
        refused = refused or refused_key(band, _BAND)
    if refused is not None:
        raise RestError(
            400, f"The style cannot be used: {refused[:100]!r} is not a key that it may have, or has a wrong value."
        )
