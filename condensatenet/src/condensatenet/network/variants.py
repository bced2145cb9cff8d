"""What `config.json` says about a network: its encoder variant and the sizes of its feature pyramid.

This module holds plain values only, so that a model's description can be read without importing torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from condensatenet.errors import InvalidModelError

INPUT_MULTIPLE = 32
"""Height and width of a network input must be divisible by this."""


@dataclass(frozen=True)
class Stage:
    """A run of equal blocks of the encoder; the stride is on the first of them.

    Attributes:
        block: "edge" (3x3 expansion, 1x1 projection) or "inverted" (1x1 expansion, 3x3 depthwise, squeeze-excite, 1x1
            projection).
        repeats: number of blocks.
        stride: 1 or 2.
        expansion: width of the inner convolution as a multiple of the block's input channels.
        channels: output channels.
    """

    block: Literal["edge", "inverted"]
    repeats: int
    stride: int
    expansion: int
    channels: int


@dataclass(frozen=True)
class EncoderVariant:
    """An EfficientNetV2 encoder: stem, stages, and what of it the feature pyramid uses.

    Attributes:
        stem_channels: output channels of the 3x3 stride-2 stem.
        stages: the stages in order.
        feature_stages: indices of the four stages whose outputs (at strides 2, 4, 8, 16) feed the pyramid. Stages after
            the last of them are carried in the state dict, because published weights hold them, but never computed.
        upsample_blocks: number of refinement blocks in the state dict; only the first is ever computed.
    """

    stem_channels: int
    stages: tuple[Stage, ...]
    feature_stages: tuple[int, int, int, int]
    upsample_blocks: int

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Channels of the four features, finest first."""
        return tuple(self.stages[index].channels for index in self.feature_stages)


ENCODER_VARIANTS: dict[str, EncoderVariant] = {
    "rw_s": EncoderVariant(
        stem_channels=24,
        stages=(
            Stage("edge", repeats=2, stride=1, expansion=1, channels=24),
            Stage("edge", repeats=4, stride=2, expansion=4, channels=48),
            Stage("edge", repeats=4, stride=2, expansion=4, channels=64),
            Stage("inverted", repeats=6, stride=2, expansion=4, channels=128),
            Stage("inverted", repeats=9, stride=1, expansion=6, channels=160),
            Stage("inverted", repeats=15, stride=2, expansion=6, channels=272),
        ),
        feature_stages=(0, 1, 2, 4),
        upsample_blocks=3,
    ),
    "small": EncoderVariant(
        stem_channels=16,
        stages=(
            Stage("edge", repeats=1, stride=1, expansion=1, channels=16),
            Stage("edge", repeats=2, stride=2, expansion=4, channels=32),
            Stage("edge", repeats=2, stride=2, expansion=4, channels=48),
            Stage("inverted", repeats=3, stride=2, expansion=4, channels=80),
            Stage("inverted", repeats=3, stride=1, expansion=4, channels=96),
        ),
        feature_stages=(0, 1, 2, 4),
        upsample_blocks=1,
    ),
}
"""Encoders by the name that `config.json` gives as `encoder_variant`: `rw_s` was published, `small` is for CPUs."""


def _is_count(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


@dataclass(frozen=True)
class NetworkConfig:
    """The keys of `config.json` that fix a network's shape; names and defaults are those of the published models."""

    encoder_variant: str = "rw_s"
    pyramid_channels: tuple[int, int, int, int] = (24, 48, 64, 160)
    pyramid_dim: int = 32
    use_spatial_attention: bool = True
    spatial_kernel_size: int = 11
    dropout_rate: float = 0.15
    num_classes: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.encoder_variant, str) or self.encoder_variant not in ENCODER_VARIANTS:
            known = ", ".join(ENCODER_VARIANTS)
            raise InvalidModelError(f"unknown encoder_variant {self.encoder_variant!r}; this version knows {known}")
        if len(self.pyramid_channels) != 4 or not all(_is_count(c, 4096) for c in self.pyramid_channels):
            raise InvalidModelError(f"pyramid_channels must be four whole numbers, not {self.pyramid_channels!r}")
        if not _is_count(self.pyramid_dim, 4096):
            raise InvalidModelError(f"pyramid_dim must be a whole number of at least 1, not {self.pyramid_dim!r}")
        if not isinstance(self.use_spatial_attention, bool):
            raise InvalidModelError(f"use_spatial_attention must be true or false, not {self.use_spatial_attention!r}")
        if not _is_count(self.spatial_kernel_size, 99) or self.spatial_kernel_size % 2 == 0:
            raise InvalidModelError(f"spatial_kernel_size must be odd and at most 99, not {self.spatial_kernel_size!r}")
        if (
            isinstance(self.dropout_rate, bool)
            or not isinstance(self.dropout_rate, int | float)
            or not 0 <= self.dropout_rate < 1
        ):
            raise InvalidModelError(f"dropout_rate must be a number from 0 to below 1, not {self.dropout_rate!r}")
        if not _is_count(self.num_classes, 1):
            raise InvalidModelError(f"num_classes must be 1, not {self.num_classes!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Read the network's shape out of a parsed `config.json`; unknown keys are for others and are left alone.

        Raises:
            InvalidModelError: a value is of the wrong kind or names a network that this version does not know.
        """
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        channels = known.get("pyramid_channels", cls.pyramid_channels)
        if not isinstance(channels, list | tuple):
            raise InvalidModelError(f"pyramid_channels must be a list, not {channels!r}")
        return cls(**{**known, "pyramid_channels": tuple(channels)})

    def to_dict(self) -> dict[str, Any]:
        """Return the values as `config.json` holds them."""
        return {**asdict(self), "pyramid_channels": list(self.pyramid_channels)}


SMALL_NETWORK = NetworkConfig(encoder_variant="small", pyramid_channels=(16, 32, 48, 96), pyramid_dim=24)
"""The network that ships with this package: about a million parameters, for CPUs."""
