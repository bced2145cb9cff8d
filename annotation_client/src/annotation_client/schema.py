"""The platform's schema of annotations, checked before anything is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

SHAPES = ("point", "line", "polygon", "rectangle")

_FARTHEST = 1e15  # pixels: far beyond any image
_PLAIN_NUMBERS = (float, int)


def encode_annotation(annotation: Mapping[str, Any]) -> bytes:
    """Return an annotation as JSON that the server's schema accepts.

    Numpy numbers become JSON numbers, tuples and arrays become lists, integers that arrive as floats (1.0) become
    integers. Keys that the schema does not know are passed on.

    Args:
        annotation: `coordinates` (at least one `{"x", "y"[, "z"]}`, base pixels, origin at the corner of the first
            pixel), `tags`, `channel`, `location` (`XY`, `Z`, `Time`), `shape`, `datasetId`, optionally `name` and
            `color`.

    Raises:
        ValueError: the annotation does not follow the schema; the text says what is wrong, without a full stop.
    """
    if not isinstance(annotation, Mapping):
        raise ValueError("it is not an object with coordinates, tags and so on")
    missing = [
        key for key in ("coordinates", "tags", "channel", "location", "shape", "datasetId") if key not in annotation
    ]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    document = {key: value for key, value in annotation.items() if key != "_id"}
    document["coordinates"] = [_coordinate(vertex) for vertex in _items(annotation["coordinates"], "coordinates")]
    if not document["coordinates"]:
        raise ValueError("it has no coordinates")
    document["tags"] = _items(annotation["tags"], "tags")
    if not all(isinstance(tag, str) for tag in document["tags"]):
        raise ValueError("its tags are not all texts")
    document["channel"] = _integer(annotation["channel"], "channel")
    document["location"] = _location(annotation["location"])
    if annotation["shape"] not in SHAPES:
        raise ValueError(f"its shape {annotation['shape']!r} is none of {', '.join(SHAPES)}")
    if not re.fullmatch(r"[0-9a-fA-F]{24}", str(annotation["datasetId"])):
        raise ValueError(f"its datasetId {annotation['datasetId']!r} is not the id of a dataset")
    document["datasetId"] = str(annotation["datasetId"])
    if document.get("name", "") is None:
        del document["name"]
    if not isinstance(document.get("name", ""), str):
        raise ValueError("its name is not a text")
    if not isinstance(document.get("color"), (str, type(None))):
        raise ValueError("its color is not a text")
    return encode_json(document)


def encode_json(document: Any) -> bytes:
    """Return a document as JSON, with numpy's numbers and arrays as plain numbers and lists.

    Raises:
        ValueError: it holds something that JSON cannot express, such as NaN.
    """
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it cannot be written as JSON ({error})") from error


def _coordinate(vertex: Any) -> dict[str, float]:
    try:
        x, y = vertex["x"], vertex["y"]
    except (TypeError, LookupError):
        raise ValueError("a coordinate has no x and y") from None
    z = vertex.get("z")
    result = {"x": x, "y": y} if z is None else {"x": x, "y": y, "z": z}
    for axis, value in result.items():
        if (
            type(value) not in _PLAIN_NUMBERS or not -_FARTHEST <= value <= _FARTHEST
        ):  # there are many: no call for most
            result[axis] = _number(value)
    return result


def _number(value: Any) -> float:
    value = _scalar(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"the coordinate {value!r} is not a number")
    if not -_FARTHEST <= value <= _FARTHEST:  # false for NaN too
        raise ValueError("a coordinate is not a finite number")
    return value


def _location(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("its location is not an object with XY, Z and Time")
    return {
        key: _integer(entry, f"location {key}") if key in ("XY", "Z", "Time") else entry for key, entry in value.items()
    }


def _integer(value: Any, name: str) -> int:
    value = _scalar(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"its {name} {value!r} is not a whole number")
    return value


def _items(value: Any, name: str) -> list[Any]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ValueError(f"its {name} are not a list")
    return list(value)


def _scalar(value: Any) -> Any:
    """Return a numpy scalar as the Python number that it holds, anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # an array or scalar of numpy
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")
