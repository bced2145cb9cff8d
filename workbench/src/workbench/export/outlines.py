"""Objects as GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from workbench.export.objects import Object


def write_geojson(path: Path, objects: Iterable[Object]) -> None:
    """Write objects as a FeatureCollection.

    Coordinates are [x, y] in pixels with the origin at the top-left corner of the image, as in the annotations.
    Properties are `id`, `tags`, `channel` and `location` (XY, Z, Time), counted from 0 as in the annotations.
    """
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        for number, item in enumerate(objects):
            file.write((",\n" if number else "\n") + _feature(item))
        file.write("\n]}\n")


def _feature(item: Object) -> str:
    import shapely

    xy, z, time = item.location
    properties = {
        "id": item.id,
        "tags": item.tags,
        "channel": item.channel,
        "location": {"XY": xy, "Z": z, "Time": time},
    }
    return (
        f'{{"type":"Feature","id":"{item.id}","geometry":{shapely.to_geojson(item.geometry)},'
        f'"properties":{json.dumps(properties)}}}'
    )
