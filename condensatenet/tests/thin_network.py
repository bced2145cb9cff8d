"""An image with bumps, and a small network with fixed random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from condensatenet.inference.normalize import normalize_image
from condensatenet.inference.tiles import predict_array
from condensatenet.network.model import CondensateNet
from condensatenet.network.variants import NetworkConfig

# The encoder of the shipped model under a thinner pyramid: all its parts in a third of the time.
THIN_NETWORK = NetworkConfig(encoder_variant="small", pyramid_channels=(8, 8, 8, 16), pyramid_dim=8)


def bumpy_image(shape: tuple[int, int] = (70, 90), dtype: Any = np.uint16) -> NDArray[Any]:
    """A few bright bumps on noise, with whole-number intensities from 0 to 250."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = rng.random(shape) * 20
    for y, x in rng.random((12, 2)) * shape:
        image += 150 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 18)
    return np.clip(image, 0, 250).round().astype(dtype)


def random_network(seed: int = 4, config: NetworkConfig = THIN_NETWORK) -> CondensateNet:
    """A network in evaluation mode that calls half of the pixels of the bumpy image foreground, in many instances."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CondensateNet(config).eval()
    # Freshly initialised heads answer with almost the same number everywhere: stretch that around its middle.
    outputs = torch.from_numpy(predict_array(network, normalize_image(bumpy_image()))).flatten(1)
    scale, middle = 2 / outputs.std(1), outputs.median(1).values
    with torch.no_grad():
        for head, rows in ((network.mask_head, slice(0, 1)), (network.flow_head, slice(1, 3))):
            head.get_parameter("bias").sub_(middle[rows]).mul_(scale[rows])
            head.weight.mul_(scale[rows, None, None, None])
    return network
