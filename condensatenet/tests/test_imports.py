"""Importing is cheap, and torch comes only where tensors are computed. Everything here runs in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import condensatenet
import condensatenet.training

HEAVY = ("torch", "matplotlib", "skimage", "rasterio", "deeptile", "safetensors")


def run_python(code: str, *arguments: str) -> str:
    """Output of a fresh Python process."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_takes_no_time() -> None:
    code = "import time; t = time.perf_counter(); import condensatenet; print(time.perf_counter() - t)"
    assert min(float(run_python(code)) for _ in range(4)) < 0.3


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys; import condensatenet; print(*sorted(n for n in sys.modules if '.' not in n))"
    loaded = set(run_python(code).split())
    assert "condensatenet" in loaded
    assert not loaded & {*HEAVY, "numpy", "scipy"}


@pytest.mark.parametrize(
    "module",
    [
        "condensatenet.data",
        "condensatenet.utils",
        "condensatenet.training",
        "condensatenet.inference.pipeline",
        "condensatenet.evaluation",
        "condensatenet.simulation",
        "condensatenet.figures",
        "condensatenet.files.images",
        "condensatenet.files.outlines",
        "condensatenet.command_line",
    ],
)
def test_module_without_tensors_loads_nothing_heavy(module: str) -> None:
    code = "import sys, importlib; importlib.import_module(sys.argv[1]); print(*sys.modules)"
    loaded = set(run_python(code, module).split())
    assert module in loaded
    assert not loaded & set(HEAVY)


def test_every_public_name_can_be_used() -> None:
    for name in condensatenet.__all__:
        assert getattr(condensatenet, name).__module__.startswith("condensatenet")
        assert name in dir(condensatenet)
    with pytest.raises(AttributeError, match="'condensatenet' has no attribute 'segment_image'"):
        _ = condensatenet.segment_image
    assert condensatenet.__version__


def test_names_of_the_original_package_are_there_without_torch() -> None:
    code = """
from condensatenet import CondensateNetPipeline, normalize_image, flow_to_instances, extract_instance_properties
from condensatenet import download_model, load_model, get_model_info, get_device, get_cache_dir
from condensatenet.data import labels_to_flows, labels_to_binary_mask, CondensateNetDataset, prepare_training_data
from condensatenet.utils import MODELS_DIR
import sys
print("torch" in sys.modules)
"""
    assert run_python(code) == "False\n"


def test_training_loads_torch_when_it_is_asked_for() -> None:
    assert condensatenet.training.train_model.__module__ == "condensatenet.training.loop"
    assert condensatenet.training.CondensateNetLoss.__module__ == "condensatenet.training.loss"
    with pytest.raises(AttributeError, match=r"'condensatenet\.training' has no attribute 'nothing'"):
        _ = condensatenet.training.nothing


def test_wrong_option_is_told_before_torch_is_loaded(model_path: Path) -> None:
    code = """
import json, sys
from condensatenet import CondensateNetPipeline
from condensatenet.errors import InvalidOptionError
for options in ({"treshold": 0.5}, {"min_size": -1}):
    try:
        CondensateNetPipeline.from_local(sys.argv[1], **options)
    except InvalidOptionError as error:
        print(json.dumps([str(error), "torch" in sys.modules]))
"""
    first, second = map(json.loads, run_python(code, str(model_path)).splitlines())
    assert first[0].startswith("unknown option 'treshold'; there are low_percentile") and first[1] is False
    assert "min_size" in second[0] and second[1] is False
