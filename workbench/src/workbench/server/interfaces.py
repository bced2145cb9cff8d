"""Routes of worker interfaces: a worker stores its own, the user interface reads it."""

from __future__ import annotations

from typing import Any

from workbench.errors import RestError
from workbench.server.endpoint import Call, route
from workbench.store.documents import Document


def get_interface(call: Call) -> Any:
    """The stored interface, or null."""
    return call.store.interfaces.find(_image(call))


def store_interface(call: Call) -> Document:
    """Keeps what a worker sends; like the platform, it looks at nothing of it."""
    return call.store.interfaces.store(_image(call), call.json_body())


def _image(call: Call) -> str:
    image = call.text("image")
    if image is None:
        raise RestError(400, "Missing 'image' parameter")
    return image


ROUTES = [
    route("GET", "worker_interface", get_interface),
    route("POST", "worker_interface", store_interface),
]
