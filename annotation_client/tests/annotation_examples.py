"""Annotations for tests, and a route that saves them as the platform does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scripted_server import Request, error

DATASET = "66aa00000000000000000001"
MULTIPLE = "/upenn_annotation/multiple"


def polygon(number: int = 0, **changes: Any) -> dict[str, Any]:
    corners = [(0, 0), (0, 4), (4.5, 4)]
    return {
        "coordinates": [{"x": x + number, "y": y, "z": 0} for x, y in corners],
        "tags": ["condensate"],
        "channel": 0,
        "location": {"XY": 0, "Z": 0, "Time": 0},
        "shape": "polygon",
        "datasetId": DATASET,
    } | changes


class Store:
    """Saves all annotations of a request or nothing, as the platform does."""

    def __init__(self, refuse: Callable[[dict[str, Any]], str | None] = lambda annotation: None) -> None:
        self.saved: list[dict[str, Any]] = []
        self.refuse = refuse

    def __call__(self, request: Request) -> Any:
        reason = next((reason for annotation in request.json if (reason := self.refuse(annotation))), None)
        if reason:
            return error(400, reason, "validation")
        new = [{**annotation, "_id": f"{len(self.saved) + n:024x}"} for n, annotation in enumerate(request.json)]
        self.saved += new
        return new


def by_first_x(*refused: int) -> Callable[[dict[str, Any]], str | None]:
    return lambda annotation: "data is bad" if annotation["coordinates"][0]["x"] in refused else None
