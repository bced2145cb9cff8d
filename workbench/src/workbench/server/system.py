"""What a client asks about the server itself."""

from __future__ import annotations

from workbench.server.endpoint import Call, route

RELEASE = "5.0.21"  # of the platform's server whose behaviour this one has


def get_version(_: Call) -> dict[str, str]:
    """Clients read it before they upload."""
    return {"release": RELEASE}


ROUTES = [route("GET", "system/version", get_version, public=True)]
