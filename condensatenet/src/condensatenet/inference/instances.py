"""From a mask and a flow field to instances: every foreground pixel follows the flow, and pixels that end together belong together.

Two groupings of the end points:

* `exact` repeats the original CondensateNet pixel by pixel: equal rounded end points form an instance. End points one pixel apart become
  separate instances, so noisy flows split objects.
* `merged` follows the flow from pixel to pixel without a limit on the way and joins end points that lie close together.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from condensatenet.errors import InvalidOptionError

try:
    from condensatenet.measurements import measure_instances
except ImportError:
    measure_instances = None

Grouping = Literal["exact", "merged"]
PROB_THRESHOLD = 0.15
MIN_SIZE = 15
MAX_SIZE = 600
FLOW_STEPS = 200
STEP_SCALE = 0.1

_EULER_CHUNK = 16384  # particles advanced together, so that their positions stay in the processor's cache
_POINTER_DOUBLINGS = 7  # 2 ** 7 pixels of way, longer than any instance's radius
_MERGE_DISTANCE = 2  # end points this close (in rows and in columns) belong to one instance


def flow_to_instances(
    mask_probs: ArrayLike,
    flows: ArrayLike,
    prob_threshold: float = PROB_THRESHOLD,
    min_size: int = MIN_SIZE,
    max_size: int = MAX_SIZE,
    flow_steps: int = FLOW_STEPS,
    step_scale: float = STEP_SCALE,
    *,
    grouping: Grouping = "exact",
) -> NDArray[np.int32]:
    """Group the foreground pixels of a frame into instances.

    Args:
        mask_probs: (H, W) foreground probabilities.
        flows: (2, H, W) flow field (dy, dx) in pixels.
        prob_threshold: pixels with a probability above this are foreground.
        min_size, max_size: smallest and largest area in pixels of an instance that is kept.
        flow_steps: steps of the exact grouping.
        step_scale: length in pixels of a step of the exact grouping.
        grouping: "exact" or "merged", see the module's description.

    Returns:
        (H, W) int32; 0 is background, instances are numbered from 1 in raster order of their first pixel.

    Raises:
        InvalidOptionError: the shapes do not fit or an option is out of range.
    """
    probabilities = np.asarray(mask_probs, dtype=np.float32)
    field = np.asarray(flows, dtype=np.float32)
    _check(probabilities, field, min_size, max_size, flow_steps, grouping)
    rows, columns = np.nonzero(probabilities > prob_threshold)
    instances = np.zeros(probabilities.shape, np.int32)
    if rows.size == 0:
        return instances
    if grouping == "exact":
        group = _exact_groups(field, rows, columns, flow_steps, step_scale)
    else:
        group = _merged_groups(field, rows, columns)
    instances[rows, columns] = _number_by_size(group, min_size, max_size)
    return instances


def _check(
    probabilities: NDArray[np.float32],
    field: NDArray[np.float32],
    min_size: int,
    max_size: int,
    steps: int,
    grouping: str,
) -> None:
    if probabilities.ndim != 2 or field.shape != (2, *probabilities.shape):
        raise InvalidOptionError(
            f"mask_probs must be (H, W) and flows (2, H, W), not {probabilities.shape} and {field.shape}"
        )
    if min_size > max_size:
        raise InvalidOptionError(f"min_size ({min_size}) must not be larger than max_size ({max_size})")
    if steps < 0:
        raise InvalidOptionError(f"flow_steps must not be negative, not {steps}")
    if grouping not in ("exact", "merged"):
        raise InvalidOptionError(f"grouping must be 'exact' or 'merged', not {grouping!r}")


def _exact_groups(
    field: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp], steps: int, scale: float
) -> NDArray[np.intp]:
    """Return for each pixel the rounded end point (as a flat index) of `steps` Euler steps, in the original's arithmetic.

    A step depends only on the pixel that a particle is in, so it is computed once per pixel of the frame and not once per particle
    and step.
    """
    height, width = field.shape[1:]
    length = np.sqrt(field[0] ** 2 + field[1] ** 2)
    factor = np.clip(np.float32(scale) / (length + np.float32(1e-6)), np.float32(0.1), np.float32(1.0))
    # One complex number per pixel, so that one look-up fetches both components.
    step_map = np.empty(height * width, np.complex64)
    step_map.real = (field[0] * factor).ravel()
    step_map.imag = (field[1] * factor).ravel()
    ends = np.empty(rows.size, np.intp)
    for start in range(0, rows.size, _EULER_CHUNK):
        chunk = slice(start, start + _EULER_CHUNK)
        y, x = rows[chunk].astype(np.float32), columns[chunk].astype(np.float32)
        index = np.empty(y.size, np.int32)
        column = np.empty(y.size, np.int32)
        step = np.empty(y.size, np.complex64)
        for _ in range(steps):
            np.copyto(index, y, casting="unsafe")
            np.copyto(column, x, casting="unsafe")
            index *= width
            index += column
            np.take(step_map, index, out=step, mode="clip")
            y += step.real
            x += step.imag
            np.clip(y, 0, height - 1, out=y)
            np.clip(x, 0, width - 1, out=x)
        ends[chunk] = np.rint(y).astype(np.intp) * width + np.rint(x).astype(np.intp)
    return ends


def _merged_groups(field: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each pixel the number of the cluster of end points that its way along the flow leads to.

    Every pixel points to the neighbour that its flow points at; following pointers to pointers doubles the way each time
    (pointer jumping), so a handful of look-ups replaces hundreds of steps.
    """
    height, width = field.shape[1:]
    dy, dx = field[0, rows, columns], field[1, rows, columns]
    reach = np.maximum(np.maximum(np.abs(dy), np.abs(dx)), 1e-6)
    flat = rows * width + columns
    position = np.full(height * width, -1, np.int32)
    position[flat] = np.arange(flat.size, dtype=np.int32)
    next_rows = np.clip(rows + np.rint(dy / reach).astype(np.intp), 0, height - 1)
    next_columns = np.clip(columns + np.rint(dx / reach).astype(np.intp), 0, width - 1)
    pointer = position[next_rows * width + next_columns]
    pointer = np.where(pointer < 0, np.arange(flat.size, dtype=np.int32), pointer)
    for _ in range(_POINTER_DOUBLINGS):
        pointer = pointer[pointer]
    is_end = np.zeros((height, width), bool)
    is_end.ravel()[flat[pointer]] = True
    near = ndimage.binary_dilation(is_end, np.ones((_MERGE_DISTANCE, _MERGE_DISTANCE), bool))
    clusters, _ = ndimage.label(near, np.ones((3, 3), bool))
    return clusters.ravel()[flat[pointer]].astype(np.intp)


def _number_by_size(group: NDArray[np.intp], min_size: int, max_size: int) -> NDArray[np.int32]:
    """Renumber groups from 1 in the order of their first pixel; pixels of groups outside the size limits get 0."""
    _, first, member, size = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    kept = (size >= min_size) & (size <= max_size)
    numbers = np.zeros(size.size, np.int32)
    order = np.argsort(np.where(kept, first, group.size))[: int(kept.sum())]
    numbers[order] = np.arange(1, order.size + 1, dtype=np.int32)
    return numbers[member]


def extract_instance_properties(instances: NDArray[np.integer], image: ArrayLike | None = None) -> list[dict[str, Any]]:
    """Return one dictionary per instance: see `condensatenet.measurements.measure_instances` for its keys and units."""
    table = measure_instances(instances, image)
    return [
        dict(zip(table, row, strict=True)) for row in zip(*(column.tolist() for column in table.values()), strict=True)
    ]
