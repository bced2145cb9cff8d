"""Values of a tool's form: what people type, what old tools saved, and any JSON at all."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_utilities.errors import AnnotationError, InterfaceValueError
from annotation_utilities.interface_values import (
    get_channel,
    get_number,
    get_numbers,
    get_required_select,
    get_select,
    get_selected_channels,
    get_tags,
    get_text,
    split_channel_selection,
)

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 700),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["", " 15 ", "0.3", "1e3", "nan", "-inf", "1e999", "a", "b", "dna", "\n", "9" * 400]),
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.sampled_from("012"), inner, max_size=4)
    ),
    max_leaves=6,
)


def number(value: Any) -> float:
    result = get_number({"F": value}, "F", default=15, minimum=1, maximum=600)
    assert type(result) is float
    assert 1 <= result <= 600
    return result


def whole(value: Any) -> int:
    result = get_number({"F": value}, "F", default=15, minimum=1, maximum=600, integer=True)
    assert type(result) is int
    assert 1 <= result <= 600
    return result


def unlimited(value: Any) -> float:
    result = get_number({"F": value}, "F", default=0.5)
    assert math.isfinite(result)
    return result


def text(value: Any) -> str:
    result = get_text({"F": value}, "F", default="x")
    assert result
    assert result == result.strip()
    return result


def tags(value: Any) -> list[str]:
    result = get_tags({"F": value}, "F", required=True)
    assert result
    assert all(tag.strip() for tag in result)
    assert len(set(result)) == len(result)
    return result


def channel(value: Any) -> int:
    result = get_channel({"F": value}, "F", channel_count=3)
    assert type(result) is int
    assert 0 <= result < 3
    return result


def select(value: Any) -> str:
    result = get_select({"F": value}, "F", default="a", allowed_values=["a", "b"])
    assert result in {"a", "b"}
    return result


def required_select(value: Any) -> str:
    result = get_required_select(value, "F", {"a": 1, "b": 2})
    assert result in {"a", "b"}
    return result


def any_select(value: Any) -> str:
    result = get_required_select(value, "F")
    assert result.strip()
    return result


def channels(value: Any) -> list[int]:
    result = get_selected_channels(value, "F")
    assert result == sorted(set(result))
    assert all(type(channel) is int and channel >= 0 for channel in result)
    return result


READERS = [number, whole, unlimited, text, tags, channel, select, required_select, any_select, channels]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@settings(max_examples=60, deadline=None)
@given(value=json_values)
def test_any_value_is_understood_or_named_in_the_one_error(read: Callable[[Any], Any], value: Any) -> None:
    try:
        read(value)
    except InterfaceValueError as error:
        assert error.field == "F"
        message = str(error)
        assert message.startswith("F: ")
        assert message.endswith(".")
        assert message.isprintable()
        assert len(message) < 600


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        (7.25, 7.25),
        ("7.5", 7.5),
        (" 7 ", 7),
        ("1e2", 100),
        ("", 15),
        ("  ", 15),
        (None, 15),
        ("600", 600),
        (1, 1),
    ],
)
def test_numbers(value: Any, expected: float) -> None:
    assert number(value) == expected


def test_an_absent_number_is_the_default() -> None:
    assert get_number({}, "F", default=0.15) == 0.15
    assert get_number({}, "F", default=15, integer=True) == 15


@pytest.mark.parametrize(
    ("value", "expected"), [(103.4487, 103), ("15.0", 15), ("14.6", 15), (0.6, 1), (600.4, 600), ("", 15)]
)
def test_sliders_are_rounded(value: Any, expected: int) -> None:
    assert whole(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("abc", 'F: "abc" is not a number. Enter a number from 1 to 600.'),
        (True, "F: True is not a number. Enter a number from 1 to 600."),
        (math.nan, "F: nan is not a number. Enter a number from 1 to 600."),
        ("inf", 'F: "inf" is not a number. Enter a number from 1 to 600.'),
        ("0,5", 'F: "0,5" is not a number. Enter a number from 1 to 600.'),
        ([], "F: [] is not a number. Enter a number from 1 to 600."),
        (700, "F: 700 is out of range. Enter a number from 1 to 600."),
        ("0", 'F: "0" is out of range. Enter a number from 1 to 600.'),
        (10**400, None),
    ],
)
def test_numbers_that_are_none(value: Any, message: str | None) -> None:
    with pytest.raises(InterfaceValueError) as caught:
        number(value)
    assert message is None or str(caught.value) == message


def test_the_limits_are_told() -> None:
    for limits, told in (
        ({"minimum": 2}, "a number of at least 2."),
        ({"maximum": 0.5}, "a number of at most 0.5."),
        ({}, "Enter a number."),
    ):
        with pytest.raises(InterfaceValueError) as caught:
            get_number({"F": "x"}, "F", default=1.0, **limits)
        assert str(caught.value).endswith(told)
    with pytest.raises(InterfaceValueError, match="Enter a whole number from 10 to 500"):
        get_number({"F": 9}, "F", default=100, minimum=10, maximum=500, integer=True)


def test_the_numbers_of_a_form() -> None:
    fields = {
        "Size": {"default": 15, "min": 1, "max": 600, "step": 1, "tooltip": "area"},
        "Threshold": {"default": 0.15, "min": 0, "max": 1, "step": 0.01},
    }
    numbers = get_numbers({"Size": "20.4", "Threshold": 0.3, "Other": "x"}, fields)
    assert numbers == {"Size": 20, "Threshold": 0.3} and type(numbers["Size"]) is int
    assert get_numbers({}, fields) == {"Size": 15, "Threshold": 0.15}
    for field, value in (("Size", 0), ("Size", 601), ("Threshold", "x")):
        with pytest.raises(InterfaceValueError, match=f"^{field}: "):
            get_numbers({field: value}, fields)


def test_texts() -> None:
    assert [text(value) for value in (" my model ", 20260101, 3.0, 0.5, "", None)] == [
        "my model", "20260101", "3", "0.5", "x", "x",
    ]  # fmt: skip
    assert get_text({}, "F") == ""
    for wrong in (True, ["a"], {}, math.nan):
        with pytest.raises(InterfaceValueError, match="not a text"):
            text(wrong)


def test_tags() -> None:
    assert tags(["dna", "", "dna", " ", "condensate "]) == ["dna", "condensate "]
    assert tags("dna") == ["dna"]
    for nothing in (None, [], "", [" "]):
        assert get_tags({"F": nothing}, "F", required=False) == []
        with pytest.raises(InterfaceValueError, match="F: no tag is chosen"):
            tags(nothing)
    assert get_tags({}, "F", required=False) == []
    for wrong in ([1], [None], {"tags": ["a"]}, 3, False):
        with pytest.raises(InterfaceValueError, match="not a list of tags"):
            get_tags({"F": wrong}, "F", required=False)


def test_channels() -> None:
    assert [channel(value) for value in (0, 2, 1.0, "1", None, "")] == [0, 2, 1, 1, 0, 0]
    assert get_channel({}, "F", channel_count=3, default=2) == 2
    for wrong in (3, -1, "7"):
        with pytest.raises(
            InterfaceValueError, match="F: the chosen channel is not in this dataset, which has 3 channels"
        ):
            channel(wrong)
    with pytest.raises(InterfaceValueError, match="which has one channel"):
        get_channel({"F": None}, "F", channel_count=1, default=1)
    for wrong in (0.5, "DAPI", True, [0]):
        with pytest.raises(InterfaceValueError, match="is not a channel"):
            channel(wrong)


def test_selections() -> None:
    assert [select(value) for value in ("b", "a", None, "", " ")] == ["b", "a", "a", "a", "a"]
    assert get_select({}, "F", default="z", allowed_values=["a"]) == "z"
    with pytest.raises(InterfaceValueError, match=r'F: "old" is not available\. Choose one of: a, b\.'):
        select("old")
    for nothing in (None, "", "  "):
        with pytest.raises(InterfaceValueError, match=r"F: nothing is chosen\. Choose one of: a, b\."):
            required_select(nothing)
    for wrong in (0, False, ["a"], {}):
        with pytest.raises(InterfaceValueError, match="is not an entry of the list"):
            select(wrong)
    with pytest.raises(InterfaceValueError, match=r"Choose one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\.$"):
        get_required_select("x", "F", [str(number) for number in range(20)])
    with pytest.raises(InterfaceValueError, match="Choose an entry of the list"):
        get_required_select(None, "F")


def test_ticked_channels() -> None:
    assert channels({"10": True, "2": True, "1": False, "0": None}) == [2, 10]
    assert [channels(unset) for unset in (None, "", {})] == [[], [], []]
    for wrong in ([0], [], "0", 3, False, {"a": True}, {"-1": True}, {"0": "yes"}, {"0": [1]}, {"²": True}):
        with pytest.raises(InterfaceValueError, match="Tick the channels again"):
            channels(wrong)
    with pytest.raises(InterfaceValueError, match="Channels: "):
        get_selected_channels(1)


def test_channels_that_a_dataset_has() -> None:
    assert split_channel_selection([4, 0, 2, 0, -1], 3) == ([0, 2], [-1, 4])
    assert split_channel_selection([], 3) == ([], [])


def test_errors_can_be_caught_together_and_sent_elsewhere() -> None:
    error = InterfaceValueError("Min Size", "no.")
    assert isinstance(error, AnnotationError)
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.field, str(again)) == (InterfaceValueError, "Min Size", "Min Size: no.")
