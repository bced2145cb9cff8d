"""Which annotation of the same position is nearest to another one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from workbench.store.connections import Connections
from workbench.store.database import Database
from workbench.store.documents import Document, check_id, json_text

LABEL = "A Connection -- automatic"


def connect_to_nearest(
    database: Database,
    connections: Connections,
    annotation_ids: Sequence[str],
    *,
    tags: Sequence[str],
    channel: int | None,
) -> list[Document]:
    """Connect each annotation to the nearest other one of its dataset and location.

    Distances are those of the platform: between points, or the means of the vertices of lines and polygons; a rectangle
    is near to nothing.

    Args:
        annotation_ids: what to connect, and what never to connect to; those that do not exist are left out.
        tags: connect only to annotations with one of these; to any if there are none.
        channel: connect only to annotations of this channel.

    Returns:
        The new connections, from the nearest (parent) to the annotation (child).

    Raises:
        InvalidDocumentError: a text is no identifier.
    """
    checked = [check_id(annotation_id) for annotation_id in annotation_ids]
    with database.write():  # what is found cannot be deleted before it is connected
        groups: dict[tuple[str, str], list[tuple[str, float, float]]] = defaultdict(list)
        for annotation_id in checked:
            row = database.read_one("SELECT dataset_id, location, x, y FROM annotations WHERE id = ?", (annotation_id,))
            if row is not None and row["x"] is not None:
                groups[row["dataset_id"], row["location"]].append((annotation_id, row["x"], row["y"]))
        nearest = {}
        for (dataset_id, location), children in groups.items():
            where = "dataset_id = ? AND location = ? AND x IS NOT NULL AND id NOT IN (SELECT value FROM json_each(?))"
            arguments: list[str | int] = [dataset_id, location, json_text(checked)]
            if channel is not None:
                where += " AND channel = ?"
                arguments.append(channel)
            if tags:
                where += """ AND EXISTS (SELECT 1 FROM json_each(annotations.tags)
                             WHERE value IN (SELECT value FROM json_each(?)))"""
                arguments.append(json_text(list(tags)))
            candidates = database.read(f"SELECT id, x, y FROM annotations WHERE {where} ORDER BY id", arguments)
            if candidates:
                indices = nearest_points(
                    np.array([child[1:] for child in children]), np.array([[row["x"], row["y"]] for row in candidates])
                )
                for child, index in zip(children, indices, strict=True):
                    nearest[child[0]] = (dataset_id, candidates[index]["id"])
        return connections.create(
            [
                {
                    "label": LABEL,
                    "parentId": nearest[annotation_id][1],
                    "childId": annotation_id,
                    "datasetId": nearest[annotation_id][0],
                    "tags": [],
                }
                for annotation_id in checked
                if annotation_id in nearest
            ]
        )


def nearest_points(points: np.ndarray, candidates: np.ndarray) -> list[int]:
    """Give for each of (N, 2) points the index of the nearest of (M, 2) candidates; the first of several."""
    import shapely  # here, because a server that never connects need not load it

    tree = shapely.STRtree(shapely.points(candidates))
    which, found = tree.query_nearest(shapely.points(points), all_matches=True)
    nearest = np.full(len(points), len(candidates))
    np.minimum.at(nearest, which, found)
    return [int(index) for index in nearest]
