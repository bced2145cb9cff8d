"""Which of many points lie in a polygon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from annotation_utilities.geometry import annotation_to_geometry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


def point_in_polygon(points: ArrayLike, polygon: ArrayLike) -> NDArray[np.bool_]:
    """Return for each point whether it lies inside a polygon; a point on its outline does not.

    Args:
        points: (N, 2) coordinates.
        polygon: (M, 2) vertices, in the same order of axes. An outline that crosses itself is repaired as in
            :func:`annotation_utilities.geometry.annotation_to_geometry`.

    Returns:
        (N,) booleans.

    Raises:
        InvalidGeometryError: the polygon encloses no area.
    """
    import numpy as np
    import shapely

    vertices = np.asarray(polygon, dtype=float).reshape(-1, 2).tolist()
    geometry = annotation_to_geometry({"coordinates": [{"x": x, "y": y} for x, y in vertices]})
    shapely.prepare(geometry)
    inside: NDArray[np.bool_] = shapely.contains_xy(geometry, np.asarray(points, dtype=float).reshape(-1, 2))
    return inside
