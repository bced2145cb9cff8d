"""The fields "Batch XY", "Batch Z" and "Batch Time": which positions of a dataset a tool works on.

A user counts positions from 1 ("1-3, 5-8"); everything else counts from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from annotation_utilities.errors import BatchRangeError
from annotation_utilities.interface_values import shown, whole_number

BATCH_RANGE_PLACEHOLDER = "ex. 1-3, 5-8, or all"

_HINT = 'Write positions counted from 1, for example "1-3, 5-8", or "all".'

# Field, key in a tile, key in an index range, and what to call one position and several.
_DIMENSIONS = (
    ("Batch XY", "XY", "IndexXY", "XY position"),
    ("Batch Z", "Z", "IndexZ", "Z slice"),
    ("Batch Time", "Time", "IndexT", "time point"),
)

_PIECE = re.compile(r"([0-9]{1,18})(?:\s*-\s*([0-9]{1,18}))?")

_MOST_POSITIONS = 1_000_000
"""Without an index range nothing else bounds the list of positions that a few typed characters ask for."""

_Interval = tuple[int, int]
"""First and last of consecutive positions, in the user's count."""


def batch_interface_fields(
    display_order: int = 1, verb: str = "iterate over", tooltips: bool = True
) -> dict[str, dict[str, Any]]:
    """Return the three text fields that :func:`get_batch_ranges` reads, for a worker's interface.

    Args:
        display_order: place of "Batch XY" in the form; the others follow it.
        verb: what the worker does with the positions.
        tooltips: whether the fields explain themselves when the mouse rests on them.
    """
    fields: dict[str, dict[str, Any]] = {}
    for order, (field, _tile_key, _index_key, noun) in enumerate(_DIMENSIONS, start=display_order):
        fields[field] = {
            "type": "text",
            "vueAttrs": {
                "placeholder": BATCH_RANGE_PLACEHOLDER,
                "label": f"The {noun}s to {verb}",
                "persistentPlaceholder": True,
            },
            "displayOrder": order,
        }
        if tooltips:
            fields[field]["tooltip"] = (
                f"The {noun}s to {verb}, counted from 1: for example 1-3, 5-8. "
                f"Write all for every {noun}; leave empty for the current one."
            )
    return fields


def get_batch_ranges(
    tile: Mapping[str, Any], worker_interface: Mapping[str, Any], index_range: Mapping[str, int] | None = None
) -> tuple[list[int], list[int], list[int]]:
    """Return the XY positions, Z slices and time points that the batch fields ask for.

    Args:
        tile: the position at which the tool was started, ``{"XY": 0, "Z": 0, "Time": 0}``, counted from 0; it stands
            in for fields that are empty or absent.
        worker_interface: the form's values.
        index_range: number of positions per axis as in the platform's tile metadata (IndexXY, IndexZ, IndexT); an axis
            that is absent has one. Without it nothing is checked against the dataset, and "all" is refused.

    Returns:
        Three sorted lists without repetitions, counted from 0.

    Raises:
        BatchRangeError: a field is not understood, or names a position that the dataset does not have.
    """
    xys, zs, times = (_positions(dimension, tile, worker_interface, index_range) for dimension in _DIMENSIONS)
    return xys, zs, times


def process_range_list(
    rl: Any,
    convert_one_to_zero_index: bool = False,
    convert_zero_to_one_index: bool = False,
    all_values: Iterable[int] | None = None,
) -> Iterator[int] | None:
    """Return the numbers that a text like "1-3, 5-8" stands for, rising and without repetitions.

    Args:
        rl: the text, or a single number.
        convert_one_to_zero_index: the text counts from 1, the result from 0.
        convert_zero_to_one_index: the text counts from 0, the result from 1. Otherwise 0 is refused.
        all_values: what "all" stands for, counted as the result is.

    Returns:
        An iterator, or None if the text is empty.

    Raises:
        BatchRangeError: the text is not understood, or is "all" without `all_values`.
    """
    if convert_one_to_zero_index and convert_zero_to_one_index:
        raise ValueError("A range is converted either from one to zero or from zero to one, not both.")
    field = "Batch range"
    text = _text(field, rl)
    if not text:
        return None
    if text.lower() == "all":
        if all_values is None:
            raise BatchRangeError(field, 'here "all" cannot be used. Write numbers, for example "1-3, 5-8".')
        return iter(all_values)
    step = int(convert_zero_to_one_index) - int(convert_one_to_zero_index)
    intervals = _parse(field, text, smallest=0 if convert_zero_to_one_index else 1)
    return chain.from_iterable(range(first + step, last + step + 1) for first, last in intervals)


def _positions(
    dimension: tuple[str, str, str, str],
    tile: Mapping[str, Any],
    worker_interface: Mapping[str, Any],
    index_range: Mapping[str, int] | None,
) -> list[int]:
    """Return the positions along one axis, counted from 0."""
    field, tile_key, index_key, noun = dimension
    count = None if index_range is None else index_range.get(index_key) or 1
    text = _text(field, worker_interface.get(field))
    if text.lower() == "all":
        if count is None:
            raise BatchRangeError(field, 'here "all" cannot be used. Write numbers, for example "1-3, 5-8".')
        return list(range(count))
    if text:
        intervals = _parse(field, text, smallest=1)
    else:
        current = whole_number(tile.get(tile_key) or 0)
        if current is None or current < 0:
            raise BatchRangeError(field, f"the tool was started at an unknown {noun}. {_HINT}")
        intervals = [(current + 1, current + 1)]
    largest = intervals[-1][1]
    if count is not None and largest > count:
        who = f"there is no {noun} {largest}" if text else f"the tool is set to {noun} {largest}"
        there = f"there is only one {noun}" if count == 1 else f"there are {count} {noun}s"
        raise BatchRangeError(field, f"{who}; in this dataset {there}. {_HINT}")
    if sum(last - first + 1 for first, last in intervals) > _MOST_POSITIONS:
        raise BatchRangeError(field, f"{shown(text)} are too many {noun}s. {_HINT}")
    return [position - 1 for first, last in intervals for position in range(first, last + 1)]


def _text(field: str, value: Any) -> str:
    """Return what was entered, without blanks around it; empty for nothing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    number = whole_number(value)
    if number is None:
        raise BatchRangeError(field, f"{shown(value)} is not understood. {_HINT}")
    return str(number)


def _parse(field: str, text: str, *, smallest: int) -> list[_Interval]:
    """Return the intervals of a range text, rising, none touching the next."""
    intervals: list[_Interval] = []
    for piece in filter(None, map(str.strip, text.split(","))):
        match = _PIECE.fullmatch(piece)
        if not match:
            raise BatchRangeError(field, f"{shown(piece)} is not understood. {_HINT}")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise BatchRangeError(field, f'{shown(piece)} runs backwards. Write "{last}-{first}".')
        if first < smallest:
            raise BatchRangeError(field, f"{shown(piece)} begins below {smallest}. {_HINT}")
        intervals.append((first, last))
    if not intervals:
        raise BatchRangeError(field, f"{shown(text)} is not understood. {_HINT}")
    merged: list[_Interval] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged
