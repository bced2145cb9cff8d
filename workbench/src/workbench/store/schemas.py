"""What the platform accepts as an annotation and as a connection, with its own texts for what it refuses.

The rules are the platform's JSON schema (draft 4: 1.0 is no integer, true is no number); they are written out because a
batch has hundreds of thousands of vertices.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workbench.errors import InvalidDocumentError
from workbench.store.documents import MAX_INTEGER, Document, check_storable, is_id

SHAPES = ("point", "line", "polygon", "rectangle")
ANNOTATION_FIELDS = frozenset({"name", "coordinates", "tags", "channel", "location", "shape", "datasetId", "color"})
CONNECTION_FIELDS = frozenset({"label", "parentId", "childId", "datasetId", "tags"})

_REQUIRED_OF_ANNOTATION = frozenset({"coordinates", "tags", "channel", "location", "shape", "datasetId"})
_REQUIRED_OF_CONNECTION = frozenset({"parentId", "childId", "datasetId", "tags"})
_NUMBERS = frozenset({int, float})


def check_annotation(data: Any) -> None:
    """Check an annotation.

    Raises:
        InvalidDocumentError: the first rule that it breaks, in the platform's order.
    """
    if type(data) is not dict:
        raise _must("", "be object")
    _check_required(data, _REQUIRED_OF_ANNOTATION)
    if "name" in data and type(data["name"]) is not str:
        raise _must(".name", "be string")
    _check_coordinates(data["coordinates"])
    _check_tags(data["tags"])
    _check_integer(data["channel"], ".channel")
    location = data["location"]
    if type(location) is not dict:
        raise _must(".location", "be object")
    for key in ("XY", "Z", "Time"):
        if key in location:
            _check_integer(location[key], f".location.{key}")
    shape = data["shape"]
    if type(shape) is not str:
        raise _must(".shape", "be string")
    if shape not in SHAPES:
        raise _must(".shape", f"be one of {list(SHAPES)}")
    _check_object_id(data["datasetId"], ".datasetId")
    if "color" in data and type(data["color"]) is not str and data["color"] is not None:
        raise _must(".color", "be string or null")


def check_connection(data: Any) -> None:
    """Check a connection of two annotations.

    Raises:
        InvalidDocumentError: the first rule that it breaks, in the platform's order.
    """
    if type(data) is not dict:
        raise _must("", "be object")
    check_storable(data)
    _check_required(data, _REQUIRED_OF_CONNECTION)
    if "label" in data and type(data["label"]) is not str:
        raise _must(".label", "be string")
    for key in ("parentId", "childId", "datasetId"):
        _check_object_id(data[key], f".{key}")
    _check_tags(data["tags"])


def dataset_ids(documents: Iterable[Any]) -> set[str]:
    """Give the datasets that a batch names; a document that names none is left to its schema.

    Raises:
        InvalidDocumentError: one is no identifier.
    """
    found = set()
    for data in documents:
        if type(data) is dict and "datasetId" in data:
            _check_object_id(data["datasetId"], ".datasetId")
            found.add(data["datasetId"].lower())
    return found


def mean_vertex(annotation: Document) -> tuple[float, float] | tuple[None, None]:
    """Give where a checked annotation lies, as the platform measures it; a rectangle lies nowhere.

    Raises:
        InvalidDocumentError: a coordinate is too large for a floating-point number.
    """
    coordinates = annotation["coordinates"]
    count = len(coordinates)
    # Divided first, so that even the largest numbers cannot add up to infinity.
    try:
        mean = sum(point["x"] / count for point in coordinates), sum(point["y"] / count for point in coordinates)
    except OverflowError as error:
        raise _must(".coordinates", "be smaller") from error
    return (None, None) if annotation["shape"] == "rectangle" else mean


def _must(place: str, what: str) -> InvalidDocumentError:
    return InvalidDocumentError(f"data{place} must {what}")


def _check_required(data: Document, required: frozenset[str]) -> None:
    if not required <= data.keys():
        raise _must("", f"contain {sorted(required - data.keys())} properties")


def _check_coordinates(coordinates: Any) -> None:
    if type(coordinates) is not list:
        raise _must(".coordinates", "be array")
    if not coordinates:
        raise _must(".coordinates", "contain at least 1 items")
    for index, point in enumerate(coordinates):
        if type(point) is not dict:
            raise _must(f".coordinates[{index}]", "be object")
        if "x" not in point or "y" not in point:
            raise _must(f".coordinates[{index}]", f"contain {[key for key in 'xy' if key not in point]} properties")
        if type(point["x"]) not in _NUMBERS:
            raise _must(f".coordinates[{index}].x", "be number")
        if type(point["y"]) not in _NUMBERS:
            raise _must(f".coordinates[{index}].y", "be number")
        if "z" in point and type(point["z"]) not in _NUMBERS:
            raise _must(f".coordinates[{index}].z", "be number")


def _check_tags(tags: Any) -> None:
    if type(tags) is not list:
        raise _must(".tags", "be array")
    for index, tag in enumerate(tags):
        if type(tag) is not str:
            raise _must(f".tags[{index}]", "be string")


def _check_integer(value: Any, place: str) -> None:
    if type(value) is not int:
        raise _must(place, "be integer")
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise _must(place, "be smaller: it does not fit into 64 bits")


def _check_object_id(value: Any, place: str) -> None:
    if type(value) is not str or not is_id(value):
        raise _must(place, "be objectId")
