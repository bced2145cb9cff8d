"""A microscope's computer on which cellpose_module is tested."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from whole_modules import share_downloads

sys.path.insert(0, str(Path(__file__).parent / "limnode"))
from ga3_host import make_prefix

from external_modules.environments.uv_program import find_uv

PACKAGE = Path(__file__).resolve().parents[1]
MODULE = PACKAGE / "modules" / "cellpose_module"
NOWHERE = "http://127.0.0.1:9"  # the port of a service that nobody runs
# A second worker of the module, for which Cellpose's models are at another address.
ELSEWHERE = """
import cellpose_models, worker
from module_worker import serve

def segment_elsewhere(input_image, *, address, model, progress):
    cellpose_models.ADDRESS = address
    return worker.segment(input_image, model=model, progress=progress)

if __name__ == "__main__":
    serve(segment_elsewhere)
"""


class Place:
    """A microscope's computer: the folder external_modules, a Python for nodes, and where environments are kept."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "external modules Ω"
        self.home = folder / "home ä with spaces"
        self.models = folder / "Cellpose's models"
        without_caches = shutil.ignore_patterns("__pycache__", ".*_cache")
        shutil.copytree(PACKAGE / "src", self.root / "src", ignore=without_caches)
        self.module = self.root / "modules" / MODULE.name
        shutil.copytree(MODULE, self.module, ignore=without_caches)
        (self.module / "elsewhere.py").write_text(ELSEWHERE)
        self.program = make_prefix(folder / "prefix")
        self.home.mkdir()
        share_downloads(self.home)
        self.variables = {
            "EXTERNAL_MODULES_PATH": str(self.root),
            "EXTERNAL_MODULES_HOME": str(self.home),
            "EXTERNAL_MODULES_UV": str(find_uv(self.home).path),
            "EXTERNAL_MODULES_TORCH_BACKEND": "cpu",
            "CELLPOSE_LOCAL_MODELS_PATH": str(self.models),
            "HTTPS_PROXY": NOWHERE,  # Cellpose's own address cannot be reached
            "OMP_NUM_THREADS": "1",
        }
