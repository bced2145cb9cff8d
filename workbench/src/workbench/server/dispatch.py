"""From Starlette's request to a handler and back: who asks, in which thread, and what an error becomes."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from workbench.errors import RestError
from workbench.server.endpoint import Call, RouteSpec
from workbench.server.strict_json import error_response, json_response
from workbench.store.store import Store

_log = logging.getLogger(__name__)
# Of about 40 threads that answer. The others are left to requests that take moments: the page, and jobs.
_PIXEL_THREADS = 8
_BODY_THREADS = 16


class Limits:
    """How many requests of the kinds that take long are answered at a time; the others wait, without a thread."""

    def __init__(self) -> None:
        self._pixels = anyio.CapacityLimiter(_PIXEL_THREADS)
        self._bodies = anyio.CapacityLimiter(_BODY_THREADS)

    def of(self, spec: RouteSpec, call: Call) -> anyio.CapacityLimiter | None:
        """Give the limit of a request; None for the one of all others."""
        if not call.is_reading and call.has_body():  # its sender may be slow, or silent
            return self._bodies
        return self._pixels if spec.reads_pixels else None


def endpoint(spec: RouteSpec) -> Callable[[Request], Awaitable[Response]]:
    """Make what Starlette calls for a route."""

    def run(call: Call) -> Response:
        if call.user is None and not spec.public:
            raise _not_logged_in(spec, call)
        _ = call.parameters  # refuses those that are given twice, whether the handler reads them or not
        answer = spec.handler(call)
        return answer if isinstance(answer, Response) else json_response(answer)

    async def answer(request: Request) -> Response:
        store: Store = request.app.state.store
        # The query wins over the header, as on the platform.
        token = request.query_params.get("token") or request.headers.get("Girder-Token") or ""
        call = Call(request, store.users.user if store.tokens.accept(token) else None, token)
        limits: Limits = request.app.state.limits
        try:
            # Who is not logged in is refused without a look at the body.
            limiter = None if call.user is None else limits.of(spec, call)
            return await anyio.to_thread.run_sync(run, call, limiter=limiter)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception as error:
            known = _as_rest_error(error)
            if known.status == 500:
                _log.exception("%s %s failed", request.method, request.url.path)
            # What is left of the body is read and dropped by uvicorn, so the sender gets to see this.
            return error_response(known)

    return answer


def _as_rest_error(error: Exception) -> RestError:
    if isinstance(error, RestError):
        return error
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
    if full or (isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error)):
        return RestError(507, "The disk of the workbench is full; nothing was stored. Free some space and try again.")
    return RestError(500, "An unexpected error occurred on the server.", "internal")


def _not_logged_in(spec: RouteSpec, call: Call) -> RestError:
    """Give the platform's answer: reading is refused for the folder that something lies in."""
    kind = spec.path.partition("/")[0]
    if spec.method != "GET" or kind not in _FOLDER_OF:
        return RestError(401, "You must be logged in.", "access")
    if "id" in call.path:
        folder_id = _FOLDER_OF[kind](call)
    else:
        kind = call.text("parentType") or "folder"
        named = (call.text(name) for name in ("datasetId", "folderId", "parentId"))
        folder_id = next((value for value in named if value is not None), "unknown")
    kind = "user" if kind == "user" else "folder"
    return RestError(401, f"Read access denied for {kind} {folder_id} (user None).", "access")


def _folder_of_file(call: Call) -> str:
    return str(call.store.items.load(call.file()["itemId"])["folderId"])


_FOLDER_OF: dict[str, Callable[[Call], str]] = {
    "folder": lambda call: call.folder()["_id"],
    "item": lambda call: call.item()["folderId"],
    "file": _folder_of_file,
    "upenn_annotation": lambda call: call.document("upenn_annotation", call.store.annotations.find)["datasetId"],
    "annotation_connection": lambda call: call.document("annotation_connection", call.store.connections.find)[
        "datasetId"
    ],
}
