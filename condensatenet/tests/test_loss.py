"""The loss: what it rewards, and that pixels nobody annotated take no part in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from condensatenet.training.loss import CondensateNetLoss, Losses

Case = tuple[dict[str, Tensor], Tensor, Tensor]


def random_case(*, requires_grad: bool = False) -> Case:
    """Network outputs and targets: two 16 x 16 patches with instances, background and unknown pixels."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(-1, 2, (2, 1, 16, 16), generator=generator).float()
    angle = torch.rand(2, 1, 16, 16, generator=generator) * 2 * np.pi
    flows = torch.cat([angle.sin(), angle.cos()], 1) * (mask == 1)
    outputs = {
        "mask": torch.randn(2, 1, 16, 16, generator=generator, requires_grad=requires_grad),
        "flows": torch.randn(2, 2, 16, 16, generator=generator, requires_grad=requires_grad),
    }
    return outputs, mask, flows


def test_unknown_pixels_have_no_gradient() -> None:
    outputs, mask, flows = random_case(requires_grad=True)
    CondensateNetLoss()(outputs, mask, flows).total.backward()
    unknown = mask == -1
    for name, output in outputs.items():
        assert output.grad is not None
        assert not output.grad[unknown.expand_as(output)].any(), name
        assert output.grad[~unknown.expand_as(output)].all(), name


def test_unknown_pixels_change_nothing() -> None:
    outputs, mask, flows = random_case()
    before = CondensateNetLoss()(outputs, mask, flows)
    changed = {
        name: torch.where(mask == -1, 50 * torch.randn_like(output) - 9, output) for name, output in outputs.items()
    }
    after = CondensateNetLoss()(changed, mask, flows)
    assert [float(value) for value in after] == [float(value) for value in before]
    assert float(CondensateNetLoss()(changed, mask.clamp(min=0), flows).total) != pytest.approx(
        float(before.total), rel=0.1
    )


def test_loss_is_that_of_the_known_pixels_alone() -> None:
    outputs, mask, flows = random_case()
    known = mask[:, 0] >= 0
    picked = {name: output.movedim(1, 0)[:, known][None, :, None] for name, output in outputs.items()}
    alone = CondensateNetLoss()(
        picked, mask[:, 0][known][None, None, None], flows.movedim(1, 0)[:, known][None, :, None]
    )
    for value, expected in zip(CondensateNetLoss()(outputs, mask, flows), alone, strict=True):
        assert float(value) == pytest.approx(float(expected), rel=1e-5)


def test_perfect_prediction_costs_almost_nothing() -> None:
    _, mask, flows = random_case()
    perfect = {"mask": torch.where(mask == 1, 20.0, -20.0), "flows": flows}
    losses = CondensateNetLoss()(perfect, mask, flows)
    assert 0 <= float(losses.total) < 1e-3
    opposite = {"mask": -perfect["mask"], "flows": -flows}
    assert float(CondensateNetLoss()(opposite, mask, flows).total) > 10


def test_each_error_costs() -> None:
    _, mask, flows = random_case()
    perfect = {"mask": torch.where(mask == 1, 20.0, -20.0), "flows": flows}

    def losses(**change: Tensor) -> Losses:
        return CondensateNetLoss()({**perfect, **change}, mask, flows)

    missed = losses(mask=torch.full_like(mask, -20.0))
    everywhere = losses(mask=torch.full_like(mask, 20.0))
    assert float(missed.mask) > 5 and float(everywhere.mask) > 5
    assert float(missed.flow) == 0
    turned = losses(flows=torch.stack([-flows[:, 1], flows[:, 0]], 1))
    assert float(turned.mask) < 1e-3
    assert 1 < float(turned.flow) <= 2  # squared length of the difference of two unit vectors at a right angle
    loud_background = losses(flows=torch.where(mask == 1, flows, torch.ones_like(flows)))
    assert 0 < float(loud_background.flow) < 0.3 * float(turned.flow)


def test_dice_counts_overlap() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    # Entropy does not tell these apart: each has as many wrong pixels.
    half, shifted = torch.zeros_like(mask), torch.zeros_like(mask)
    half[..., :2] = shifted[..., :6] = 1
    flows = torch.zeros(1, 2, 8, 8)
    small, large = (
        float(CondensateNetLoss()({"mask": 30 * (value - 0.5), "flows": flows}, mask, flows).mask)
        for value in (half, shifted)
    )
    # Dice of 2 / 4 + 2 columns and of 2 * 4 / 4 + 6 columns, with 1 added above and below.
    assert small - large == pytest.approx((2 * 32 + 1) / (32 + 48 + 1) - (2 * 16 + 1) / (16 + 32 + 1), abs=1e-3)


def test_weights_weigh_the_parts() -> None:
    outputs, mask, flows = random_case()
    plain = CondensateNetLoss()(outputs, mask, flows)
    weighted = CondensateNetLoss(3.0, 0.25)(outputs, mask, flows)
    assert float(weighted.mask) == float(plain.mask) and float(weighted.flow) == float(plain.flow)
    assert float(weighted.total) == pytest.approx(3 * float(plain.mask) + 0.25 * float(plain.flow), rel=1e-6)
    assert float(plain.total) == pytest.approx(float(plain.mask) + float(plain.flow), rel=1e-6)


def test_batch_that_nobody_annotated_is_harmless() -> None:
    outputs, mask, flows = random_case(requires_grad=True)
    losses = CondensateNetLoss()(outputs, torch.full_like(mask, -1), torch.zeros_like(flows))
    losses.total.backward()
    assert all(torch.isfinite(value) for value in losses)
    assert losses.total.item() == 0
    for output in outputs.values():
        assert output.grad is not None and not output.grad.any()


def test_batch_without_instances_teaches_background() -> None:
    outputs, mask, flows = random_case(requires_grad=True)
    losses = CondensateNetLoss()(outputs, torch.zeros_like(mask), torch.zeros_like(flows))
    losses.total.backward()
    assert all(torch.isfinite(value) for value in losses)
    gradient = outputs["mask"].grad
    assert gradient is not None and (gradient > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outputs_of_16_bits_are_summed_in_32(dtype: torch.dtype) -> None:
    outputs, mask, flows = random_case()
    large = {name: output.detach().repeat(1, 1, 20, 20).to(dtype) for name, output in outputs.items()}
    losses = CondensateNetLoss()(large, mask.repeat(1, 1, 20, 20), flows.repeat(1, 1, 20, 20))
    for value, expected in zip(losses, CondensateNetLoss()(outputs, mask, flows), strict=True):
        assert value.dtype == torch.float32
        assert float(value) == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("value", [1e4, -1e4])
def test_extreme_logits_give_a_finite_loss(value: float) -> None:
    outputs, mask, flows = random_case()
    losses = CondensateNetLoss()({**outputs, "mask": torch.full_like(mask, value)}, mask, flows)
    assert torch.isfinite(losses.total)
