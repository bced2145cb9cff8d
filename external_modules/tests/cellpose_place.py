"""A microscope's computer on which cellpose_module is tested."""

from __future__ import annotations

from pathlib import Path

from microscope import PACKAGE, Microscope

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


class Place(Microscope):
    """One on which Cellpose's own address cannot be reached."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, MODULE.name)
        self.models = folder / "Cellpose's models"
        (self.module / "elsewhere.py").write_text(ELSEWHERE)
        self.variables |= {"CELLPOSE_LOCAL_MODELS_PATH": str(self.models), "HTTPS_PROXY": NOWHERE}
