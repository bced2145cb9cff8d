"""The web page: its files, which hold no data, so that they need no token. Their paths begin at the server's root."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePath

from starlette.responses import Response

from workbench.errors import RestError
from workbench.server.endpoint import Call, route

_FOLDER = Path(__file__).resolve().parents[1] / "page"
# Named here, because what a system says about extensions can be changed by other programs.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    # Nothing but this server's own files is run, shown or asked, whatever text from data or tools ends up in the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",  # asks again each time, and is told that nothing changed
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def get_page(call: Call) -> Response:
    """The page itself."""
    return _answer(call, "index.html")


def get_file(call: Call) -> Response:
    """A style, a script or a picture of the page."""
    return _answer(call, call.path["name"])


def _answer(call: Call, name: str) -> Response:
    path = _FOLDER / name
    kind = _TYPES.get(PurePath(name).suffix)
    if kind is None or path.parent != _FOLDER or not path.is_file():
        raise RestError(404, f"The page has no file {name!r}.")
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}
    if tag in (call.header("if-none-match") or ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=kind)


ROUTES = [
    route("GET", "", get_page, public=True),
    route("GET", "page/{name}", get_file, public=True),
]
