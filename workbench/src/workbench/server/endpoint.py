"""What a handler sees of a request.

Handlers are plain functions that run in a pool of threads; each gets a :class:`Call` and returns what JSON can hold, or
a Starlette response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

import anyio
import anyio.from_thread
from starlette.requests import Request

from workbench.errors import InvalidDocumentError, RestError
from workbench.server.strict_json import parse_json
from workbench.store.documents import MAX_INTEGER, Document, Paging, check_id
from workbench.store.store import Store

if TYPE_CHECKING:
    from workbench.jobs.runner import JobRunner

BODY_LIMIT = 64 * 2**20  # what the platform's client sends in one chunk
_FORM_LIMIT = 2**20
_PIECE_BYTES = 2**20
_PIECE_SECONDS = 60.0  # a sender that is silent for longer has gone, though nobody said so
T = TypeVar("T")


@dataclass(frozen=True)
class RouteSpec:
    """One route: what it answers, whether one may ask without a token, and whether it reads pixels."""

    method: str
    path: str
    handler: Callable[[Call], Any]
    public: bool = False
    reads_pixels: bool = False


def route(
    method: str, path: str, handler: Callable[[Call], Any], *, public: bool = False, reads_pixels: bool = False
) -> RouteSpec:
    """Describe a route.

    Args:
        method: the HTTP method.
        path: below `/api/v1/`, such as ``folder/{id}``; fixed parts win over variable ones.
        handler: what answers.
        public: answer without a token, too; `call.user` is then None.
        reads_pixels: it may take long and much memory, so that only a few run at a time.
    """
    return RouteSpec(method, path, handler, public, reads_pixels)


class Call:
    """One request, as a handler sees it.

    Attributes:
        store: the data folder.
        runner: runs jobs; None if this server runs none.
        user: the user's document; None without a token.
        token: that the request carries, accepted or not.
        is_reading: whether it asks for something and changes nothing.
        path: the variable parts of the path.
        parameters: of the query and of a form body.
    """

    def __init__(self, request: Request, user: Document | None, token: str) -> None:
        self._request = request
        self._stream = request.stream()
        self.store: Store = request.app.state.store
        self.runner: JobRunner | None = request.app.state.runner
        self._parameters: dict[str, str] | None = None
        self.user = user
        self.token = token
        self.is_reading = request.method in ("GET", "HEAD")
        self.path: dict[str, str] = request.path_params

    # Parameters.

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the query and, as the platform has it, of a form body; reading takes no body.

        Raises:
            RestError: one is given more than once.
        """
        # Not a cached_property: before Python 3.12 those of all requests would wait for the slowest sender.
        if self._parameters is None:
            self._parameters = self._read_parameters()
        return self._parameters

    def _read_parameters(self) -> dict[str, str]:
        pairs = list(self._request.query_params.multi_items())
        is_form = (self.header("content-type") or "").partition(";")[0].strip() == "application/x-www-form-urlencoded"
        if is_form and not self.is_reading:
            pairs += parse_qsl(self.body(_FORM_LIMIT).decode("utf-8", "replace"), keep_blank_values=True)
        parameters: dict[str, str] = {}
        for name, value in pairs:
            if name in parameters:
                raise RestError(400, f'Parameter "{name}" must not be specified multiple times.')
            parameters[name] = value
        return parameters

    def text(self, name: str) -> str | None:
        """Give a parameter; None if it is missing or empty."""
        return self.parameters.get(name) or None

    def required_text(self, name: str) -> str:
        """Give a parameter that must be there.

        Raises:
            RestError: it is missing or empty.
        """
        value = self.text(name)
        if value is None:
            raise RestError(400, f'Parameter "{name}" is required.')
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """Give a parameter that must be one of a few words.

        Raises:
            RestError: it is another one, or missing without a default.
        """
        value = self.required_text(name) if default is None else self.text(name) or default
        if value not in allowed:
            raise RestError(400, f'Invalid value for {name}: "{value}". Allowed values: {", ".join(allowed)}.')
        return value

    def integer(self, name: str, default: int | None = None) -> int | None:
        """Give a whole number; the default if it is missing or empty.

        Raises:
            RestError: it is something else.
        """
        value = self.text(name)
        if value is None:
            return default
        try:
            number = int(value)
        except ValueError:
            number = None
        if number is None or abs(number) > MAX_INTEGER:
            raise RestError(400, f"Invalid value for integer parameter {name}: {value}.")
        return number

    def required_integer(self, name: str) -> int:
        """Give a whole number that must be there.

        Raises:
            RestError: it is missing or something else.
        """
        self.required_text(name)
        number = self.integer(name)
        assert number is not None
        return number

    def number(self, name: str, default: float | None = None) -> float | None:
        """Give a finite number; the default if it is missing or empty.

        Raises:
            RestError: it is something else.
        """
        value = self.text(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if number - number != 0:  # not a number, or infinite
            raise RestError(400, f"Invalid value for numeric parameter {name}: {value}.")
        return number

    def boolean(self, name: str, default: bool = False) -> bool:
        """Give a yes or no, as the platform reads it: only `true`, `on`, `1` and `yes` are a yes."""
        value = self.text(name)
        return default if value is None else value.lower().strip() in ("true", "on", "1", "yes")

    def json(self, name: str) -> Any:
        """Give a parameter that is JSON; None if it is missing or empty.

        Raises:
            RestError: it is no JSON.
        """
        value = self.text(name)
        if value is None:
            return None
        try:
            return parse_json(value)
        except ValueError as error:
            raise RestError(400, f"Parameter {name} must be valid JSON.") from error

    def paging(self, default_sort: str) -> Paging:
        """Give `limit` (50 unless told; 0 means all), `offset`, `sort` and `sortdir`.

        Raises:
            RestError: one of them means nothing.
        """
        limit, offset, direction = self.integer("limit", 50), self.integer("offset", 0), self.integer("sortdir", 1)
        assert limit is not None and offset is not None
        if limit < 0 or offset < 0:
            raise RestError(400, "Invalid value for limit or offset: they must not be negative.")
        if direction not in (1, -1):
            raise RestError(400, f'Invalid value for sortdir: "{direction}". Allowed values: 1, -1.')
        return Paging(limit, offset, (self.text("sort") or default_sort).strip(), direction == -1)

    def header(self, name: str) -> str | None:
        """Give a header, or None."""
        return self._request.headers.get(name)

    # The body.

    def pieces(self, limit: int = BODY_LIMIT) -> Iterator[bytes]:
        """Give the body piece by piece as it arrives; once only.

        Raises:
            RestError: it is larger than `limit` bytes, or stops coming.
        """
        if int(self.header("content-length") or 0) > limit:
            self._refuse_size(limit)
        total = 0
        while piece := self._wait_for_piece():
            total += len(piece)
            if total > limit:
                self._refuse_size(limit)
            yield piece

    def _wait_for_piece(self) -> bytes:
        try:
            return anyio.from_thread.run(self._next_piece)
        except TimeoutError as error:
            raise RestError(408, "The rest of the request did not arrive. Send it again.") from error

    def body(self, limit: int = BODY_LIMIT) -> bytes:
        """Give the whole body; once only.

        Raises:
            RestError: it is larger than `limit` bytes.
        """
        return b"".join(self.pieces(limit))

    def json_body(self) -> Any:
        """Give the body as JSON, strictly: no NaN.

        Raises:
            RestError: it is something else.
        """
        try:
            return parse_json(self.body().decode())
        except ValueError as error:
            raise RestError(400, "Invalid JSON passed in request body.") from error

    def json_object(self) -> Document:
        """Give the body as a JSON object.

        Raises:
            RestError: it is something else.
        """
        return self._json_of(dict, "Request body must be a JSON object.")

    def json_list(self) -> list[Any]:
        """Give the body as a JSON array.

        Raises:
            RestError: it is something else.
        """
        return self._json_of(list, "Request body must be a JSON array.")

    def metadata_body(self) -> Document:
        """Give the body as a JSON object of metadata.

        Raises:
            RestError: it is something else.
        """
        if not self.has_body():
            raise RestError(400, "JSON parameter metadata must be passed in request body.")
        return self._json_of(dict, "Parameter metadata must be a JSON object.")

    def _json_of(self, kind: type[T], refusal: str) -> T:
        value = self.json_body()
        if not isinstance(value, kind):
            raise RestError(400, refusal)
        return value

    def id_list(self) -> list[str]:
        """Give the body as a JSON array of texts.

        Raises:
            RestError: it is something else.
        """
        values = self.json_list()
        for value in values:
            if not isinstance(value, str):
                raise InvalidDocumentError(f"Invalid ObjectId: {value}")
        return values

    def has_body(self) -> bool:
        """Say whether the request has a body."""
        return self.header("content-length") not in (None, "0") or self.header("transfer-encoding") is not None

    async def _next_piece(self) -> bytes:
        """Give some of the body, about a MiB so that a thread is not called for every packet; empty at the end."""
        parts: list[bytes] = []
        size = 0
        with anyio.fail_after(_PIECE_SECONDS):
            async for part in self._stream:
                parts.append(part)
                size += len(part)
                if size >= _PIECE_BYTES:
                    break
        return b"".join(parts)

    def _refuse_size(self, limit: int) -> NoReturn:
        raise RestError(
            413, f"The request is larger than {limit // 2**20} MiB. Send it in smaller pieces; files go up in chunks."
        )

    # Documents that the path names.

    def folder(self) -> Document:
        """Give the folder of the path's `id`."""
        return self.document("folder", self.store.folders.find)

    def item(self) -> Document:
        """Give the item of the path's `id`."""
        return self.document("item", self.store.items.find)

    def file(self) -> Document:
        """Give the file of the path's `id`."""
        return self.document("file", self.store.files.find)

    def document(self, kind: str, find: Callable[[str], Document | None]) -> Document:
        """Give the document of the path's `id`.

        Raises:
            RestError: there is none.
        """
        return load(kind, self.path["id"], find)


def load(kind: str, identifier: str, find: Callable[[str], Document | None]) -> Document:
    """Give a document, or refuse as the platform does for one that a request is about.

    Raises:
        RestError: there is none.
    """
    document = find(check_id(identifier))
    if document is None:
        raise RestError(400, f"Invalid {kind} id ({identifier}).")
    return document
