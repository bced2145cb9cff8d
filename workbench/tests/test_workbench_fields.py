"""What `--set` makes of a tool's fields, and finding tools by part of a name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.command_line.fields import read_channel, read_fields
from workbench.errors import WorkbenchError

CHANNELS = ("DAPI", "GFP", "7")
INTERFACE: dict[str, dict[str, Any]] = {
    "About": {"type": "notes", "value": "<b>hello</b>"},
    "Min Size": {"type": "number", "min": 0, "max": 100, "default": 15},
    "Shift": {"type": "number", "default": 0},
    "Batch XY": {"type": "text"},
    "Model": {"type": "select", "items": ["pretrained", "mine"], "default": "pretrained"},
    "Fast": {"type": "checkbox"},
    "Channel": {"type": "channel", "required": True},
    "Channels": {"type": "channelCheckboxes"},
    "Marked": {"type": "tags"},
    "Layer": {"type": "layer"},
}


def test_defaults_are_the_platforms() -> None:
    assert read_fields(INTERFACE, [], CHANNELS) == {
        "About": "",
        "Min Size": 15,
        "Shift": 0,
        "Batch XY": "",
        "Model": "pretrained",
        "Fast": False,
        "Channel": 0,
        "Channels": {"0": False, "1": False, "2": False},
        "Marked": [],
        "Layer": None,
    }


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("Min Size=20", "Min Size", 20),
        ("min size = 2.5", "Min Size", 2.5),
        ("Min Size=1e2", "Min Size", 100.0),
        ("Shift=-3", "Shift", -3),
        ("Batch XY=1-3, 5", "Batch XY", "1-3, 5"),
        ("Batch XY=a=b", "Batch XY", "a=b"),
        ("Batch XY=", "Batch XY", ""),
        ("Model=mine", "Model", "mine"),
        ("Fast=yes", "Fast", True),
        ("Fast=False", "Fast", False),
        ("Channel=GFP", "Channel", 1),
        ("Channel=2", "Channel", 1),
        ("Channel=7", "Channel", 2),
        ("Channels=DAPI, 3", "Channels", {"0": True, "1": False, "2": True}),
        ("Marked=a, b c,", "Marked", ["a", "b c"]),
        ("Layer=l1", "Layer", "l1"),
    ],
)
def test_values_are_what_the_platform_sends(setting: str, name: str, value: object) -> None:
    values = read_fields(INTERFACE, [setting], CHANNELS)
    assert values[name] == value and type(values[name]) is type(value)
    assert {**values, name: None} == {**read_fields(INTERFACE, [], CHANNELS), name: None}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("Min Size", "has no value"),
        (
            "Size=1",
            "no field 'Size'. Its fields are: Min Size, Shift, Batch XY, Model, Fast, Channel, Channels, Marked, Layer",
        ),
        ("About=x", "no field 'About'"),
        ("Min Size=many", "Min Size must be a number, not 'many'"),
        ("Min Size=", "Min Size must be a number"),
        ("Min Size=nan", "Min Size must be a number"),
        ("Min Size=1e999", "Min Size must be a number"),
        ("Model=other", "Model cannot be 'other'. Possible are: pretrained, mine"),
        ("Fast=perhaps", "Fast is on or off"),
        ("Channel=0", r"Channel: there is no channel '0'. The dataset's channels are: 1 \(DAPI\), 2 \(GFP\), 3 \(7\)"),
        ("Channel=4", "no channel '4'"),
        ("Channels=DAPI,RFP", "Channels: there is no channel 'RFP'"),
    ],
)
def test_what_does_not_fit_is_refused(setting: str, message: str) -> None:
    with pytest.raises(WorkbenchError, match=message):
        read_fields(INTERFACE, [setting], CHANNELS)


@given(st.sampled_from(list(INTERFACE)), st.text())
def test_any_text_is_understood_or_refused(name: str, text: str) -> None:
    try:
        values = read_fields(INTERFACE, [f"{name}={text}"], CHANNELS)
    except WorkbenchError:
        return
    json.dumps(values, allow_nan=False)


def test_a_channel_by_name_or_number() -> None:
    assert [read_channel(text, CHANNELS, place="--channel") for text in ("DAPI", "1", "3")] == [0, 0, 2]
    with pytest.raises(WorkbenchError, match="--channel: there is no channel 'x'"):
        read_channel("x", CHANNELS, place="--channel")
