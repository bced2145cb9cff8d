"""Annotations as geometries."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.store.annotations import Selection
from workbench.store.store import Store

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True, eq=False)
class Object:
    """An annotation.

    Args:
        id: its identifier; later ones are larger.
        location: XY, Z and Time, counted from 0.
        geometry: in pixels (x, y), with pixel i from i to i + 1; a polygon or several, a line or a point. None if the
            annotation is an outline that encloses nothing.
    """

    id: str
    tags: tuple[str, ...]
    channel: int
    location: tuple[int, int, int]
    geometry: BaseGeometry | None

    @property
    def is_area(self) -> bool:
        """Whether it has an inside."""
        return self.geometry is not None and self.geometry.geom_type in ("Polygon", "MultiPolygon")


def read_objects(store: Store, dataset_id: str) -> Iterator[Object]:
    """Read the annotations of a dataset, in the order of their identifiers."""
    for piece in store.annotations.stream(Selection(dataset_id)):
        for text in piece:
            annotation = json.loads(text)
            location = annotation["location"]
            yield Object(
                annotation["_id"],
                tuple(annotation["tags"]),
                annotation["channel"],
                (location.get("XY", 0), location.get("Z", 0), location.get("Time", 0)),
                _geometry(annotation["shape"], [(point["x"], point["y"]) for point in annotation["coordinates"]]),
            )


def has_any(annotation: Object, tags: Collection[str]) -> bool:
    """Say whether an object has one of some tags; any object if there are none."""
    return not tags or not set(annotation.tags).isdisjoint(tags)


def _geometry(shape: str, points: list[tuple[float, float]]) -> BaseGeometry | None:
    import shapely

    if shape == "point" or (shape == "line" and len(set(points)) == 1):
        return shapely.points(points[0])
    if shape == "line":
        return shapely.linestrings(points)
    return _valid_polygon(shapely.polygons(points)) if len(set(points)) >= 3 else None


def _valid_polygon(polygon: Any) -> BaseGeometry | None:
    """Give what an outline encloses: one that crosses itself encloses several parts."""
    import shapely

    if not polygon.is_valid:
        parts = shapely.get_parts(shapely.make_valid(polygon))
        # Parts without an inside, where the outline runs back on itself, are no area.
        areas = [part for whole in parts for part in shapely.get_parts(whole) if part.geom_type == "Polygon"]
        polygon = shapely.union_all(areas)
    return polygon if polygon.area > 0 else None
