"""Every error that this package raises on purpose; the text of each says what to do next."""

from __future__ import annotations


class AnnotationError(ValueError):
    """Base of all errors below, so that a caller can catch them together."""


class InterfaceValueError(AnnotationError):
    """A value that the user entered in a tool's form cannot be used.

    Attributes:
        field: name of the form's field, with which the text begins.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class BatchRangeError(InterfaceValueError):
    """The positions that a batch field asks for are not understood or not in the dataset."""


class InvalidGeometryError(AnnotationError):
    """The vertices of an annotation enclose no area, or are no vertices at all."""
