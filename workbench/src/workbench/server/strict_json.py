"""Strict JSON: how a body or a parameter is read, and how answers are written."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette.responses import Response

from workbench.errors import RestError
from workbench.store.documents import Document, json_text


def parse_json(text: str) -> Any:
    """Parse strict JSON.

    Raises:
        ValueError: it is none.
        RestError: it holds NaN or an infinity.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if "\\ud" in text or "\\uD" in text:
        # Half of a surrogate pair is no character, and nothing could store it.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise RestError(400, f'Error: "{text}" is not valid JSON.')


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return text_response(json_text(value), status, headers)


def text_response(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON that is text already."""
    return Response(text, status, headers, media_type="application/json")


def list_response(documents: list[Document], total: int) -> Response:
    """Answer with a part of a list of `total` documents."""
    return json_response(documents, headers={"Girder-Total-Count": str(total)})


def error_response(error: RestError) -> Response:
    """Answer with an error, as the platform writes it."""
    return json_response({"message": error.message, "type": error.type}, error.status)
