"""Training data, under the name that users of the original package expect; the code is in `condensatenet.training`."""

from condensatenet.training.dataset import CondensateNetDataset, prepare_training_data
from condensatenet.training.targets import labels_to_binary_mask, labels_to_flows

__all__ = ["CondensateNetDataset", "labels_to_binary_mask", "labels_to_flows", "prepare_training_data"]
