"""Who is asking."""

from __future__ import annotations

from workbench.server.endpoint import Call, route
from workbench.store.documents import Document


def get_me(call: Call) -> Document | None:
    """The user, or null without a token: not an error."""
    return call.user


def get_user(call: Call) -> Document:
    """A user of an identifier."""
    return call.document("user", call.store.users.find)


ROUTES = [
    route("GET", "user/me", get_me, public=True),
    route("GET", "user/{id}", get_user),
]
