"""Blocks of the feature pyramid: pre-activated convolutions that are shifted by the style of the image.

The style vector follows Cellpose (Stringer et al. 2021): what the whole image looks like, added as a bias per channel.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class ConvBlock(nn.Module):
    """BatchNorm, SiLU, convolution without bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        return functional.silu(self.bn(x), inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.activate(x))


class StyleConv(nn.Module):
    """A `ConvBlock` whose output is shifted per channel by the projected style."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.conv_block = ConvBlock(channels, channels)
        self.style_projection = nn.Linear(style_dim, channels)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return self.conv_block(x) + self.style_projection(style)[:, :, None, None]


class NormProjection(nn.Module):
    """BatchNorm and a 1x1 convolution without bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.bn(x))


class DualResidualBlock(nn.Module):
    """Two residual steps: the input joined with a lateral feature, then refined under the style."""

    def __init__(self, channels: int, style_dim: int) -> None:
        super().__init__()
        self.initial_conv = ConvBlock(channels, channels)
        self.projection = NormProjection(channels, channels)
        self.style_conv1 = StyleConv(channels, style_dim)
        self.style_conv2 = StyleConv(channels, style_dim)
        self.style_conv3 = StyleConv(channels, style_dim)

    def forward(self, x: torch.Tensor, lateral: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return self._refine(self.initial_conv(x) + lateral, self.projection(x), style)

    def forward_upsampled(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """The block on `x` upsampled twice by nearest neighbour, with no lateral feature.

        What acts on single pixels (BatchNorm, SiLU, 1x1 convolution) commutes with that upsampling, so it is computed
        before it, on a quarter of the pixels.
        """
        joined = self.initial_conv.conv(_upsample(self.initial_conv.activate(x)))
        return self._refine(joined, _upsample(self.projection(x)), style)

    def _refine(self, joined: torch.Tensor, skip: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        inner = self.style_conv1(joined, style) + skip
        return self.style_conv3(self.style_conv2(inner, style), style) + inner


class SpatialAttention(nn.Module):
    """Pixels scaled by a gate that is computed from the mean and the maximum over their channels."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.attention(summary).sigmoid()


def _upsample(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")
