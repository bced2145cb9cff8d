"""What several test files need: a small network with fixed random weights, and its model directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from thin_network import random_network

from condensatenet.files.model_directory import save_network
from condensatenet.network.model import CondensateNet


@pytest.fixture(scope="session")
def network() -> CondensateNet:
    """The thin network; not to be changed."""
    return random_network().requires_grad_(False)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the thin network's model; not to be changed."""
    path = tmp_path_factory.mktemp("models") / "thin"
    path.mkdir()
    save_network(path, random_network(), {})
    return path
