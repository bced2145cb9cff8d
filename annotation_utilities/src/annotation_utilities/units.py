"""Lengths in the units of the platform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annotation_utilities.errors import AnnotationError

# The micro sign, and the Greek letter that looks the same.
_EXPONENTS = {"m": 0, "mm": -3, "\u00b5m": -6, "\u03bcm": -6, "nm": -9}


def convert_units(pixelSize: Mapping[str, Any], to_units: str) -> dict[str, Any]:
    """Convert a length ``{"value": number, "unit": "nm" | "µm" | "mm" | "m"}`` to another of these units.

    Raises:
        AnnotationError: a unit is not one of them.
    """
    for unit in (pixelSize["unit"], to_units):
        if unit not in _EXPONENTS:
            raise AnnotationError(f"{unit!r} is no unit of length; choose one of nm, µm, mm, m.")
    exponent = _EXPONENTS[pixelSize["unit"]] - _EXPONENTS[to_units]
    # A power of ten with a negative exponent is no exact float: dividing by its inverse rounds only once.
    value = pixelSize["value"] * 10**exponent if exponent >= 0 else pixelSize["value"] / 10**-exponent
    return {"value": value, "unit": to_units}
