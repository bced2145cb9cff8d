"""The fields of a tool, read from `Field=value` on the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import WorkbenchError

# What the platform's menu starts with where a field has no default that counts as true.
_EMPTY: Mapping[str, Any] = {"number": 0, "checkbox": False, "channel": 0, "layer": None}
_YES_OR_NO = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def read_fields(
    interface: Mapping[str, Mapping[str, Any]], settings: Sequence[str], channels: Sequence[str]
) -> dict[str, Any]:
    """Return the values that a tool gets: what was set, and the defaults of the rest.

    Args:
        interface: the tool's fields.
        settings: texts such as "Min Size=20"; upper and lower case mean the same in a field's name.
        channels: the names of the dataset's channels.

    Raises:
        WorkbenchError: a text names no field of the tool, or its value does not fit the field.
    """
    values = {name: _default(field, len(channels)) for name, field in interface.items()}
    settable = {name.casefold(): name for name, field in interface.items() if field.get("type") != "notes"}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise WorkbenchError(f'--set {setting!r} has no value; write it as --set "Field=value"')
        field_name = settable.get(name.strip().casefold())
        if field_name is None:
            known = ", ".join(settable.values()) or "none"
            raise WorkbenchError(f"The tool has no field {name.strip()!r}. Its fields are: {known}")
        values[field_name] = _read(field_name, interface[field_name], text.strip(), channels)
    return values


def read_channel(text: str, channels: Sequence[str], *, place: str) -> int:
    """Return the channel, from 0, that a text means: its name, or its number counted from 1.

    Raises:
        WorkbenchError: there is no such channel.
    """
    if text in channels:
        return channels.index(text)
    if text.isdecimal() and 1 <= int(text) <= len(channels):
        return int(text) - 1
    known = ", ".join(f"{number} ({name})" for number, name in enumerate(channels, start=1))
    raise WorkbenchError(f"{place}: there is no channel {text!r}. The dataset's channels are: {known}")


def _default(field: Mapping[str, Any], channel_count: int) -> Any:
    kind = field.get("type")
    if default := field.get("default"):
        return default
    if kind == "channelCheckboxes":
        return {str(channel): False for channel in range(channel_count)}
    return [] if kind == "tags" else _EMPTY.get(str(kind), "")


def _read(name: str, field: Mapping[str, Any], text: str, channels: Sequence[str]) -> Any:
    kind = field.get("type")
    if kind == "number":
        return _number(name, text)
    if kind == "checkbox":
        if text.lower() not in _YES_OR_NO:
            raise WorkbenchError(f"{name} is on or off, not {text!r}")
        return _YES_OR_NO[text.lower()]
    if kind == "select":
        items = [str(item) for item in field.get("items", [])]
        if text not in items:
            raise WorkbenchError(f"{name} cannot be {text!r}. Possible are: {', '.join(items)}")
        return text
    if kind == "channel":
        return read_channel(text, channels, place=name)
    if kind == "channelCheckboxes":
        chosen = {read_channel(part, channels, place=name) for part in _parts(text)}
        return {str(channel): channel in chosen for channel in range(len(channels))}
    if kind == "tags":
        return _parts(text)
    return text


def _number(name: str, text: str) -> int | float:
    try:
        number = float(text)
        if math.isfinite(number):
            return int(text) if text.lstrip("+-").isdecimal() else number
    except ValueError:
        pass
    raise WorkbenchError(f"{name} must be a number, not {text!r}")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
