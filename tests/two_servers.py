"""The same requests to two servers of the platform's language, and how their answers differ."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import requests
from PIL import Image

MISSING = "(missing)"
MINE, WRONG, OTHER, NONE = "mine", "wrong", "other", "none"  # whose token a request carries
HEADERS = ("girder-total-count", "content-range", "accept-ranges")

_TIMEOUT_S = 30
_ID = re.compile(r"\b[0-9a-f]{24}\b")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00")


@dataclass(frozen=True)
class Ask:
    """A request, and the status that both servers should answer.

    Attributes:
        status: what is expected.
        line: method and address below the API, where `<name>` stands for an identifier that was kept.
        body: bytes, or a text in which `<name>` is understood too.
        token: whose.
        keep: name for the identifier in the answer; that of a file's item is kept as `<name>_item`.
        headers: besides the token.
    """

    status: int
    line: str
    body: bytes | str | None = None
    token: str = MINE
    keep: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """One of the two.

    Attributes:
        api_url: its address.
        tokens: by whose they are.
        ids: identifiers by the names under which requests mention them.
    """

    api_url: str
    tokens: dict[str, str | None]
    ids: dict[str, str] = field(default_factory=dict)

    def answer(self, ask: Ask) -> requests.Response:
        """Send a request."""
        method, path = self._named(ask.line).split(" ", 1)
        token = self.tokens[ask.token]
        headers = {**ask.headers, **({"Girder-Token": token} if token else {})}
        body = self._named(ask.body).encode() if isinstance(ask.body, str) else ask.body
        response = requests.request(
            method, f"{self.api_url}/{path}", data=body, headers=headers, timeout=_TIMEOUT_S, allow_redirects=False
        )
        if ask.keep and response.ok:
            document = response.json()
            self.ids[ask.keep] = document["_id"]
            if "itemId" in document:
                self.ids[f"{ask.keep}_item"] = document["itemId"]
        return response

    def comparable(self, response: requests.Response) -> dict[str, Any]:
        """Give an answer without what is different each time: identifiers, dates."""
        kind = response.headers.get("content-type", "").partition(";")[0]
        content: Any = response.content
        if kind == "application/json" or (not response.ok and content[:1] == b"{"):
            content = self._nameless(response.json())
        elif kind in ("image/png", "image/tiff") and "accept-ranges" not in response.headers:
            content = _pixels(content)
        headers = {name: response.headers[name] for name in HEADERS if name in response.headers}
        return {"status": response.status_code, "kind": kind, "headers": headers, "content": content}

    def _named(self, text: str) -> str:
        return re.sub(r"<(\w+)>", lambda match: self.ids[match[1]], text)

    def _nameless(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._nameless(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._nameless(item) for item in value]
        if isinstance(value, str):
            names = {identifier: f"<{name}>" for name, identifier in self.ids.items()}
            return _ID.sub(lambda match: names.get(match[0], "<id>"), _DATE.sub("<date>", value))
        return value


@dataclass(frozen=True)
class TwoServers:
    """A Girder and a workbench."""

    girder: Server
    workbench: Server

    def with_own_names(self) -> TwoServers:
        """Give the same servers, to keep identifiers that nobody else sees."""
        return TwoServers(*(replace(server, ids=dict(server.ids)) for server in (self.girder, self.workbench)))

    def compare(self, ask: Ask) -> tuple[int, dict[str, tuple[Any, Any]]]:
        """Send a request to both.

        Returns:
            Girder's status, and what differs by its place in the answer: (Girder's, the workbench's).
        """
        one, other = (server.comparable(server.answer(ask)) for server in (self.girder, self.workbench))
        return one["status"], dict(_differences("", one, other))


def _pixels(image: bytes) -> Any:
    if not image:
        return []
    with Image.open(io.BytesIO(image)) as picture:
        return np.asarray(picture).tolist()


def _differences(place: str, left: Any, right: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(key for key in right if key not in left)]:
            yield from _differences(f"{place}.{key}", left.get(key, MISSING), right.get(key, MISSING))
    elif isinstance(left, Sequence) and isinstance(right, list) and len(left) == len(right):
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from _differences(f"{place}[{number}]", one, other)
    elif left != right or type(left) is not type(right):
        yield place.removeprefix("."), (left, right)
