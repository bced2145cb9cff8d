"""What the tests of the model store share: a server, connections to it, names, and an own cache of models."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_files import make_model
from model_store_server import CHUNK_BYTES, LARGE, Server, closed_at_the_end

import utils
from annotation_client import uploads
from annotation_client.connection import Connection, connect


@pytest.fixture(scope="module", params=["girder"])
def server(request: pytest.FixtureRequest) -> Server:
    description: dict[str, str] = request.getfixturevalue(request.param)
    return Server(description["apiUrl"], description["token"], description.get("otherToken"))


@pytest.fixture
def models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of models for each test."""
    monkeypatch.setattr(utils, "MODELS_DIR", tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are sent in small parts, so that much can happen between the parts of a small file."""
    monkeypatch.setattr(uploads, "CHUNK_BYTES", CHUNK_BYTES)


@pytest.fixture
def gc(server: Server) -> Iterator[Connection]:
    with closed_at_the_end(connect(server.api_url, server.token)) as connection:
        yield connection


@pytest.fixture
def other(server: Server) -> Iterator[Connection]:
    if server.other_token is None:
        pytest.skip("this server has a single user")
    with closed_at_the_end(connect(server.api_url, server.other_token)) as connection:
        yield connection


@pytest.fixture
def name() -> str:
    """A name that no other test has used."""
    return f"model {uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def large_models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models that are sent in several chunks."""
    folder = tmp_path_factory.mktemp("large")
    return [make_model(folder / str(seed), seed=seed, weights_bytes=LARGE) for seed in (1, 2)]
