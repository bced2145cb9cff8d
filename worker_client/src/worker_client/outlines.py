"""Outlines that a worker found, turned into the coordinates of annotations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from annotation_utilities.geometry import geometry_to_polygon_coords

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    Outline: TypeAlias = BaseGeometry | Sequence[Any]

Coordinates: TypeAlias = list[dict[str, float]]
Ring: TypeAlias = list[tuple[float, float]]

_BLOCK = 1000


def outline_coordinates(outlines: Iterable[Outline], z: float) -> Iterator[tuple[int, Coordinates]]:
    """Yield the coordinates of the annotations that show outlines.

    An annotation has one ring, so that a geometry in several parts becomes several annotations and holes are filled.
    Rings that cross themselves are repaired; what has no area, or fewer than three different vertices, or a vertex
    that is not finite, has no annotation.

    Args:
        outlines: rings of (x, y) vertices, closed or not, or shapely geometries; pixels, the origin is the corner of
            the first one.
        z: third coordinate of the vertices.

    Yields:
        Per annotation the number of its outline, rising from 0, and its vertices, not closed.
    """
    remaining = iter(outlines)
    first = 0
    while block := [_to_geometry(outline) for outline in islice(remaining, _BLOCK)]:
        for number, rings in enumerate(_rings(block), start=first):
            for ring in rings:
                yield number, [{"x": x, "y": y, "z": z} for x, y in ring]
        first += len(block)


def _rings(geometries: list[BaseGeometry]) -> list[list[Ring]]:
    """Return the outer rings of each geometry, not closed."""
    import numpy as np
    import shapely

    array = np.array(geometries, dtype=object)
    # Nearly all are sound polygons, which are taken apart together: there may be tens of thousands.
    plain = (shapely.get_type_id(array) == shapely.GeometryType.POLYGON) & shapely.is_valid(array)
    plain &= shapely.area(array) > 0
    exteriors = shapely.get_exterior_ring(array[plain])
    x, y = shapely.get_coordinates(exteriors).T.tolist()
    ends = iter(np.cumsum(shapely.get_num_coordinates(exteriors)).tolist())
    rings: list[list[Ring]] = []
    begin = 0
    for geometry, is_plain in zip(geometries, plain, strict=True):
        if is_plain:
            end = next(ends)
            rings.append([list(zip(x[begin : end - 1], y[begin : end - 1], strict=True))])
            begin = end
        else:
            rings.append([ring[:-1] for ring in geometry_to_polygon_coords(geometry)])
    return rings


def _to_geometry(outline: Outline) -> BaseGeometry:
    import numpy as np
    import shapely

    if isinstance(outline, shapely.Geometry):
        return outline
    ring = np.asarray(outline, dtype=float)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3 or not np.isfinite(ring).all():
        return shapely.Polygon()
    return shapely.Polygon(ring)
