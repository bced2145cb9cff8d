"""What several test files need: a store, or a server that is up for a whole file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from workbench_http import Http, served_store
from workbench_image_server import ImageServer, serve_images

from workbench.store.store import Store


@pytest.fixture(scope="module", autouse=True)
def without_container_images() -> Iterator[None]:
    """Hide the container images that this machine happens to have: they would be tools as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
        yield


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Http]]:
    """A store and a client of its server; a test makes its own folders in it."""
    with served_store(tmp_path_factory.mktemp("workbench") / "data") as both:
        yield both


@pytest.fixture
def http(served: tuple[Store, Http]) -> Http:
    """A client that is logged in."""
    return served[1]


@pytest.fixture
def stranger(served: tuple[Store, Http]) -> Iterator[Http]:
    """A client with a wrong token."""
    client = Http(served[1].port, "no-such-token")
    with client.session:
        yield client


@pytest.fixture
def folder(http: Http) -> str:
    """A new folder of the server."""
    return http.new_folder()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store without a server."""
    with closing(Store(tmp_path / "data")) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageServer]:
    """A server of images."""
    with serve_images(tmp_path_factory.mktemp("images") / "data") as running:
        yield running
