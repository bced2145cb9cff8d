"""What the tests of training share: a sample, its batch, and weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from condensatenet.network.model import CondensateNet
from condensatenet.training.dataset import AnnotatedImage, CondensateNetDataset, annotate
from condensatenet.training.run import Batch


def disks(count: int = 6, shape: tuple[int, int] = (64, 64)) -> AnnotatedImage:
    """Bright disks on a dark ground, in the order of their numbers."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for number in range(count):
        y, x = 10 + 20 * (number // 3), 10 + 20 * (number % 3)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < 36] = number + 1
    return annotate((labels > 0) * np.uint8(200), labels)


def batch_of(dataset: CondensateNetDataset, count: int = 4) -> Batch:
    images, masks, flows = zip(*(dataset[index] for index in range(count)), strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)), torch.from_numpy(np.stack(flows))


@pytest.fixture
def batch() -> Batch:
    sample = disks()
    return batch_of(CondensateNetDataset.from_samples([sample], patch_size=32, augment=True, seed=0))


def weights(network: CondensateNet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())
