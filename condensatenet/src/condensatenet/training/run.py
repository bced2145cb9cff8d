"""What changes while a model is trained: the network, the average of its weights, the optimizer, and the best epoch.

All of it goes into the checkpoint, so that a resumed run is the same run.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from condensatenet.inference.instances import PROB_THRESHOLD
from condensatenet.inference.tiles import reduced_precision
from condensatenet.network.model import CondensateNet
from condensatenet.training.loss import CondensateNetLoss, Losses
from condensatenet.training.settings import TrainingSettings

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

_CLIP_NORM = 5.0
_AVERAGE_DECAY = 0.999
_MIN_BATCH_FOR_STATISTICS = 4  # smaller batches use the start model's normalisation statistics instead of their own
_RECORDS = ("history", "best_epoch", "best_ap", "best_threshold", "best_weights")


@dataclass
class TrainingRun:
    """The changing state of a training run.

    Attributes:
        network: the network that the optimizer changes.
        average: the running average of its weights, which is what is evaluated and saved.
        optimizer, scaler: AdamW, and the loss scaling for float16 on older GPUs.
        history: one entry of figures per finished epoch.
        best_epoch, best_ap, best_threshold, best_weights: of the epoch with the highest AP@0.5 on the held-out part.
    """

    network: CondensateNet
    average: CondensateNet
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_ap: float = -1.0
    best_threshold: float = PROB_THRESHOLD
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def start(cls, start_network: CondensateNet, settings: TrainingSettings) -> TrainingRun:
        """Begin with a copy of a network."""
        torch.manual_seed(settings.random_seed)
        # The ignored errors: torch's type information leaves `memory_format` out.
        network = copy.deepcopy(start_network).requires_grad_(True)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = copy.deepcopy(start_network)
        average = average.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
        plain = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        )
        device = next(network.parameters()).device
        needs_scaling = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
        return cls(network, average, optimizer, torch.amp.GradScaler(device.type, enabled=needs_scaling))

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the state that `state` returned when the run was interrupted."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random_state"].cpu())
        for name in _RECORDS:
            setattr(self, name, state[name])

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random_state": torch.get_rng_state(),
            **{name: getattr(self, name) for name in _RECORDS},
        }

    def begin_epoch(self, batch_size: int) -> None:
        """Put the network into training mode."""
        self.network.train()
        if batch_size < _MIN_BATCH_FOR_STATISTICS:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def step(self, criterion: CondensateNetLoss, batch: Batch, learning_rate: float) -> Losses:
        """Learn from one batch.

        A loss that is not finite changes nothing and is returned for the caller to act on; nor does a finite loss whose
        gradient is not.
        """
        device = next(self.network.parameters()).device
        image, mask, flows = (tensor.to(device, non_blocking=True) for tensor in batch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        with reduced_precision(device):
            outputs = self.network(image.contiguous(memory_format=torch.channels_last))
        losses: Losses = criterion(outputs, mask, flows)
        if torch.isfinite(losses.total):
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP_NORM)
            if self.scaler.is_enabled() or torch.isfinite(norm):  # the scaler leaves such steps out by itself
                self.scaler.step(self.optimizer)
                self.scaler.update()
        return Losses(*(value.detach() for value in losses))

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Move the average towards the network after step `step`, counted from 0 over the whole run."""
        decay = min(_AVERAGE_DECAY, (1 + step) / (10 + step))
        for kept, new in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)

    def keep_if_best(self, ap: float, threshold: float) -> None:
        """Remember the average's weights if its AP@0.5, reached at a probability threshold, is the highest so far."""
        if ap > self.best_ap:
            self.best_epoch, self.best_ap, self.best_threshold = len(self.history) + 1, ap, threshold
            self.best_weights = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}


def weights_checksum(network: CondensateNet) -> str:
    """Return the sha256 of a network's weights."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
