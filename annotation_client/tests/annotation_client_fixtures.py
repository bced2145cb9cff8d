"""Fixtures of several test files, which name those that they use: `server = fixtures.server`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from file_server import FileServer
from scripted_server import ScriptedServer

from annotation_client.annotations import UPennContrastAnnotationClient


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
def client(server: ScriptedServer) -> UPennContrastAnnotationClient:
    return UPennContrastAnnotationClient(server.url, "secret", connection=server.connect())


@pytest.fixture
def files(server: ScriptedServer) -> FileServer:
    return FileServer(server)
