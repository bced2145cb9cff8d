"""Whole lists of annotations from shapely's points and polygons, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from annotation_utilities.geometry import annotation_to_geometry, geometry_to_coordinates

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely import Point
    from shapely.geometry.base import BaseGeometry

    from annotation_utilities.geometry import Geometry


def annotations_to_polygons(annotations: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[Geometry]:
    """Return the polygon of each annotation, with the annotation's x and y.

    Raises:
        InvalidGeometryError: an annotation encloses no area.
    """
    return [annotation_to_geometry(annotation) for annotation in _listed(annotations)]


def polygons_to_annotations(
    polygons: BaseGeometry | Iterable[BaseGeometry],
    datasetId: str,
    XY: int = 0,
    Time: int = 0,
    Z: int = 0,
    tags: Sequence[str] | None = None,
    channel: int = 0,
) -> list[dict[str, Any]]:
    """Return an annotation for each polygon **whose coordinates are (row, column)**, as scikit-image traces them.

    For polygons with (x, y), which is what every other function of this package works with, use
    :func:`annotation_utilities.geometry.geometry_to_coordinates`. Of a polygon in several parts the largest is
    taken; one without an area gives no annotation.
    """
    listed = polygons if isinstance(polygons, Iterable) else [polygons]
    annotations = []
    for polygon in listed:
        coordinates = [{"x": vertex["y"], "y": vertex["x"]} for vertex in geometry_to_coordinates(polygon)]
        if coordinates:
            annotations.append(_annotation("polygon", coordinates, datasetId, (XY, Time, Z), tags, channel))
    return annotations


def annotations_to_points(annotations: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[Point]:
    """Return the first vertex of each annotation as a point **(row, column)**: a point's x is the annotation's y."""
    import shapely

    firsts = [annotation["coordinates"][0] for annotation in _listed(annotations)]
    return [shapely.Point(first["y"], first["x"]) for first in firsts]


def points_to_annotations(
    points: Iterable[Point],
    datasetId: str,
    XY: int = 0,
    Time: int = 0,
    Z: int = 0,
    tags: Sequence[str] | None = None,
    channel: int = 0,
) -> list[dict[str, Any]]:
    """Return an annotation for each point **(row, column)**: an annotation's x is the point's y.

    The centre of pixel i lies at i + 0.5: add it to points that were found as pixel indices.
    """
    return [
        _annotation("point", [{"x": point.y, "y": point.x}], datasetId, (XY, Time, Z), tags, channel)
        for point in points
    ]


def filter_usable_training_samples(
    training_images: Sequence[NDArray[Any]], label_images: Sequence[NDArray[Any]]
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], int]:
    """Return the images in whose label mask there is an instance, those masks, and how many pairs were left out."""
    pairs = list(zip(training_images, label_images, strict=True))
    usable = [(image, labels) for image, labels in pairs if image.size and bool((labels > 0).any())]
    return [image for image, _ in usable], [labels for _, labels in usable], len(pairs) - len(usable)


def _listed(annotations: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return [annotations] if isinstance(annotations, Mapping) else annotations


def _annotation(
    shape: str,
    coordinates: list[dict[str, float]],
    dataset_id: str,
    location: tuple[int, int, int],
    tags: Sequence[str] | None,
    channel: int,
) -> dict[str, Any]:
    """Return a document that the platform accepts; `location` is (XY, Time, Z)."""
    return {
        "shape": shape,
        "coordinates": coordinates,
        "datasetId": dataset_id,
        "location": dict(zip(("XY", "Time", "Z"), location, strict=True)),
        "tags": list(tags or ()),
        "channel": channel,
    }
