"""Checks of values that came from outside: plain texts, numbers, lists and objects with known keys, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Check: TypeAlias = Callable[[Any], bool]

_LONGEST_TEXT = 1000


def is_text(value: Any) -> bool:
    """A text that is not endless."""
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT


def is_boolean(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def integer(low: int, high: int) -> Check:
    """A whole number in a range, both ends included."""
    return lambda value: type(value) is int and low <= value <= high


def number(low: float, high: float) -> Check:
    """A number in a range, both ends included; NaN is in none."""
    return lambda value: type(value) in (int, float) and low <= value <= high


def one_of(*words: str) -> Check:
    """One of a few texts."""
    return lambda value: isinstance(value, str) and value in words


def list_of(check: Check, most: int) -> Check:
    """A list of at least one and at most so many."""
    return lambda value: isinstance(value, list) and 0 < len(value) <= most and all(map(check, value))


def object_of(checks: Mapping[str, Check]) -> Check:
    """An object with some of the keys."""
    return lambda value: isinstance(value, dict) and refused_key(value, checks) is None


def either(*checks: Check) -> Check:
    """Any of several kinds."""
    return lambda value: any(check(value) for check in checks)


def optional(check: Check) -> Check:
    """Something, or null."""
    return lambda value: value is None or check(value)


def refused_key(values: Mapping[Any, Any], checks: Mapping[str, Check]) -> str | None:
    """Give the first key that is unknown or has another value than it may have; None if there is none."""
    return next((str(key) for key, value in values.items() if key not in checks or not checks[key](value)), None)
