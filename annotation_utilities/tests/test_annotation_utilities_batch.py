"""The fields Batch XY, Batch Z and Batch Time."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_utilities.batch_argument_parser import (
    BATCH_RANGE_PLACEHOLDER,
    batch_interface_fields,
    get_batch_ranges,
    process_range_list,
)
from annotation_utilities.errors import BatchRangeError, InterfaceValueError

FIELDS = ("Batch XY", "Batch Z", "Batch Time")
TILE = {"XY": 1, "Z": 2, "Time": 0}
DATASET = {"IndexXY": 4, "IndexZ": 9, "IndexT": 3, "IndexC": 2}

WRONG_TEXTS = [
    *("0", "1-", "-2", "-", "5-3", "1,,x", "a", "1;2", "1.5", "1--2", "1-2-3", ",", "0-2", "1:3", "+1", "5", "1-5"),
    *("1-999999999", "1\n2", "all, 1", "\u00b2", "\u0661", "\ud800", "9" * 30, "9" * 6000),
]
WRONG_VALUES = [0, -1, 1.5, math.nan, math.inf, 1e300, True, False, [1], {"0": True}]


def ranges(**fields: Any) -> tuple[list[int], list[int], list[int]]:
    return get_batch_ranges(TILE, {f"Batch {axis}": value for axis, value in fields.items()}, DATASET)


def test_fields() -> None:
    fields = batch_interface_fields(display_order=4, verb="segment")
    assert tuple(fields) == FIELDS
    assert [field["displayOrder"] for field in fields.values()] == [4, 5, 6]
    for field in fields.values():
        assert field["type"] == "text"
        assert field["vueAttrs"]["placeholder"] == BATCH_RANGE_PLACEHOLDER
        assert "segment" in field["vueAttrs"]["label"]
        assert "segment" in field["tooltip"]
        assert "tooltip" not in field["vueAttrs"]
    assert "time points" in fields["Batch Time"]["tooltip"]
    assert not any("tooltip" in field for field in batch_interface_fields(tooltips=False).values())
    assert json.loads(json.dumps(fields)) == fields


def test_examples() -> None:
    assert ranges(XY="1-3", Z="1-3, 5-8", Time="2") == ([0, 1, 2], [0, 1, 2, 4, 5, 6, 7], [1])
    assert ranges(XY="all", Z=" ALL ", Time="All") == ([0, 1, 2, 3], list(range(9)), [0, 1, 2])
    assert ranges(XY="3,1,1-2,2") == ([0, 1, 2], [2], [0])
    assert ranges(XY=" 2 - 3 ,", Z="001") == ([1, 2], [0], [0])


@pytest.mark.parametrize("nothing", ["", "  ", None])
def test_an_empty_field_is_the_current_position(nothing: Any) -> None:
    assert ranges(XY=nothing, Z=nothing, Time=nothing) == ([1], [2], [0])
    assert get_batch_ranges({}, {}, {}) == ([0], [0], [0])
    assert get_batch_ranges({"XY": 5.0, "Z": None}, {}) == ([5], [0], [0])


def test_numbers_are_understood() -> None:
    assert ranges(XY=3, Z=3.0, Time=1) == ([2], [2], [0])


@pytest.mark.parametrize("wrong", [*WRONG_TEXTS, *WRONG_VALUES])
def test_what_is_not_in_the_dataset_or_not_understood(wrong: Any) -> None:
    with pytest.raises(BatchRangeError, match=r"^Batch XY: ") as caught:
        ranges(XY=wrong)
    assert caught.value.field == "Batch XY"
    assert isinstance(caught.value, InterfaceValueError)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5-3", 'Batch Z: "5-3" runs backwards. Write "3-5".'),
        ("12", "there is no Z slice 12; in this dataset there are 9 Z slices"),
        ("7-12", "there is no Z slice 12; in this dataset there are 9 Z slices"),
        ("0", '"0" begins below 1'),
        ("first", '"first" is not understood'),
    ],
)
def test_messages(value: str, text: str) -> None:
    with pytest.raises(BatchRangeError) as caught:
        ranges(Z=value)
    assert text in str(caught.value)


def test_each_field_is_named() -> None:
    for field in FIELDS:
        with pytest.raises(BatchRangeError) as caught:
            get_batch_ranges(TILE, {field: "10"}, DATASET)
        assert caught.value.field == field


def test_the_current_position_must_be_in_the_dataset() -> None:
    with pytest.raises(BatchRangeError, match=r"Batch Z: the tool is set to Z slice 3; .* there is only one Z slice"):
        get_batch_ranges(TILE, {}, {"IndexXY": 4})
    assert get_batch_ranges(TILE, {"Batch Z": "1"}, {"IndexXY": 4}) == ([1], [0], [0])
    for position in (-1, "2", 0.5, [1]):
        with pytest.raises(BatchRangeError, match="Batch XY: the tool was started at an unknown XY position"):
            get_batch_ranges({"XY": position}, {}, DATASET)


def test_without_a_dataset_nothing_is_checked_but_the_length() -> None:
    assert get_batch_ranges(TILE, {"Batch Z": "90-92"}) == ([1], [89, 90, 91], [0])
    for text in ("1-999999999", "all"):
        with pytest.raises(BatchRangeError, match="Batch Z: "):
            get_batch_ranges(TILE, {"Batch Z": text})


def test_a_huge_range_costs_nothing() -> None:
    start = time.process_time()
    with pytest.raises(BatchRangeError, match="there is no XY position 999999999999; "):
        ranges(XY="1-999999999999")
    assert next(process_range_list("1-999999999999") or iter(())) == 1
    assert time.process_time() - start < 0.1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 8), st.booleans()), min_size=1, max_size=6), st.data())
def test_ranges_that_are_right_give_their_positions(pieces: list[tuple[int, int, bool]], data: st.DataObject) -> None:
    blank = st.sampled_from(["", " ", "  "])
    texts, expected = [], set()
    for first, length, single in pieces:
        last = first if single else min(9, first + length)
        dash = data.draw(blank) + "-" + data.draw(blank)
        texts.append(data.draw(blank) + (str(first) if single else f"{first}{dash}{last}") + data.draw(blank))
        expected.update(range(first - 1, last))
    text = ",".join(texts)
    assert ranges(Z=text)[1] == sorted(expected)
    assert list(process_range_list(text) or ()) == [position + 1 for position in sorted(expected)]


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(alphabet="0123456789-, al", max_size=12), st.text(max_size=8), st.integers(), st.floats()))
def test_any_value_gives_positions_of_the_dataset_or_the_one_error(value: Any) -> None:
    try:
        xys, zs, times = ranges(Z=value)
    except BatchRangeError as error:
        assert error.field == "Batch Z"
        assert "\n" not in str(error)
    else:
        assert (xys, times) == ([1], [0])
        assert zs
        assert zs == sorted(set(zs))
        assert set(zs) <= set(range(9))


def test_range_lists() -> None:
    def listed(*args: Any, **options: Any) -> list[int] | None:
        numbers = process_range_list(*args, **options)
        return None if numbers is None else list(numbers)

    assert listed("1-3, 5") == [1, 2, 3, 5]
    assert listed("1-3, 5", convert_one_to_zero_index=True) == [0, 1, 2, 4]
    assert listed("0-2", convert_zero_to_one_index=True) == [1, 2, 3]
    assert listed("All", all_values=range(3)) == [0, 1, 2]
    assert listed("") is listed(None) is None
    assert listed(4) == [4]
    for text in ("0", "all", "3-1"):
        with pytest.raises(BatchRangeError, match="Batch range: "):
            process_range_list(text)
    with pytest.raises(ValueError, match="not both"):
        process_range_list("1", convert_one_to_zero_index=True, convert_zero_to_one_index=True)
