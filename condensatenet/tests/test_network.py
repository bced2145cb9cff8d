"""The network: what is computed and what is only carried, its blocks, and what a configuration may say."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thin_network import THIN_NETWORK, random_network
from torch import nn
from torch.nn import functional

from condensatenet.errors import InvalidModelError
from condensatenet.files.model_directory import load_network, save_network
from condensatenet.network.encoder import SqueezeExcite
from condensatenet.network.model import CondensateNet
from condensatenet.network.pyramid import DualResidualBlock, SpatialAttention
from condensatenet.network.variants import ENCODER_VARIANTS, SMALL_NETWORK, NetworkConfig


def names_of_computed_modules(network: nn.Module, image: torch.Tensor) -> set[str]:
    """Names of the modules without parts of their own that a forward pass calls."""
    computed: set[str] = set()
    handles = [
        module.register_forward_hook(lambda *_, name=name: computed.add(name))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    with torch.inference_mode():
        network(image)
    for handle in handles:
        handle.remove()
    return computed


@pytest.fixture(scope="module")
def published() -> CondensateNet:
    return CondensateNet(NetworkConfig()).eval()


@pytest.fixture(scope="module")
def small() -> CondensateNet:
    return CondensateNet(SMALL_NETWORK).eval()


def test_stage_that_nothing_uses_is_carried_but_not_computed(published: CondensateNet) -> None:
    computed = names_of_computed_modules(published, torch.rand(1, 1, 32, 64))
    assert "encoder.base_encoder.blocks.4.8.conv_pwl" in computed
    assert "upsample_blocks.0.style_conv3.conv_block.conv" in computed
    assert not [name for name in computed if name.startswith(("encoder.base_encoder.blocks.5", "upsample_blocks.1"))]
    carried = sum(parameter.numel() for parameter in published.encoder.base_encoder.blocks[5].parameters())
    assert carried > 13e6


def test_carried_weights_survive_saving_and_loading(tmp_path: Path) -> None:
    network = CondensateNet(NetworkConfig(pyramid_channels=(2, 2, 2, 2), pyramid_dim=2))
    weight = network.get_parameter("encoder.base_encoder.blocks.5.14.conv_dw.weight")
    with torch.no_grad():
        weight.fill_(0.625)
    save_network(tmp_path, network, {})
    loaded, _ = load_network(tmp_path)
    assert torch.equal(loaded.get_parameter("encoder.base_encoder.blocks.5.14.conv_dw.weight"), weight)


def test_small_network_is_small_and_computes_all_it_holds(small: CondensateNet) -> None:
    computed = names_of_computed_modules(small, torch.rand(1, 1, 32, 64))
    assert 0.5e6 < sum(parameter.numel() for parameter in small.parameters()) < 1.5e6
    holding = {name.rpartition(".")[0] for name, _ in small.named_parameters()}
    # The refinement block's parts are called one by one, on either side of the upsampling.
    called_in_parts = {name for name in holding if name.endswith(("initial_conv.bn", "conv_block.bn"))}
    assert holding - called_in_parts <= computed


@pytest.mark.parametrize("which", ["published", "small"])
def test_outputs_have_the_size_of_the_input(which: str, request: pytest.FixtureRequest) -> None:
    network = request.getfixturevalue(which)
    with torch.inference_mode():
        outputs = network(torch.rand(2, 1, 64, 32))
    assert {name: tuple(tensor.shape) for name, tensor in outputs.items()} == {
        "mask": (2, 1, 64, 32),
        "flows": (2, 2, 64, 32),
    }


@pytest.mark.parametrize("size", [(64, 48), (16, 64), (65, 64)])
def test_size_that_is_not_a_multiple_of_32_is_refused(network: CondensateNet, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"divisible by 32, not {size[0]}x{size[1]}"):
        network(torch.zeros(1, 1, *size))


def test_refinement_equals_the_plain_block_on_an_upsampled_input() -> None:
    torch.manual_seed(1)
    block = DualResidualBlock(6, 5).eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    x, style = torch.randn(2, 6, 8, 12), torch.randn(2, 5)
    with torch.inference_mode():
        upsampled = functional.interpolate(x, scale_factor=2, mode="nearest")
        plain = block(upsampled, torch.zeros(2, 6, 16, 24), style)
        short = block.forward_upsampled(x, style)
    assert plain.std() > 0.1
    np.testing.assert_allclose(short, plain, rtol=1e-5, atol=1e-5)


def test_block_equals_its_formula() -> None:
    torch.manual_seed(2)
    block = DualResidualBlock(4, 3).eval()
    x, lateral, style = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.randn(1, 3)

    def convolved(part: Any, value: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(functional.silu(part.bn(value)), part.conv.weight, padding=1)

    def styled(part: Any, value: torch.Tensor) -> torch.Tensor:
        shift = style @ part.style_projection.weight.T + part.style_projection.bias
        return convolved(part.conv_block, value) + shift[:, :, None, None]

    with torch.inference_mode():
        joined = convolved(block.initial_conv, x) + lateral
        skip = functional.conv2d(block.projection.bn(x), block.projection.conv.weight)
        inner = styled(block.style_conv1, joined) + skip
        expected = styled(block.style_conv3, styled(block.style_conv2, inner)) + inner
        np.testing.assert_allclose(block(x, lateral, style), expected, atol=1e-5)


def test_style_of_the_image_reaches_every_block(network: CondensateNet) -> None:
    styles: dict[str, list[torch.Tensor]] = {}
    deepest: list[torch.Tensor] = []
    handles = [network.encoder.register_forward_hook(lambda *call: deepest.append(call[2][3]))]
    handles += [
        module.register_forward_hook(lambda *call, name=name: styles.setdefault(name, []).append(call[1][0]))
        for name, module in network.named_modules()
        if name.endswith("style_projection")
    ]
    with torch.inference_mode():
        network(torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(0)))
    for handle in handles:
        handle.remove()
    expected = deepest[0].mean((2, 3))
    expected = expected / expected.square().sum(1, keepdim=True).sqrt()
    assert len(styles) == 5 * 3
    assert len(styles["upsample_blocks.0.style_conv2.style_projection"]) == 1 + 2 + 3
    for style in (style for calls in styles.values() for style in calls):
        np.testing.assert_allclose(style, expected, atol=1e-6)


def test_gates_scale_their_input() -> None:
    torch.manual_seed(3)
    x = torch.randn(2, 8, 6, 6)
    with torch.inference_mode():
        squeezed = SqueezeExcite(8, 2)(x) / x
        attended = SpatialAttention(3)(x) / x
    assert torch.allclose(squeezed, squeezed[:, :, :1, :1].expand_as(x), atol=1e-5)  # one gate per channel
    assert torch.allclose(attended, attended[:, :1].expand_as(x), atol=1e-5)  # one gate per pixel
    for gate in (squeezed, attended):
        assert 0 < gate.min() < gate.max() < 1


def test_channels_last_gives_the_same(network: CondensateNet) -> None:
    image = torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = network(image)
        other = random_network().to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    for name, tensor in plain.items():
        assert tensor.std() > 0.1
        np.testing.assert_allclose(other[name], tensor, rtol=1e-4, atol=1e-4)


def test_dropout_acts_in_training_alone() -> None:
    network = random_network()
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    with torch.no_grad():
        assert torch.equal(network(image)["mask"], network(image)["mask"])
        for module in network.modules():
            module.training = isinstance(module, nn.Dropout2d)
        assert not torch.equal(network(image)["mask"], network(image)["mask"])


def test_network_without_attention_has_no_weights_for_it() -> None:
    config = replace(THIN_NETWORK, use_spatial_attention=False)
    names = CondensateNet(config).state_dict().keys()
    assert names == {name for name in random_network().state_dict() if "attention" not in name}


# ---- configurations


def test_configuration_survives_json() -> None:
    for config in (NetworkConfig(), SMALL_NETWORK, THIN_NETWORK):
        assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_defaults_are_the_published_ones() -> None:
    assert NetworkConfig.from_dict({}).to_dict() == {
        "encoder_variant": "rw_s",
        "pyramid_channels": [24, 48, 64, 160],
        "pyramid_dim": 32,
        "use_spatial_attention": True,
        "spatial_kernel_size": 11,
        "dropout_rate": 0.15,
        "num_classes": 1,
    }


def test_unknown_keys_are_left_alone() -> None:
    values = {"training": {"epochs": 3}, "metrics": None, "auto_map": [], "pyramid_dim": 16}
    assert NetworkConfig.from_dict(values) == NetworkConfig(pyramid_dim=16)


@pytest.mark.parametrize("variant", sorted(ENCODER_VARIANTS))
def test_variant_has_features_at_four_strides(variant: str) -> None:
    encoder, stride, strides = ENCODER_VARIANTS[variant], 2, []
    for index, stage in enumerate(encoder.stages):
        stride *= stage.stride
        if index in encoder.feature_stages:
            strides.append(stride)
    assert strides == [2, 4, 8, 16]


BAD_VALUES: list[tuple[str, Any]] = [
    ("encoder_variant", "b7"),
    ("encoder_variant", None),
    ("encoder_variant", ["rw_s"]),
    ("encoder_variant", {}),
    ("pyramid_channels", 24),
    ("pyramid_channels", "abcd"),
    ("pyramid_channels", [24, 48, 64]),
    ("pyramid_channels", [24, 48, 64, 0]),
    ("pyramid_channels", [24, 48, 64, True]),
    ("pyramid_channels", [24, 48, 64, 160.0]),
    ("pyramid_channels", [24, 48, 64, 10**9]),
    ("pyramid_dim", 0),
    ("pyramid_dim", -32),
    ("pyramid_dim", True),
    ("pyramid_dim", "32"),
    ("pyramid_dim", 32.0),
    ("pyramid_dim", None),
    ("pyramid_dim", 10**9),
    ("use_spatial_attention", 1),
    ("use_spatial_attention", "true"),
    ("spatial_kernel_size", 4),
    ("spatial_kernel_size", 101),
    ("spatial_kernel_size", True),
    ("spatial_kernel_size", [3]),
    ("dropout_rate", 1),
    ("dropout_rate", -0.1),
    ("dropout_rate", False),
    ("dropout_rate", "0.1"),
    ("dropout_rate", float("nan")),
    ("num_classes", 2),
    ("num_classes", True),
    ("num_classes", 1.0),
    ("num_classes", "1"),
]


@pytest.mark.parametrize(("key", "value"), BAD_VALUES, ids=[f"{key}={value!r}" for key, value in BAD_VALUES])
def test_wrong_value_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(InvalidModelError, match=key):
        NetworkConfig.from_dict({key: value})


def test_every_key_is_checked() -> None:
    assert {key for key, _ in BAD_VALUES} == {entry.name for entry in fields(NetworkConfig)}
