"""What a parameter takes, as far as its annotation says."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "Path": "text",
    "list": "a list",
    "List": "a list",
    "tuple": "a list",
    "Tuple": "a list",
    "Sequence": "a list",
    "dict": "a map",
    "Dict": "a map",
    "Mapping": "a map",
    "None": "null",
}


@dataclass(frozen=True)
class Accepted:
    """The values that a parameter takes.

    Attributes:
        kinds: such as "a number"; None for whatever there is.
        values: single values that it takes besides.
    """

    kinds: frozenset[str] | None
    values: tuple[Any, ...] = ()

    def __or__(self, other: Accepted) -> Accepted:
        if self.kinds is None or other.kinds is None:
            return ANYTHING
        return Accepted(self.kinds | other.kinds, self.values + other.values)

    def problem_of(self, value: Any) -> str:
        """Return what is wrong with a value, such as "is 'big'; it must be a number"; empty if nothing is."""
        if self.kinds is None or any(type(value) is type(one) and value == one for one in self.values):
            return ""
        if any(kind in self.kinds for kind in _kinds_of_value(value)):
            return ""
        # Other than in JSON, 1e-3 is a text in YAML.
        hint = " (YAML takes a power for a number if it is written like 1.0e-3)" if _is_power(value) else ""
        order = [kind for kind in dict.fromkeys(_KINDS.values()) if kind in self.kinds]
        choices = [json.dumps(one) for one in self.values] + order
        return f"is {json.dumps(value, ensure_ascii=False)}; it must be {' or '.join(choices)}{hint}"


ANYTHING = Accepted(None)
TEXT = Accepted(frozenset({"text"}))
WHOLE_NUMBER = Accepted(frozenset({"a whole number"}))


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.

    Attributes:
        accepted: what it takes.
        required: whether it has no default.
    """

    accepted: Accepted = ANYTHING
    required: bool = False


def listed(names: Iterable[str]) -> str:
    """Return names for a message."""
    return ", ".join(names) or "none"


def like(name: str, known: Iterable[str]) -> str:
    """Return which known name may be meant, such as " (is sigma meant?)"; empty if none is like it."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (is {close[0]} meant?)" if close else ""


def accepted_by(annotation: ast.expr | None) -> Accepted:
    """Return what an annotation allows. One that is not understood allows everything; what a list holds is not seen."""
    match annotation:
        case ast.Constant(value=None):
            return Accepted(frozenset({"null"}))
        case ast.Constant(value=str() as text):
            try:
                return accepted_by(ast.parse(text, mode="eval").body)
            except SyntaxError:
                return ANYTHING
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return Accepted(frozenset({_KINDS[name]})) if name in _KINDS else ANYTHING
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return accepted_by(left) | accepted_by(right)
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inside):
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            if name == "Literal":
                values = tuple(part.value for part in parts if isinstance(part, ast.Constant))
                return Accepted(frozenset(), values) if len(values) == len(parts) else ANYTHING
            if name in ("Optional", "Union"):
                whole = Accepted(frozenset({"null"} if name == "Optional" else ()))
                for part in parts:
                    whole |= accepted_by(part)
                return whole
            return accepted_by(ast.Name(id=name))
    return ANYTHING


def _kinds_of_value(value: Any) -> tuple[str, ...]:
    if value is None:
        return ("null",)
    if isinstance(value, int) and not isinstance(value, bool):
        return ("a whole number", "a number")
    return (_KINDS[type(value).__name__],)


def _is_power(value: Any) -> bool:
    if not isinstance(value, str) or "e" not in value.lower():
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True
