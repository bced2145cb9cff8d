"""CondensateNet: a feature pyramid on an EfficientNetV2 encoder with a mask head and a flow head."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from condensatenet.network.encoder import Encoder
from condensatenet.network.pyramid import DualResidualBlock, NormProjection, SpatialAttention
from condensatenet.network.variants import ENCODER_VARIANTS, INPUT_MULTIPLE, NetworkConfig


class CondensateNet(nn.Module):
    """The network of the published CondensateNet models; state-dict names and shapes are theirs.

    Input (B, 1, H, W) float32 in [0, 1], H and W divisible by 32. Output `{"mask": (B, 1, H, W) logits,
    "flows": (B, 2, H, W) (dy, dx)}`.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        variant = ENCODER_VARIANTS[config.encoder_variant]
        dim, style_dim = config.pyramid_dim, config.pyramid_channels[-1]
        self.encoder = Encoder(variant, config.pyramid_channels)
        self.pyramid_block4 = DualResidualBlock(dim, style_dim)
        self.pyramid_block3 = DualResidualBlock(dim, style_dim)
        self.pyramid_block2 = DualResidualBlock(dim, style_dim)
        self.pyramid_block1 = DualResidualBlock(dim, style_dim)
        self.lateral_conv4 = nn.Conv2d(config.pyramid_channels[3], dim, 1, bias=False)
        self.lateral_conv3 = nn.Conv2d(config.pyramid_channels[2], dim, 1, bias=False)
        self.lateral_conv2 = nn.Conv2d(config.pyramid_channels[1], dim, 1, bias=False)
        self.lateral_conv1 = nn.Conv2d(config.pyramid_channels[0], dim, 1, bias=False)
        self.upsample_blocks = nn.ModuleList(DualResidualBlock(dim, style_dim) for _ in range(variant.upsample_blocks))
        self.output_projection = NormProjection(dim, dim)
        self.spatial_attention = (
            SpatialAttention(config.spatial_kernel_size) if config.use_spatial_attention else nn.Identity()
        )
        self.dropout = nn.Dropout2d(config.dropout_rate)
        self.mask_head = nn.Conv2d(dim, config.num_classes, 1)
        self.flow_head = nn.Conv2d(dim, 2, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        height, width = x.shape[-2:]
        if height % INPUT_MULTIPLE or width % INPUT_MULTIPLE:
            raise ValueError(f"height and width must be divisible by {INPUT_MULTIPLE}, not {height}x{width}")
        c1, c2, c3, c4 = self.encoder(x)
        style = functional.normalize(c4.mean((2, 3)))
        lateral4 = self.lateral_conv4(c4)
        p4 = self.pyramid_block4(lateral4, lateral4, style)
        p3 = self.pyramid_block3(_resize_to(p4, c3), self.lateral_conv3(c3), style)
        p2 = self.pyramid_block2(_resize_to(p3, c2), self.lateral_conv2(c2), style)
        p1 = self.pyramid_block1(_resize_to(p2, c1), self.lateral_conv1(c1), style)
        fused = p1 + self._refine(p2, 1, style) + self._refine(p3, 2, style) + self._refine(p4, 3, style)
        fused = self.dropout(self.spatial_attention(self.output_projection(fused)))
        size = (height, width)
        return {
            "mask": functional.interpolate(self.mask_head(fused), size, mode="bilinear", align_corners=False),
            "flows": functional.interpolate(self.flow_head(fused), size, mode="bilinear", align_corners=False),
        }

    def _refine(self, x: torch.Tensor, rounds: int, style: torch.Tensor) -> torch.Tensor:
        block = cast(DualResidualBlock, self.upsample_blocks[0])
        for _ in range(rounds):
            x = block.forward_upsampled(x, style)
        return x


def _resize_to(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, target.shape[-2:], mode="nearest")
