"""An annotation for tests."""

from __future__ import annotations

from typing import Any


def annotation(*vertices: tuple[Any, Any]) -> dict[str, Any]:
    return {"shape": "polygon", "coordinates": [{"x": x, "y": y} for x, y in vertices]}
