"""What an import of the package costs and brings along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import annotation_utilities

MODULES = sorted(path.stem for path in Path(annotation_utilities.__file__).parent.glob("*.py"))

PROBE = """
import importlib, sys, time
start = time.process_time()
for name in {modules}:
    importlib.import_module("annotation_utilities" if name == "__init__" else f"annotation_utilities.{{name}}")
spent = time.process_time() - start
heavy = {{"numpy", "shapely", "rasterio", "matplotlib", "torch", "requests", "girder_client"}} & set(sys.modules)
strangers = {{"annotation_client", "worker_client", "condensatenet", "workbench"}} & set(sys.modules)
print(spent < 0.2, sorted(heavy), sorted(strangers))
"""


def test_imports_are_cheap_and_bring_nobody_along() -> None:
    assert len(MODULES) > 10
    command = [sys.executable, "-c", PROBE.format(modules=MODULES)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True [] []\n"


def test_nothing_is_printed() -> None:
    folder = Path(annotation_utilities.__file__).parent
    assert not [path.name for path in folder.glob("*.py") if "print(" in path.read_text(encoding="utf-8")]
