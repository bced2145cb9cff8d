"""The encoder: EfficientNetV2 (Tan and Le 2021, arXiv 2104.00298) as a feature extractor.

Module names repeat those of the published state dict, so they follow its naming and not ours.
"""

from __future__ import annotations

import torch
from torch import nn

from condensatenet.network.variants import EncoderVariant, Stage

_SQUEEZE_RATIO = 0.25


class EdgeResidual(nn.Module):
    """3x3 convolution that expands, 1x1 that projects, and a skip where the shape allows it."""

    def __init__(self, in_channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = in_channels * stage.expansion
        self.conv_exp = nn.Conv2d(in_channels, inner, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.act = nn.SiLU(inplace=True)
        self.conv_pwl = nn.Conv2d(inner, stage.channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stage.channels)
        self.has_skip = stride == 1 and in_channels == stage.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv_pwl(self.act(self.bn1(self.conv_exp(x)))))
        return out + x if self.has_skip else out


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that is computed from their means over the whole input."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.act = nn.SiLU(inplace=True)
        self.conv_expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.conv_expand(self.act(self.conv_reduce(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class InvertedResidual(nn.Module):
    """1x1 convolution that expands, 3x3 depthwise, squeeze-excite, 1x1 that projects; a skip where shapes allow it."""

    def __init__(self, in_channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = in_channels * stage.expansion
        self.conv_pw = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.act = nn.SiLU(inplace=True)
        self.conv_dw = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.se = SqueezeExcite(inner, round(in_channels * _SQUEEZE_RATIO))
        self.conv_pwl = nn.Conv2d(inner, stage.channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(stage.channels)
        self.has_skip = stride == 1 and in_channels == stage.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.act(self.bn1(self.conv_pw(x)))
        out = self.se(self.act(self.bn2(self.conv_dw(out))))
        out = self.bn3(self.conv_pwl(out))
        return out + x if self.has_skip else out


class EfficientNetFeatures(nn.Module):
    """Stem and stages; returns the outputs of the variant's four feature stages.

    Stages after the last feature stage hold weights and are not computed: nothing uses their output.
    """

    def __init__(self, variant: EncoderVariant) -> None:
        super().__init__()
        self.feature_stages = variant.feature_stages
        self.conv_stem = nn.Conv2d(1, variant.stem_channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(variant.stem_channels)
        self.act = nn.SiLU(inplace=True)
        blocks = []
        channels = variant.stem_channels
        for stage in variant.stages:
            blocks.append(_build_stage(channels, stage))
            channels = stage.channels
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.act(self.bn1(self.conv_stem(x)))
        features = []
        for index in range(self.feature_stages[-1] + 1):
            x = self.blocks[index](x)
            if index in self.feature_stages:
                features.append(x)
        return features


def _build_stage(in_channels: int, stage: Stage) -> nn.Sequential:
    block = EdgeResidual if stage.block == "edge" else InvertedResidual
    first = block(in_channels, stage, stage.stride)
    return nn.Sequential(first, *(block(stage.channels, stage, 1) for _ in range(stage.repeats - 1)))


class Encoder(nn.Module):
    """Features at strides 2, 4, 8 and 16, each adapted by a 1x1 convolution to the pyramid's channels."""

    def __init__(self, variant: EncoderVariant, pyramid_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.base_encoder = EfficientNetFeatures(variant)
        self.channel_adapters = nn.ModuleList(
            nn.Sequential(nn.Conv2d(feature, adapted, 1, bias=False), nn.BatchNorm2d(adapted))
            for feature, adapted in zip(variant.feature_channels, pyramid_channels, strict=True)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = self.base_encoder(x)
        return [adapter(feature) for adapter, feature in zip(self.channel_adapters, features, strict=True)]
