"""Choosing annotations by their tags and by the place in the dataset where they were drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Annotation = TypeVar("Annotation", bound=Mapping[str, Any])
Location = tuple[int, int, int]
"""(XY, Z, Time), counted from 0."""


def get_annotations_with_tags(
    elements: Iterable[Annotation], tags: Iterable[str], exclusive: bool = False
) -> list[Annotation]:
    """Return the annotations that carry any of `tags`, or all annotations if there are no tags to look for.

    Args:
        elements: the annotations to choose from.
        tags: what to look for.
        exclusive: whether an annotation's tags must be exactly `tags` instead.
    """
    wanted = set(tags)
    if exclusive:
        return [element for element in elements if _tags(element) == wanted]
    return [element for element in elements if not wanted or wanted & _tags(element)]


def get_annotations_with_tag(elements: Iterable[Annotation], tag: str, exclusive: bool = False) -> list[Annotation]:
    """Return the annotations that carry `tag`, or that carry nothing else if `exclusive`."""
    return get_annotations_with_tags(elements, [tag], exclusive)


def location_of(annotation: Mapping[str, Any]) -> Location:
    """Return where an annotation was drawn; an axis that its document does not name is at 0."""
    location = annotation.get("location") or {}
    xy, z, time = (int(location.get(axis) or 0) for axis in ("XY", "Z", "Time"))
    return xy, z, time


def group_by_location(annotations: Iterable[Annotation]) -> dict[Location, list[Annotation]]:
    """Return the annotations of every place, with places in rising order."""
    groups: dict[Location, list[Annotation]] = {}
    for annotation in annotations:
        groups.setdefault(location_of(annotation), []).append(annotation)
    return dict(sorted(groups.items()))


def find_matching_annotations_by_location(
    source: Mapping[str, Any], target_list: Iterable[Annotation], Time: bool = True, XY: bool = True, Z: bool = True
) -> list[Annotation]:
    """Return those of `target_list` that lie where `source` lies, along each of the axes that are asked for."""
    compared = [axis for axis, asked in enumerate((XY, Z, Time)) if asked]
    place = location_of(source)
    return [target for target in target_list if all(location_of(target)[axis] == place[axis] for axis in compared)]


def filter_elements_T_XY(elements: Iterable[Annotation], time_value: int, xy_value: int) -> list[Annotation]:
    """Return the annotations at a time point and XY position, on any Z slice."""
    return [element for element in elements if location_of(element)[::2] == (xy_value, time_value)]


def filter_elements_T_XY_Z(
    elements: Iterable[Annotation], time_value: int, xy_value: int, z_value: int
) -> list[Annotation]:
    """Return the annotations at a time point, XY position and Z slice."""
    return [element for element in elements if location_of(element) == (xy_value, z_value, time_value)]


def filter_elements_Z_XY(elements: Iterable[Annotation], z_value: int, xy_value: int) -> list[Annotation]:
    """Return the annotations on a Z slice and at an XY position, at any time point."""
    return [element for element in elements if location_of(element)[:2] == (xy_value, z_value)]


def _tags(element: Mapping[str, Any]) -> set[str]:
    return set(element.get("tags") or ())
