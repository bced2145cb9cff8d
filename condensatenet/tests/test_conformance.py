"""Held against the original network, its post-processing, and Cellpose's targets: see `conformance/README.md`."""

from __future__ import annotations

import ast
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from condensatenet.inference.instances import flow_to_instances
from condensatenet.network.model import CondensateNet
from condensatenet.network.variants import NetworkConfig
from condensatenet.training.targets import labels_to_flows

VECTORS = Path(__file__).parent / "conformance"


@pytest.fixture(scope="module")
def published() -> CondensateNet:
    """The published network's shape."""
    return CondensateNet(NetworkConfig()).eval()


@pytest.fixture(scope="module")
def published_shapes() -> dict[str, tuple[int, ...]]:
    """State-dict keys and shapes of the published weights."""
    text = (VECTORS / "state_dict_shapes.json").read_text(encoding="utf-8")
    return {name: tuple(shape) for name, shape in json.loads(text).items()}


def draw_tensor(name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """The values of one tensor of the golden network, drawn from its name alone."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    if name.endswith(("running_mean", "bias")):
        return np.float32(0.05 * rng.standard_normal(shape))
    if name.endswith("running_var") or len(shape) == 1:
        return np.float32(rng.uniform(0.8, 1.2, shape))
    return np.float32(rng.standard_normal(shape) * np.sqrt(1.5 / np.prod(shape[1:])))


def test_state_dict_has_the_published_keys_and_shapes(
    published: CondensateNet, published_shapes: dict[str, tuple[int, ...]]
) -> None:
    ours = {name: tuple(tensor.shape) for name, tensor in published.state_dict().items()}
    assert len(published_shapes) == 1077
    assert ours == published_shapes


def test_forward_pass_gives_the_originals_mask_and_flows(
    published: CondensateNet, published_shapes: dict[str, tuple[int, ...]]
) -> None:
    weights = {name: torch.from_numpy(np.asarray(draw_tensor(name, s))) for name, s in published_shapes.items()}
    published.load_state_dict(weights)
    attention = []
    handle = published.spatial_attention.attention.register_forward_hook(
        lambda *call: attention.append(call[2].numpy())
    )
    images = np.random.RandomState(0).uniform(0, 1, (2, 1, 64, 96)).astype(np.float32)
    with torch.inference_mode():
        outputs = published(torch.from_numpy(images))
    handle.remove()
    # With random weights the attention's logits reach thousands. Where one happens to lie near zero, the order of
    # summation (so: processor and number of threads) decides whether its pixel is shown; elsewhere it cannot.
    undecided = ndimage.binary_dilation(np.abs(attention[0][:, 0]) < 8, np.ones((1, 3, 3)))
    decided = ~undecided.repeat(2, 1).repeat(2, 2)
    assert decided.mean() > 0.8
    with np.load(VECTORS / "golden_forward.npz") as golden:
        for head in ("mask", "flows"):
            expected = golden[head]
            assert outputs[head].shape == expected.shape
            error = np.abs(outputs[head].numpy() - expected).max(1) / np.abs(expected).max()
            assert error[decided].max() < 1e-4
            assert error.max() < 2e-3


@pytest.mark.parametrize("case", ["dense", "large", "noflow", "empty"])
def test_exact_grouping_gives_the_originals_instances_on_every_pixel(case: str) -> None:
    with np.load(VECTORS / "golden_flow_to_instances.npz") as golden:
        probabilities, flows = (golden[f"{case}_{what}"].astype(np.float32) for what in ("mask_probs", "flows"))
        options = ast.literal_eval(str(golden[f"{case}_kwargs"]))
        expected = golden[f"{case}_instances"]
    instances = flow_to_instances(probabilities, flows, **options)
    assert instances.dtype == np.int32
    np.testing.assert_array_equal(instances, expected)


def test_targets_point_where_cellposes_do() -> None:
    with np.load(VECTORS / "golden_targets.npz") as golden:
        labels, expected = golden["labels"], golden["flows"].astype(np.float32)
    flows = labels_to_flows(labels)
    inside = labels > 0
    assert inside.sum() > 5000
    cosine = (flows * expected).sum(0)[inside] / np.maximum(np.linalg.norm(expected, axis=0)[inside], 1e-6)
    assert cosine.mean() > 0.99
    assert not flows[:, ~inside].any()
