"""What several test files need: a small network with fixed random weights, on disk and in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from condensatenet.files.model_directory import save_network
from condensatenet.network.model import CondensateNet
from condensatenet.network.variants import NetworkConfig

# The encoder of the shipped model under a thinner pyramid: all its parts in a third of the time.
THIN_NETWORK = NetworkConfig(encoder_variant="small", pyramid_channels=(8, 8, 8, 16), pyramid_dim=8)


def random_network(seed: int = 0, config: NetworkConfig = THIN_NETWORK) -> CondensateNet:
    """A network in evaluation mode whose mask logits and flows are of the size that a trained network's have."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CondensateNet(config)
    with torch.no_grad():
        # Freshly initialised heads answer with almost the same number everywhere.
        network.mask_head.weight.mul_(100)
        network.flow_head.weight.mul_(40)
    return network.eval()


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
