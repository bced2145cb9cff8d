"""The labels in a Dockerfile, for workers that run without their image."""

from __future__ import annotations

import re
import shlex

_CONTINUED = re.compile(r"\\[ \t]*\n")
_COMMENT = re.compile(r"^[ \t]*#.*\n", re.MULTILINE)


def read_labels(text: str) -> dict[str, str]:
    """Return the labels that an image built from a Dockerfile has by itself; those of its base are not among them.

    Args:
        text: content of the Dockerfile, with labels written as `LABEL name="value" name="value"` without variables.

    Raises:
        ValueError: a LABEL is written otherwise; names it.
    """
    labels: dict[str, str] = {}
    for line in _CONTINUED.sub(" ", _COMMENT.sub("", text + "\n")).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction.upper() == "FROM":
            labels = {}  # of an earlier stage
        elif instruction.upper() == "LABEL":
            for word in shlex.split(rest):
                name, equals, value = word.partition("=")
                if not equals or not name or "$" in value:
                    raise ValueError(f'LABEL {word} must be written as name="value", without variables')
                labels[name] = value
    return labels
