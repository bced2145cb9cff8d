"""Positions in a dataset, counted from 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from worker_client.errors import WorkerError

Location: TypeAlias = Mapping[str, int] | Sequence[int]
"""The `location` of an annotation, {"XY": 0, "Z": 0, "Time": 0}, or (xy, z, time) with or without the channel."""

Stack: TypeAlias = Sequence[int] | Literal["all"] | None
"""Which positions along an axis are stacked: all, the given ones, or none: then the axis is not one of the result's."""

AXES = ("XY", "Z", "Time", "Channel")
"""Axes in the order in which they are stacked."""

_INDEX_KEYS = {"XY": "IndexXY", "Z": "IndexZ", "Time": "IndexT", "Channel": "IndexC"}
_NOUNS = {"XY": "XY position", "Z": "Z slice", "Time": "time point", "Channel": "channel"}


def read_location(location: Location) -> tuple[int, int, int, int | None]:
    """Return XY, Z, time, and the channel if the location has one."""
    if isinstance(location, Mapping):
        return location["XY"], location["Z"], location["Time"], location.get("Channel")
    xy, z, time, *channel = location
    return xy, z, time, channel[0] if channel else None


def axis_length(axis: str, index_range: Mapping[str, int]) -> int:
    """Return how many positions a dataset has along an axis."""
    return index_range.get(_INDEX_KEYS[axis]) or 1


def stacked_positions(axis: str, stack: Stack, index_range: Mapping[str, int]) -> list[int] | None:
    """Return the positions to stack along an axis, or None if it is not stacked.

    Raises:
        WorkerError: the dataset does not have one of them, or there are none.
    """
    if stack is None:
        return None
    length = axis_length(axis, index_range)
    positions = list(range(length)) if isinstance(stack, str) and stack == "all" else [int(index) for index in stack]
    if not positions:
        raise WorkerError(f"No {_NOUNS[axis]} is chosen. Choose at least one.")
    for position in positions:
        check_position(axis, position, index_range)
    return positions


def check_position(axis: str, position: int, index_range: Mapping[str, int]) -> None:
    """Make sure that a dataset has a position.

    Raises:
        WorkerError: it does not.
    """
    length = axis_length(axis, index_range)
    if not 0 <= position < length:
        noun = _NOUNS[axis]
        there = f"there is only one {noun}" if length == 1 else f"there are {length} {noun}s"
        raise WorkerError(f"There is no {noun} {position + 1}; in this dataset {there}. Choose another {noun}.")
