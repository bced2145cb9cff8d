"""Packages that only some verbs need, and that the base does without."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from external_modules.errors import ExternalModuleError

IMAGE_PACKAGES = {"tifffile": "tifffile", "PIL": "pillow"}
PIPELINE_PACKAGES = {"yaml": "pyyaml", **IMAGE_PACKAGES}


def check_that_packages_are_there(doing: str, packages: Mapping[str, str]) -> None:
    """Check that packages can be imported, without importing them.

    Args:
        doing: what needs them, such as "Reading images".
        packages: by the name that is imported, the name that is installed.

    Raises:
        ExternalModuleError: one is missing; says how to install it.
    """
    missing = [name for module, name in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ExternalModuleError(
            f"{doing} needs {' and '.join(missing)}, which this Python does not have. Install: "
            f"python -m pip install {' '.join(missing)} (never into the Python of a microscope's software; any other "
            "Python with external_modules will do)"
        )
