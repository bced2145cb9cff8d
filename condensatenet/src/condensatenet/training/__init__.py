"""Training: from annotated images and a start model to a model directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from condensatenet.training.dataset import CondensateNetDataset, prepare_training_data
from condensatenet.training.targets import labels_to_binary_mask, labels_to_flows

if TYPE_CHECKING:
    from condensatenet.training.loop import train_model
    from condensatenet.training.loss import CondensateNetLoss

__all__ = [
    "CondensateNetDataset",
    "CondensateNetLoss",
    "labels_to_binary_mask",
    "labels_to_flows",
    "prepare_training_data",
    "train_model",
]


def __getattr__(name: str) -> Any:
    # Imported when asked for, because these two bring torch.
    if name == "train_model":
        from condensatenet.training.loop import train_model

        return train_model
    if name == "CondensateNetLoss":
        from condensatenet.training.loss import CondensateNetLoss

        return CondensateNetLoss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
