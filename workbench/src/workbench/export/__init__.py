"""Annotations of a dataset as files for other programs: label masks, outlines and tables."""

from workbench.export.dataset import Exported, export_dataset

__all__ = ["Exported", "export_dataset"]
