"""The planes of an image through a module's worker, one by one, and a table of what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from external_modules.errors import ExternalModuleError
from external_modules.external_module import ExternalModule
from external_modules.object_labels import labels_of, number_on, object_table, to_object_labels

GIVEN_ARGUMENTS = ("input_image", "progress")  # of a worker's function; not the user's to set


def segment_planes(
    module: ExternalModule,
    worker: str,
    planes: NDArray[Any],
    settings: Mapping[str, Any],
    progress: Callable[[float, str], None],
) -> NDArray[np.int32]:
    """Segment planes with a worker's function; objects are numbered through from plane to plane.

    Args:
        module: whose worker is called.
        worker: file name of the worker's script.
        planes: (N, H, W).
        settings: what the function gets besides `input_image`.
        progress: is called with a fraction of all planes (0 to 1) and a text.

    Returns:
        (N, H, W) int32 labels, 0 for background.

    Raises:
        ExternalModuleError: the call failed, or its result does not fit the plane.
    """
    labels: NDArray[np.int32] = np.zeros(planes.shape, np.int32)
    highest = 0
    batch = [{**settings, "input_image": plane} for plane in planes]
    for number, result in enumerate(module.call_batch(worker, batch, timeout=None, progress=progress)):
        found = to_object_labels(labels_of(result))
        if found.shape != labels.shape[1:]:
            raise ExternalModuleError(f"The worker returned labels of shape {found.shape} for {labels.shape[1:]}.")
        labels[number] = number_on(found, highest)
        highest = max(highest, int(labels[number].max(initial=0)))
    return labels


def table_of_planes(labels: NDArray[np.int32], planes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Measure every object.

    Args:
        labels: (N, H, W).
        planes: (N, H, W) intensities.

    Returns:
        Columns of equal length, in pixels: ``Plane``, counted from 0, and those of `object_table`.
    """
    rows = []
    for number, (numbers, plane) in enumerate(zip(labels, planes, strict=True)):
        columns = object_table(numbers, plane)
        rows.append({"Plane": np.full(len(columns["ObjectId"]), number), **columns})
    return {title: np.concatenate([part[title] for part in rows]) for title in rows[0]}
