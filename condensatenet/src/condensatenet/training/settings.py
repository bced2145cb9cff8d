"""What a user may set for a training run, checked before anything slow starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from condensatenet.errors import InvalidOptionError


@dataclass(frozen=True)
class TrainingSettings:
    """Options of a training run.

    Attributes:
        epochs: passes over the patches, at most; training stops earlier when it no longer improves.
        learning_rate: peak learning rate of AdamW.
        weight_decay: of AdamW, on convolution and linear weights only.
        batch_size: patches per step.
        warmup_fraction: part of all steps in which the learning rate rises; it then falls as a cosine.
        mask_weight, flow_weight: weights of the two parts of the loss.
        random_seed: of the split, the patches and dropout.
    """

    epochs: int = 100
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    batch_size: int = 4
    warmup_fraction: float = 0.1
    mask_weight: float = 1.0
    flow_weight: float = 1.0
    random_seed: int = 42

    def __post_init__(self) -> None:
        _check("epochs", self.epochs, 1, 100_000)
        _check("learning_rate", self.learning_rate, 1e-9, 1.0)
        _check("weight_decay", self.weight_decay, 0.0, 1.0)
        _check("batch_size", self.batch_size, 1, 4096)
        _check("warmup_fraction", self.warmup_fraction, 0.0, 1.0)
        _check("mask_weight", self.mask_weight, 0.0, 1e6)
        _check("flow_weight", self.flow_weight, 0.0, 1e6)
        _check("random_seed", self.random_seed, 0, 2**32 - 1)
        if self.mask_weight + self.flow_weight == 0:
            raise InvalidOptionError("mask_weight and flow_weight must not both be 0")

    @property
    def patience(self) -> int:
        """Epochs without improvement on the held-out part after which training stops."""
        return max(25, self.epochs // 3)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of step `step` (from 0) of `steps`: linear warm-up, then a cosine down to zero."""
        warmup = max(1, round(self.warmup_fraction * steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step + 1 - warmup) / max(1, steps - warmup)))


def _check(name: str, value: float, smallest: float, largest: float) -> None:
    whole = isinstance(smallest, int)
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not smallest <= value <= largest:
        raise InvalidOptionError(
            f"{name} must be a {'whole ' if whole else ''}number from {smallest} to {largest}, not {value!r}"
        )
