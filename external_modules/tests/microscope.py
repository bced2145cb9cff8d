"""A microscope's computer, to which a module was copied, for the tests of whole modules."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from whole_modules import REPOSITORY, share_downloads

sys.path.insert(0, str(Path(__file__).parent / "limnode"))
from ga3_host import make_prefix

from external_modules.environments.uv_program import find_uv
from external_modules.errors import ModuleEnvironmentError
from external_modules.external_module import ExternalModule

PACKAGE = REPOSITORY / "external_modules"
WITHOUT_CACHES = shutil.ignore_patterns("__pycache__", ".*_cache")


class Microscope:
    """The folder external_modules with one module, a Python for nodes, and where environments are kept.

    Args:
        folder: for all of it.
        module: the module's name.
    """

    def __init__(self, folder: Path, module: str) -> None:
        self.root = folder / "copied \u03a9" / "external modules"
        self.home = folder / "home \u00e4 with spaces"
        shutil.copytree(PACKAGE / "src", self.root / "src", ignore=WITHOUT_CACHES)
        self.module = self.root / "modules" / module
        shutil.copytree(PACKAGE / "modules" / module, self.module, ignore=WITHOUT_CACHES)
        self.program = make_prefix(folder / "prefix")
        self.home.mkdir()
        share_downloads(self.home)
        self.variables = {
            "EXTERNAL_MODULES_PATH": str(self.root),
            "EXTERNAL_MODULES_HOME": str(self.home),
            "EXTERNAL_MODULES_UV": str(find_uv(self.home).path),
            "EXTERNAL_MODULES_TORCH_BACKEND": "cpu",
            "OMP_NUM_THREADS": "1",
        }


def make_environment(module: ExternalModule) -> None:
    """Make a module's environment, or skip the test where there is no index to get its packages from."""
    try:
        module.ensure_environment()
    except ModuleEnvironmentError as error:
        if "no package index could be reached" in str(error):
            pytest.skip(f"the module's environment cannot be made: {error}")
        raise
