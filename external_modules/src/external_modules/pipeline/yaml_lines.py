"""A YAML file as values that know their line; for what is written in it nothing but numbers, texts, lists and maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from external_modules.errors import PipelineError

if TYPE_CHECKING:
    import yaml

_MOST_VALUES = 100_000  # a few short lines can stand for billions of values that refer to each other

_COLUMN = "; see that this line and those around it begin in the columns where they should"
_HINTS = (
    ("<block end>", _COLUMN),
    ("mapping values are not allowed", f"{_COLUMN}, and that a text with a colon is in quotes"),
    ("'\\t'", "; use spaces instead of tabs"),
)  # what PyYAML says, and what is usually the cause


@dataclass(frozen=True)
class Located:
    """A value of a file.

    Attributes:
        value: a number, a text, a truth value or None; a list, or a dict by text, of `Located`.
        line: counted from 1. Of a value in a map the line of its key.
    """

    value: Any
    line: int

    def plain(self) -> Any:
        """Return the value without lines."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return self.value


@dataclass
class Problems:
    """What is wrong with a file.

    Attributes:
        path: of the file.
    """

    path: Path
    _found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, text: str) -> None:
        """Remember a problem, which is told as "FILE, line LINE: TEXT."."""
        self._found.append((line, text))

    def raise_if_any(self) -> None:
        """Raise all that were found, by line.

        Raises:
            PipelineError: there is one.
        """
        if self._found:
            raise PipelineError([f"{self.path}, line {line}: {text}." for line, text in sorted(self._found)])


def read_yaml(text: str, problems: Problems) -> Located:
    """Return what a text says, with PyYAML.

    Raises:
        PipelineError: it is no YAML, or holds what is neither number, text, list nor map.
    """
    import yaml

    loader = yaml.SafeLoader("")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        root = Located(None, 1) if node is None else _Reading(loader, problems).read(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        text = error.problem or error.context or ""
        hint = next((hint for sign, hint in _HINTS if sign in text), "")
        problems.add(mark.line + 1 if mark else 1, f"this is no YAML: {text}{hint}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(line, f"this is no YAML: the character number {error.character} is not allowed")
    except (RecursionError, yaml.YAMLError):
        problems.add(1, "this cannot be read: its values are too deep in one another")
    finally:
        loader.dispose()
    problems.raise_if_any()
    return root


class _Reading:
    def __init__(self, loader: yaml.SafeLoader, problems: Problems) -> None:
        self._loader = loader
        self._problems = problems
        self._inside: set[int] = set()  # nodes that are being read
        self._count = 0

    def read(self, node: yaml.Node, line: int | None = None) -> Located:
        import yaml

        line = node.start_mark.line + 1 if line is None else line
        self._count += 1
        if id(node) in self._inside or self._count > _MOST_VALUES:
            if self._count <= _MOST_VALUES:
                self._problems.add(line, "a value refers to itself")
            elif self._count == _MOST_VALUES + 1:
                self._problems.add(line, f"the file holds more than {_MOST_VALUES:,} values")
            return Located(None, line)
        self._inside.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return Located(self._map(node), line)
            if isinstance(node, yaml.SequenceNode):
                return Located([self.read(item) for item in node.value], line)
            return Located(self._scalar(node, line), line)
        finally:
            self._inside.discard(id(node))

    def _map(self, node: yaml.MappingNode) -> dict[str, Located]:
        found: dict[str, Located] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self.read(key_node).value
            value = self.read(value_node, line)
            if not isinstance(key, str):
                self._problems.add(
                    line, f"{key!r} cannot be a name; write it in quotes if it is one (a decimal has a point: 1.5)"
                )
            elif key in found:
                self._problems.add(line, f"{key!r} is given a second time; it is in line {found[key].line} already")
            else:
                found[key] = value
        return found

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        import yaml

        try:
            value = self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that there is not
            about = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            self._problems.add(line, f"{str(node.value)!r} is not understood ({about})")
            return None
        if value is None or isinstance(value, bool | int | float | str):
            return value
        self._problems.add(line, f"{node.value!r} is taken for a {type(value).__name__}; write it in quotes")
        return None
