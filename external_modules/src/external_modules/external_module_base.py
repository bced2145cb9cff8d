"""What a node script or any other host program imports: names only, no work is done here."""

from __future__ import annotations

from external_modules.errors import (
    CallAbortedError,
    ExternalModuleError,
    InvalidModuleError,
    ModuleEnvironmentError,
    WorkerError,
    WorkerTimeoutError,
)
from external_modules.external_module import ExternalModule, try_module
from external_modules.ga3 import GA3NodeMixin
from external_modules.module_places import find_module_folder
from external_modules.node import ExternalModuleNode
from external_modules.object_labels import Calibration

__all__ = [
    "Calibration",
    "CallAbortedError",
    "ExternalModule",
    "ExternalModuleError",
    "ExternalModuleNode",
    "GA3NodeMixin",
    "InvalidModuleError",
    "ModuleEnvironmentError",
    "WorkerError",
    "WorkerTimeoutError",
    "find_module_folder",
    "try_module",
]
