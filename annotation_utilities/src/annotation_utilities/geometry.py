"""Annotations, shapely geometries and label masks, each from the others.

Coordinates are (x, y) = (column, row) along pixel corners, in pixels: the origin is the top-left corner of pixel
(0, 0), and pixel i spans [i, i + 1). A pixel belongs to a geometry if its centre, i + 0.5, lies inside. This is how the
platform stores annotations and how rasterio fills and traces, so nothing is ever shifted by half a pixel.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

from annotation_utilities.errors import AnnotationError, InvalidGeometryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from shapely import MultiPolygon, Polygon
    from shapely.geometry.base import BaseGeometry

    Geometry: TypeAlias = Polygon | MultiPolygon

_LARGEST_COORDINATE = 1e9
"""Far outside any image, and still a number with which a rasteriser's 32-bit integers do not overflow."""

_SMALLEST_AREA = 1e-9
"""In square pixels; what is smaller is left over from rounding."""

_GRID = 2.0**-20
"""In pixels; finer differences may be lost where an outline can only be repaired by rounding."""

_REDRAW = "Delete this annotation or draw it again."


def annotation_to_geometry(annotation: Mapping[str, Any]) -> Geometry:
    """Return the area that a polygon or rectangle annotation encloses, as a valid geometry.

    An outline that crosses itself is repaired: everything that it runs around is inside, whatever the direction. Parts
    without area fall away.

    Args:
        annotation: a document of the platform; only its ``coordinates``, a list of ``{"x": ..., "y": ...}``, are read.

    Raises:
        InvalidGeometryError: there are fewer than three different vertices, one of them is not a finite number or
            is absent, or nothing is enclosed.
    """
    import numpy as np
    import shapely

    vertices = _read_vertices(annotation)
    try:
        with np.errstate(all="ignore"):
            geometry = _polygonal_part(shapely.Polygon(vertices))
    except shapely.errors.ShapelyError as error:
        raise InvalidGeometryError(f"The outline of an annotation cannot be repaired. {_REDRAW}") from error
    if geometry.is_empty:
        raise InvalidGeometryError(f"The outline of an annotation encloses no area. {_REDRAW}")
    return geometry


def geometry_to_polygon_coords(
    geometry: BaseGeometry, keep_largest_only: bool = False
) -> list[list[tuple[float, float]]]:
    """Return the outer ring of every part of a geometry that has an area.

    Args:
        geometry: any shapely geometry; lines, points and empty ones have no part with an area, and invalid ones are
            repaired first.
        keep_largest_only: whether only the ring of the largest part is wanted.

    Returns:
        Rings of (x, y); the last vertex of a ring repeats the first.
    """
    parts = _parts(_polygonal_part(geometry))
    if keep_largest_only:
        parts = sorted(parts, key=lambda part: part.area)[-1:]
    return [[(float(x), float(y)) for x, y, *_ in part.exterior.coords] for part in parts]


def geometry_to_coordinates(geometry: BaseGeometry) -> list[dict[str, float]]:
    """Return the ``coordinates`` of the annotation that shows a geometry.

    An annotation of the platform has one ring: of a geometry in several parts the largest is taken, and its holes are
    filled. The vertices are not closed: the last one differs from the first. A geometry without an area has none.
    """
    rings = geometry_to_polygon_coords(geometry, keep_largest_only=True)
    return [{"x": x, "y": y} for ring in rings for x, y in ring[:-1]]


def labels_to_geometries(labels: NDArray[Any]) -> dict[int, Geometry]:
    """Trace the outline of every instance of a label mask along its pixels' edges.

    Holes are kept, and so are several parts of an instance; parts that touch at a corner only are separate ones,
    because a ring that passes through one point twice is not valid. All is traced in one pass over the mask.

    Args:
        labels: (H, W) integers or booleans; what is not above 0 (background, not annotated) has no outline.

    Returns:
        Label -> geometry, with labels in rising order. :func:`geometries_to_labels` gives the mask back.

    Raises:
        AnnotationError: the array is not two-dimensional, or is of another type.
    """
    import numpy as np
    import shapely
    from rasterio.features import shapes

    mask = _check_labels(labels)
    vertices: list[tuple[float, float]] = []
    ring_lengths, part_of_ring, label_of_part = [], [], []
    if mask.size:
        for part, (outline, label) in enumerate(shapes(mask, mask=mask > 0, connectivity=4)):
            label_of_part.append(round(label))
            for ring in outline["coordinates"]:  # the outer one first, then the holes
                vertices += ring
                ring_lengths.append(len(ring))
                part_of_ring.append(part)
    if not label_of_part:
        return {}
    # All geometries at a time: one call each takes several times as long.
    rings = shapely.linearrings(np.array(vertices), indices=np.repeat(np.arange(len(ring_lengths)), ring_lengths))
    parts: dict[int, list[Polygon]] = {}
    for label, polygon in zip(label_of_part, shapely.polygons(rings, indices=part_of_ring), strict=True):
        parts.setdefault(label, []).append(polygon)
    return {
        label: polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
        for label, polygons in sorted(parts.items())
    }


def geometries_to_labels(
    geometries: Mapping[int, BaseGeometry], shape: tuple[int, int], *, origin: tuple[int, int] = (0, 0)
) -> NDArray[np.int32]:
    """Fill geometries into a label mask.

    Where geometries overlap, the smaller lies on top of the larger, and of two of one size the one with the higher
    label: the result does not depend on the order of `geometries`.

    Args:
        geometries: label -> polygon; labels are from 1 to 2**31 - 1. What lies outside the mask is cut off.
        shape: (H, W) of the mask in pixels.
        origin: (x, y) of the corner at which the mask's pixel (0, 0) begins.

    Returns:
        (H, W) int32 with 0 as background.

    Raises:
        AnnotationError: a label is out of range.
    """
    import numpy as np
    from rasterio import Affine
    from rasterio.features import rasterize

    for label in geometries:
        if not 1 <= label < 2**31:
            raise AnnotationError(f"An instance has the number {label}; instances are numbered from 1 to {2**31 - 1}.")
    drawn = sorted(
        ((geometry, int(label)) for label, geometry in geometries.items() if not geometry.is_empty),
        key=lambda pair: (-pair[0].area, pair[1]),
    )
    if not drawn or 0 in shape:
        return np.zeros(shape, np.int32)
    filled: NDArray[np.int32] = rasterize(
        drawn, out_shape=shape, fill=0, transform=Affine.translation(*origin), dtype="int32"
    )
    return filled


def simplify_geometry(geometry: BaseGeometry, tolerance: float) -> Geometry:
    """Leave out vertices so that no point of the outline moves by more than `tolerance` pixels (Douglas and Peucker).

    Parts and holes stay what they are, and a valid geometry stays valid.
    """
    return _polygonal_part(geometry.simplify(tolerance, preserve_topology=True))


def pad_geometry(geometry: BaseGeometry, distance: float) -> Geometry:
    """Move the outline outwards by `distance` pixels, or inwards if it is negative.

    Shrinking may split a geometry into parts, or leave nothing: then the result is empty.
    """
    return _polygonal_part(geometry.buffer(distance) if distance else geometry)


def _read_vertices(annotation: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return (x, y) per vertex; at least three of them differ."""
    coordinates = annotation.get("coordinates") if isinstance(annotation, Mapping) else None
    if not isinstance(coordinates, Sequence) or isinstance(coordinates, str | bytes):
        raise InvalidGeometryError(f"An annotation has no list of vertices. {_REDRAW}")
    vertices = []
    for point in coordinates:
        if not isinstance(point, Mapping):
            raise InvalidGeometryError(f"A vertex of an annotation has no x and y. {_REDRAW}")
        x, y = _number(point.get("x")), _number(point.get("y"))
        # Written so that NaN fails, too.
        if not (abs(x) <= _LARGEST_COORDINATE and abs(y) <= _LARGEST_COORDINATE):
            raise InvalidGeometryError(
                f"A vertex of an annotation has an x or y that is no number within an image. {_REDRAW}"
            )
        vertices.append((x, y))
    if len(set(vertices)) < 3:
        raise InvalidGeometryError(f"The outline of an annotation has fewer than three different vertices. {_REDRAW}")
    return vertices


def _number(value: Any) -> float:
    """Return a number as a float; NaN for anything else."""
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return float(value)
    return math.nan


def _polygonal_part(geometry: BaseGeometry) -> Geometry:
    """Return the parts with an area, as one valid polygon or several; an empty polygon if there are none."""
    import shapely

    if not geometry.is_valid:
        # "structure" fills what an outline runs around twice; the other method would leave a hole there.
        repaired = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
        # It may answer with parts that share an edge, which together are not valid.
        geometry = shapely.union_all(_parts(repaired))
        if not geometry.is_valid:  # vertices lie so near that rounding takes an edge across another
            geometry = shapely.set_precision(geometry, _GRID)
    parts = _parts(geometry)
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts) if parts else shapely.Polygon()


def _parts(geometry: BaseGeometry) -> list[Polygon]:
    """Return the polygons with an area in a geometry, in its order."""
    import shapely

    # Twice, because a collection may hold several polygons as one member.
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return [part for part in parts if isinstance(part, shapely.Polygon) and part.area > _SMALLEST_AREA]


def _check_labels(labels: NDArray[Any]) -> NDArray[np.int32]:
    """Return a label mask as contiguous int32 with nothing below 0."""
    import numpy as np

    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "biu":
        raise AnnotationError(
            f"A label mask is one (height, width) plane of whole numbers, not {labels.dtype} of the shape "
            f"{labels.shape}."
        )
    if labels.size and labels.max() > np.iinfo(np.int32).max:
        raise AnnotationError(f"The label {labels.max()} is too large. Number instances from 1.")
    return np.ascontiguousarray(np.maximum(labels, 0), dtype=np.int32)
