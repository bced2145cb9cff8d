"""From a mask and a flow field to instances: pixels follow the flow, and those that end together belong together.

Two groupings of the end points:

* `exact` repeats the original CondensateNet pixel by pixel: equal rounded end points form an instance. End points one
  pixel apart become separate instances, so noisy flows split objects.
* `merged` follows the flow from pixel to pixel without a limit on the way, joins end points that lie close together,
  and then touching groups whose end points lie closer than two instances of their size could have their centres.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from condensatenet.errors import InvalidOptionError
from condensatenet.measurements import measure_instances

Grouping = Literal["exact", "merged"]
PROB_THRESHOLD = 0.15
MIN_SIZE = 15
MAX_SIZE = 600
FLOW_STEPS = 200
STEP_SCALE = 0.1

_EULER_CHUNK = 16384  # particles advanced together, so that their positions stay in the processor's cache
_WIDEST = 65536  # pixels in a row, in exact grouping; see _advance
_POINTER_DOUBLINGS = 7  # 2 ** 7 pixels of way, longer than any instance's radius
# End points at most two rows and two columns apart belong to one instance. Of two opposite offsets one is enough.
_MERGED_OFFSETS = [(dy, dx) for dy in range(3) for dx in range(-2, 3) if (dy, dx) > (0, 0)]
_SPLIT_DISTANCE = 0.5  # of the radius of a disc; chosen on nuclei, see benchmarks/README.md


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
    foreground = np.flatnonzero(probabilities > prob_threshold)
    instances = np.zeros(probabilities.shape, np.int32)
    if foreground.size == 0:
        return instances
    group: NDArray[np.integer]
    if grouping == "exact":
        group = _exact_groups(field, foreground, flow_steps, step_scale)
    else:
        group = _merged_groups(field, foreground)
    instances.ravel()[foreground] = _number_by_size(group, min_size, max_size)
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
    field: NDArray[np.float32], foreground: NDArray[np.intp], steps: int, scale: float
) -> NDArray[np.intp]:
    """Return for each foreground pixel the rounded end point of `steps` Euler steps, as a flat index.

    The arithmetic is the original's, but a step depends only on the pixel that a particle is in, so it is computed once
    per pixel of the frame and not once per particle and step.
    """
    height, width = field.shape[1:]
    if width > _WIDEST or height * width >= 2**31:
        raise InvalidOptionError(f"a frame of {height} x {width} pixels is too large for exact grouping; use merged")
    length = np.sqrt(field[0] ** 2 + field[1] ** 2)
    factor = np.clip(np.float32(scale) / (length + np.float32(1e-6)), np.float32(0.1), np.float32(1.0))
    # Positions and steps are complex numbers x + iy, so that one look-up and one addition serve both coordinates.
    step_map = np.empty((height, width), np.complex64)
    np.multiply(field[0], factor, out=step_map.imag)
    np.multiply(field[1], factor, out=step_map.real)
    longest = np.maximum(scale, 0.1 * length.max())
    if not np.isfinite(longest):
        np.nan_to_num(step_map, copy=False)
    # Particles that cannot get to the border need not be held back there, which is the case for most.
    rows, columns = np.divmod(foreground, width)
    to_border = np.minimum(np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns))
    inner = to_border > steps * longest + 1
    ends = np.empty(foreground.size, np.intp)
    for may_leave, particles in ((False, np.flatnonzero(inner)), (True, np.flatnonzero(~inner))):
        for start in range(0, particles.size, _EULER_CHUNK):
            chunk = particles[start : start + _EULER_CHUNK]
            position = np.empty(chunk.size, np.complex64)
            position.real, position.imag = columns[chunk], rows[chunk]
            _advance(position, step_map, steps, may_leave)
            ends[chunk] = np.rint(position.imag).astype(np.intp) * width + np.rint(position.real).astype(np.intp)
    return ends


def _advance(position: NDArray[np.complex64], step_map: NDArray[np.complex64], steps: int, may_leave: bool) -> None:
    """Move particles in place, each by the step of the pixel that it is in."""
    height, width = step_map.shape
    x, y = position.real, position.imag
    coordinates = position.view(np.float32)
    pixel = np.empty(coordinates.size, np.int32)
    index = np.empty(position.size, np.uint64)
    step = np.empty_like(position)
    for _ in range(steps):
        np.copyto(pixel, coordinates, casting="unsafe")
        # Two neighbouring integers are one number x + 2**32 * y. Times 2**32 + width, and without what exceeds 64 bits,
        # that is 2**32 * (x + width * y) + width * x, whose upper half is the flat index of the pixel.
        np.multiply(pixel.view(np.uint64), np.uint64(2**32 + width), out=index)
        np.right_shift(index, np.uint64(32), out=index)
        step_map.take(index.view(np.intp), out=step, mode="wrap")  # no index is out of range; other modes are slower
        position += step
        if may_leave:
            np.clip(x, 0, width - 1, out=x)
            np.clip(y, 0, height - 1, out=y)


def _merged_groups(field: NDArray[np.float32], foreground: NDArray[np.intp]) -> NDArray[np.int32]:
    """Return for each foreground pixel the number of its group.

    Every pixel points to the neighbour that its flow points at; following pointers to pointers doubles the way each
    time (pointer jumping), so a handful of look-ups replaces hundreds of steps.
    """
    height, width = field.shape[1:]
    rows, columns = np.divmod(foreground, width)
    dy, dx = field[0].take(foreground), field[1].take(foreground)
    reach = np.maximum(np.maximum(np.abs(dy), np.abs(dx)), 1e-6)
    next_rows = np.clip(rows + np.rint(dy / reach).astype(np.intp), 0, height - 1)
    next_columns = np.clip(columns + np.rint(dx / reach).astype(np.intp), 0, width - 1)
    # Of each pixel in `foreground`, -1 for background; the extra row is below the frame.
    position = np.full((height + 1) * width, -1, np.int32)
    own = np.arange(foreground.size, dtype=np.int32)
    position[foreground] = own
    pointer = position[next_rows * width + next_columns]
    pointer = np.where(pointer < 0, own, pointer)
    for _ in range(_POINTER_DOUBLINGS):
        pointer = pointer[pointer]
    group = _join_near_ends(pointer, rows, columns, position, (height, width))
    return _join_split_instances(group, pointer, foreground, position, width)


def _join_near_ends(
    pointer: NDArray[np.int32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    position: NDArray[np.int32],
    shape: tuple[int, int],
) -> NDArray[np.int32]:
    """Return for each foreground pixel the number of the cluster of neighbouring end points that it leads to."""
    height, width = shape
    is_end = np.zeros(pointer.size, bool)
    is_end[pointer] = True
    ends = np.flatnonzero(is_end)
    end_number = np.full(pointer.size + 1, -1, np.int32)  # the last entry is for position -1, the background
    end_number[ends] = np.arange(ends.size, dtype=np.int32)
    pairs = []
    for offset_y, offset_x in _MERGED_OFFSETS:
        near_rows, near_columns = rows[ends] + offset_y, columns[ends] + offset_x
        inside = np.flatnonzero((near_rows < height) & (near_columns >= 0) & (near_columns < width))
        near = end_number[position[near_rows[inside] * width + near_columns[inside]]]
        pairs.append((inside[near >= 0], near[near >= 0]))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return _connect(first, second, ends.size)[end_number[pointer]]


def _join_split_instances(
    group: NDArray[np.int32],
    pointer: NDArray[np.int32],
    foreground: NDArray[np.intp],
    position: NDArray[np.int32],
    width: int,
) -> NDArray[np.int32]:
    """Join groups that touch and whose mean end points are nearer than half the radius of a disc of their joint area.

    Two discs of equal size that touch have centres 1.4 of those radii apart, so that neighbours stay apart.
    """
    area = np.bincount(group)
    rows, columns = np.divmod(foreground, width)
    centre_row = np.bincount(group, rows[pointer]) / area
    centre_column = np.bincount(group, columns[pointer]) / area
    touching = []
    for neighbour in (position[foreground + width], np.where(columns < width - 1, position[foreground + 1], -1)):
        other = group[neighbour]
        border = np.flatnonzero((neighbour >= 0) & (other != group))
        touching.append(group[border] * np.int64(area.size) + other[border])
    first, second = np.divmod(np.unique(np.concatenate(touching)), area.size)
    distance = (centre_row[first] - centre_row[second]) ** 2 + (centre_column[first] - centre_column[second]) ** 2
    one = distance < _SPLIT_DISTANCE**2 * (area[first] + area[second]) / np.pi
    return _connect(first[one], second[one], area.size)[group]


def _connect(first: NDArray[np.integer], second: NDArray[np.integer], count: int) -> NDArray[np.int32]:
    """Return the number of the connected component of each of `count` things, of which some pairs belong together."""
    graph = sparse.coo_array((np.ones(first.size, bool), (first, second)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    return component


def _number_by_size(group: NDArray[np.integer], min_size: int, max_size: int) -> NDArray[np.int32]:
    """Renumber groups (any numbers from 0) from 1 in the order of their first pixel; groups of other sizes get 0."""
    # A look-up table from group to first pixel is several times faster than sorting, as np.unique does.
    first_of_group = np.full(group.max() + 1, group.size, np.int32)
    np.minimum.at(first_of_group, group, np.arange(group.size, dtype=np.int32))
    first = first_of_group[group]
    size = np.bincount(first, minlength=group.size)
    kept = (size >= max(min_size, 1)) & (size <= max_size)
    number = np.cumsum(kept, dtype=np.int32)
    number[~kept] = 0
    return number[first]


def extract_instance_properties(instances: NDArray[np.integer], image: ArrayLike | None = None) -> list[dict[str, Any]]:
    """Return one dictionary per instance: see `condensatenet.measurements.measure_instances` for its keys and units."""
    table = measure_instances(instances, image)
    return [
        dict(zip(table, row, strict=True)) for row in zip(*(column.tolist() for column in table.values()), strict=True)
    ]
