"""A server with models on it, as the tests of the model store see it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from model_files import contents

import utils
from annotation_client.connection import Connection
from annotation_client.uploads import download_file, upload_file

CHUNK_BYTES = 2**17
LARGE = 5 * CHUNK_BYTES + 1000  # bytes of a model that is sent in six chunks


class Server(NamedTuple):
    """A server and, where it has more than one user, two of them without rights on each other's folders."""

    api_url: str
    token: str
    other_token: str | None


@contextmanager
def closed_at_the_end(connection: Connection) -> Iterator[Connection]:
    """Close the connection's sockets."""
    try:
        yield connection
    finally:
        connection._session.close()


def items_named(gc: Connection, name: str) -> list[dict[str, Any]]:
    """The items on the server that the name of a model can hide behind."""
    folder = utils.get_condensatenet_dir(gc)
    return [item for item in gc.listItem(folder) if item["name"].startswith(f"{name}.tar.gz")]


def stored_bytes(gc: Connection, item: dict[str, Any], path: Path) -> bytes:
    (file,) = gc.listFile(item["_id"])
    download_file(gc, file["_id"], path, max_bytes=2**30)
    return path.read_bytes()


def assert_one_whole_model(gc: Connection, name: str, candidates: list[Path], tmp_path: Path) -> Path:
    """There is one item of the name, its metadata describe its content, and that is one of the models."""
    (item,) = items_named(gc, name)
    assert item["name"] == f"{name}.tar.gz"
    content = stored_bytes(gc, item, tmp_path / "content")
    assert item["meta"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert item["meta"]["size"] == len(content)
    found = contents(utils.download_girder_model(gc, name))
    (model,) = [candidate for candidate in candidates if contents(candidate) == found]
    assert item["meta"]["base_model"] == model.name
    return model


def put_archive(gc: Connection, path: Path, name: str) -> None:
    upload_file(gc, utils.get_condensatenet_dir(gc), path, name=f"{name}.tar.gz")
