"""The application: every route under `/api/v1`, the page beside them, and who may ask at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from workbench.errors import RestError
from workbench.server import annotations as annotation_routes
from workbench.server import connections, files, folders, interfaces, items, jobs, page, system, tiles, users
from workbench.server.dispatch import Limits, endpoint
from workbench.server.endpoint import RouteSpec
from workbench.server.strict_json import error_response
from workbench.store.store import Store

if TYPE_CHECKING:
    from workbench.jobs.runner import JobRunner

API = "/api/v1"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_MODULES = (annotation_routes, connections, files, folders, interfaces, items, jobs, system, tiles, users)


def create_app(
    store: Store, *, token: str, runner: JobRunner | None = None, hosts: frozenset[str] | None = LOOPBACK_NAMES
) -> Starlette:
    """Make the server's application.

    Args:
        store: the data folder.
        token: what requests must carry; running jobs have tokens of their own in `store.tokens`.
        runner: runs jobs.
        hosts: names by which the server may be called; None for any. A server that is bound to loopback keeps the
            default, so that no web page can reach it through a name of its own that points here.
    """
    store.tokens.add(token)
    specs = sorted((spec for module in _MODULES for spec in module.ROUTES), key=lambda spec: spec.path)
    app = Starlette(
        routes=[
            # Sorted, so that fixed parts come before variable ones: "{" is behind every letter.
            *(Route(f"{API}/{spec.path}", endpoint(spec), methods=[spec.method]) for spec in specs),
            *(Route(f"/{spec.path}", endpoint(spec), methods=[spec.method]) for spec in page.ROUTES),
        ],
        exception_handlers={404: _no_route(specs), 405: _no_route(specs)},
    )
    app.state.store = store
    app.state.tokens = store.tokens
    app.state.runner = runner
    app.state.limits = Limits()
    app.router.redirect_slashes = False
    app.add_middleware(_PlainPaths)
    app.add_middleware(_KnownHosts, hosts=hosts)
    return app


class _PlainPaths:
    """Drops empty parts of the path: the platform's client asks for `/api/v1//upenn_annotation/`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = "/" + "/".join(part for part in scope["path"].split("/") if part)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


class _KnownHosts:
    """Refuses requests that call the server by a name that is not its own."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._hosts is not None:
            host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
            if _host_name(host) not in self._hosts:
                message = f"This server does not answer to the name {host!r}. Use http://127.0.0.1 with its port."
                await error_response(RestError(403, message, "access"))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host_name(host: str) -> str:
    """Give the name of a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _no_route(specs: Iterable[RouteSpec]) -> Callable[[Request, Exception], Awaitable[Response]]:
    known = {spec.path.partition("/")[0] for spec in specs}

    async def answer(request: Request, _: Exception) -> Response:
        path = request.url.path.removeprefix(API).strip("/")
        first, *rest = path.split("/", 1)
        # The platform calls an unknown path below a known one a bad request.
        status, below = 400 if first in known else 404, "".join(rest)
        return error_response(RestError(status, f'No matching route for "{request.method} {below}"'))

    return answer
