"""The loss: is the pixel in an instance, and does its flow point to the instance's centre."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

_BACKGROUND_FLOW_WEIGHT = 0.1


class Losses(NamedTuple):
    """Scalar tensors: the weighted total, and its mask and flow parts without their weights."""

    total: torch.Tensor
    mask: torch.Tensor
    flow: torch.Tensor


class CondensateNetLoss(nn.Module):
    """Cross entropy plus soft Dice for the mask; squared error for the flows, mostly inside instances.

    Pixels whose mask target is -1 (nobody annotated them) take no part in either.
    """

    def __init__(self, mask_weight: float = 1.0, flow_weight: float = 1.0) -> None:
        super().__init__()
        self.mask_weight = mask_weight
        self.flow_weight = flow_weight

    def forward(self, outputs: dict[str, torch.Tensor], mask_target: torch.Tensor, flow_target: torch.Tensor) -> Losses:
        """Compare network outputs with targets.

        Args:
            outputs: "mask" (B, 1, H, W) logits and "flows" (B, 2, H, W).
            mask_target: (B, 1, H, W) of 1, 0 and -1.
            flow_target: (B, 2, H, W) unit vectors in instances, zero elsewhere.
        """
        known = (mask_target >= 0).float()
        target = mask_target.clamp(min=0)
        mask = _mask_loss(outputs["mask"].float(), target, known)
        flow = _flow_loss(outputs["flows"].float(), flow_target, target, known)
        return Losses(self.mask_weight * mask + self.flow_weight * flow, mask, flow)


def _mask_loss(logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * known).sum() / known.sum().clamp(min=1)
    probability = logits.sigmoid() * known
    dice = (2 * (probability * target).sum() + 1) / (probability.sum() + (target * known).sum() + 1)
    return entropy + 1 - dice


def _flow_loss(
    flows: torch.Tensor, flow_target: torch.Tensor, target: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    weight = known * (target + _BACKGROUND_FLOW_WEIGHT * (1 - target))
    error = (flows - flow_target).square().sum(1, keepdim=True)
    return (error * weight).sum() / weight.sum().clamp(min=1)
