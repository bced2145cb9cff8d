"""The instances of a label mask as polygons (GeoJSON) and as a table (CSV)."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from condensatenet.files.atomic import atomic_write
from condensatenet.labels import check_labels
from condensatenet.measurements import measure_instances

_Ring = list[tuple[int, int]]


def write_geojson(path: str | Path, labels: NDArray[Any]) -> None:
    """Write the outline of every instance as a GeoJSON FeatureCollection, one feature per label, in rising order.

    Coordinates are [x, y] = [column, row] along pixel corners, with the origin at the top-left corner of pixel (0, 0),
    so that filling the polygons gives the label mask back exactly. Holes are interior rings; an instance in several
    parts, or in parts that touch at a corner only, is a MultiPolygon. Properties are ``id`` (the label) and ``area``
    (in pixels). Labels 0 and -1 have no outline.

    Raises:
        InvalidLabelsError: the array is no label mask.
    """
    labels = check_labels(labels)
    outlines = _trace(labels)
    areas = np.bincount(np.searchsorted(list(outlines), labels[labels > 0]), minlength=len(outlines))
    with atomic_write(path) as handle:
        handle.write(b'{"type":"FeatureCollection","features":[')
        for number, ((label, polygons), area) in enumerate(zip(outlines.items(), areas.tolist(), strict=True)):
            single = len(polygons) == 1
            feature = {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon" if single else "MultiPolygon",
                    "coordinates": polygons[0] if single else polygons,
                },
                "properties": {"id": label, "area": area},
            }
            line = (",\n" if number else "\n") + json.dumps(feature, separators=(",", ":"))
            handle.write(line.encode())
        handle.write(b"\n]}\n")


def write_properties_csv(path: str | Path, labels: NDArray[Any], image: NDArray[Any] | None = None) -> None:
    """Write a table with a row per instance and the columns of :func:`condensatenet.measurements.measure_instances`.

    Args:
        path: the file to write; it appears under its name when it is complete.
        labels: (H, W) label mask.
        image: (H, W) intensities; without it the table has no intensity columns.

    Raises:
        InvalidLabelsError, InvalidImageError: see :func:`condensatenet.measurements.measure_instances`.
    """
    table = measure_instances(labels, image)
    columns = [
        values.tolist() if values.dtype.kind == "i" else np.round(values, 4).tolist() for values in table.values()
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*columns, strict=True))
    with atomic_write(path) as handle:
        handle.write(text.getvalue().encode())


def _trace(labels: NDArray[np.int32]) -> dict[int, list[list[_Ring]]]:
    """Trace label -> polygons -> rings (the outer one first), with labels in rising order."""
    from rasterio.features import shapes

    outlines: dict[int, list[list[_Ring]]] = {}
    # Connectivity 4: a ring that passes through one point twice would be no valid polygon.
    for geometry, label in shapes(labels, mask=labels > 0, connectivity=4):
        rings = [[(round(x), round(y)) for x, y in ring] for ring in geometry["coordinates"]]
        outlines.setdefault(round(label), []).append(rings)
    return dict(sorted(outlines.items()))
