"""Values of a tool's form, as the platform sends them, turned into what a worker can compute with.

The platform checks nothing: a number may arrive as text, unrounded or outside its limits, a selection may be null,
empty or name something that is no longer offered, and a field may be absent from a tool that was saved long ago.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, overload

from annotation_utilities.errors import InterfaceValueError

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_LISTED = 10  # a message is read in a small window


def shown(value: Any) -> str:
    """Return a value as a message shows it: on one line and short."""
    if isinstance(value, str):
        return '"' + _REPR.repr(value)[1:-1] + '"'
    return _REPR.repr(value)


def whole_number(value: Any) -> int | None:
    """Return a number without a fraction (3, 3.0) as an int; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


@overload
def get_number(
    values: Mapping[str, Any],
    field: str,
    *,
    default: int,
    minimum: float | None = None,
    maximum: float | None = None,
    integer: Literal[True],
) -> int: ...


@overload
def get_number(
    values: Mapping[str, Any],
    field: str,
    *,
    default: float,
    minimum: float | None = None,
    maximum: float | None = None,
    integer: bool = False,
) -> float: ...


def get_number(
    values: Mapping[str, Any],
    field: str,
    *,
    default: float,
    minimum: float | None = None,
    maximum: float | None = None,
    integer: bool = False,
) -> float:
    """Return a number that was typed or set with a slider.

    Args:
        values: the form's values.
        field: the field's name.
        default: what an absent or empty field stands for.
        minimum, maximum: smallest and largest number that is accepted.
        integer: whether to round to a whole number, before the limits are checked.

    Returns:
        An int if `integer`, otherwise a float.

    Raises:
        InterfaceValueError: the value is no finite number, or is outside the limits.
    """
    value = values.get(field)
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        value = default
    number = _finite(value)
    if number is None:
        raise InterfaceValueError(
            field, f"{shown(value)} is not a number. Enter {_wanted(minimum, maximum, integer=integer)}."
        )
    if integer:
        number = round(number)
    if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        raise InterfaceValueError(
            field, f"{shown(value)} is out of range. Enter {_wanted(minimum, maximum, integer=integer)}."
        )
    return number


def get_numbers(values: Mapping[str, Any], fields: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the numbers of several fields; see `get_number`.

    Args:
        values: the form's values.
        fields: the fields as the form describes them, with "default", "min", "max" and "step"; where the step is an
            int, the number is rounded.

    Raises:
        InterfaceValueError: a value is no finite number, or is outside the limits.
    """
    return {
        name: get_number(
            values,
            name,
            default=field["default"],
            minimum=field["min"],
            maximum=field["max"],
            integer=isinstance(field["step"], int),
        )
        for name, field in fields.items()
    }


def get_text(values: Mapping[str, Any], field: str, *, default: str = "") -> str:
    """Return a text without blanks around it; a number is taken as the text it was typed as.

    Raises:
        InterfaceValueError: the value is neither.
    """
    value = values.get(field)
    number = whole_number(value)
    if number is not None:
        value = str(number)
    elif isinstance(value, float) and math.isfinite(value):
        value = str(value)
    elif value is None:
        value = ""
    if not isinstance(value, str):
        raise InterfaceValueError(field, f"{shown(value)} is not a text. Enter it again.")
    return value.strip() or default


def get_tags(values: Mapping[str, Any], field: str, *, required: bool) -> list[str]:
    """Return the tags that were chosen, as they were written, without blank ones and repetitions.

    Raises:
        InterfaceValueError: the value is no list of texts, or is empty although `required`.
    """
    value = values.get(field)
    if value is None:
        value = []
    elif isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(tag, str) for tag in value):
        raise InterfaceValueError(field, f"{shown(value)} is not a list of tags. Choose the tags again.")
    tags = list(dict.fromkeys(tag for tag in value if tag.strip()))
    if required and not tags:
        raise InterfaceValueError(field, "no tag is chosen. Choose at least one.")
    return tags


def get_channel(values: Mapping[str, Any], field: str, *, channel_count: int, default: int = 0) -> int:
    """Return the index of the channel that was chosen, counted from 0; `default` if none was.

    Raises:
        InterfaceValueError: it is no channel of this dataset.
    """
    value = values.get(field)
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        value = default
    number = _finite(value)
    channel = None if number is None else whole_number(number)
    if channel is None:
        raise InterfaceValueError(field, f"{shown(value)} is not a channel. Choose one from the list.")
    if not 0 <= channel < channel_count:
        there = "has one channel" if channel_count == 1 else f"has {channel_count} channels"
        raise InterfaceValueError(
            field, f"the chosen channel is not in this dataset, which {there}. Choose one from the list."
        )
    return channel


def get_required_select(value: Any, field: str, allowed_values: Collection[str] | None = None) -> str:
    """Return the entry that was chosen from a list.

    Args:
        value: the field's value.
        field: the field's name.
        allowed_values: the entries that the list offers now; without them any text is accepted.

    Raises:
        InterfaceValueError: nothing is chosen, or something that is not offered.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InterfaceValueError(field, f"nothing is chosen. {_choose(allowed_values)}")
    if not isinstance(value, str):
        raise InterfaceValueError(field, f"{shown(value)} is not an entry of the list. {_choose(allowed_values)}")
    if allowed_values is not None and value not in allowed_values:
        raise InterfaceValueError(field, f"{shown(value)} is not available. {_choose(allowed_values)}")
    return value


def get_select(values: Mapping[str, Any], field: str, *, default: str, allowed_values: Collection[str]) -> str:
    """Return the entry that was chosen from a list, or `default` if none was.

    Raises:
        InterfaceValueError: the entry is not offered, for instance no longer.
    """
    value = values.get(field)
    if value is None or (isinstance(value, str) and not value.strip()):
        return default
    return get_required_select(value, field, allowed_values)


def get_selected_channels(value: Any, field: str = "Channels") -> list[int]:
    """Return the channels that are ticked, rising, counted from 0.

    Args:
        value: channel -> whether it is ticked, ``{"0": true, "1": false}``; None or "" if the field was never shown.
        field: the field's name.

    Raises:
        InterfaceValueError: the value is something else.
    """
    if value is None or value == "":
        return []
    problem = InterfaceValueError(field, f"{shown(value)} is not a choice of channels. Tick the channels again.")
    if not isinstance(value, Mapping):
        raise problem
    channels = set()
    for key, ticked in value.items():
        if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10) or ticked not in (
            True,
            False,
            None,
        ):
            raise problem
        if ticked:
            channels.add(int(key))
    return sorted(channels)


def split_channel_selection(selected_channels: Iterable[int], num_channels: int) -> tuple[list[int], list[int]]:
    """Return the chosen channels that a dataset with `num_channels` has, and those that it lacks; both rising."""
    chosen = sorted(set(selected_channels))
    present = [channel for channel in chosen if 0 <= channel < num_channels]
    return present, [channel for channel in chosen if not 0 <= channel < num_channels]


def _finite(value: Any) -> float | None:
    """Return a number, or a text that is one, as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _wanted(minimum: float | None, maximum: float | None, *, integer: bool) -> str:
    kind = "a whole number" if integer else "a number"
    if minimum is not None and maximum is not None:
        return f"{kind} from {minimum} to {maximum}"
    if minimum is not None:
        return f"{kind} of at least {minimum}"
    return kind if maximum is None else f"{kind} of at most {maximum}"


def _choose(allowed_values: Collection[str] | None) -> str:
    if not allowed_values:
        return "Choose an entry of the list."
    names = ", ".join(list(allowed_values)[:_LISTED])
    return f"Choose one of: {names}{', ...' if len(allowed_values) > _LISTED else ''}."
