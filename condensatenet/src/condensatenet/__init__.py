"""CondensateNet: find biomolecular condensates in microscopy images, and learn from the corrections of a user.

>>> from condensatenet import CondensateNetPipeline
>>> instances = CondensateNetPipeline.from_pretrained().segment(image)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condensatenet.devices import get_device
    from condensatenet.files.download import download_model
    from condensatenet.inference.instances import extract_instance_properties, flow_to_instances
    from condensatenet.inference.normalize import normalize_image
    from condensatenet.inference.pipeline import CondensateNetPipeline
    from condensatenet.simulation import simulate_dataset, simulate_frame
    from condensatenet.utils import get_cache_dir, get_model_info, load_model

__version__ = "0.1.0"

_HOME_OF = {
    "CondensateNetPipeline": "condensatenet.inference.pipeline",
    "download_model": "condensatenet.files.download",
    "extract_instance_properties": "condensatenet.inference.instances",
    "flow_to_instances": "condensatenet.inference.instances",
    "get_cache_dir": "condensatenet.utils",
    "get_device": "condensatenet.devices",
    "get_model_info": "condensatenet.utils",
    "load_model": "condensatenet.utils",
    "normalize_image": "condensatenet.inference.normalize",
    "simulate_dataset": "condensatenet.simulation",
    "simulate_frame": "condensatenet.simulation",
}

__all__ = [
    "CondensateNetPipeline",
    "download_model",
    "extract_instance_properties",
    "flow_to_instances",
    "get_cache_dir",
    "get_device",
    "get_model_info",
    "load_model",
    "normalize_image",
    "simulate_dataset",
    "simulate_frame",
]


def __getattr__(name: str) -> Any:
    # Names are imported when they are first used, so that `import condensatenet` stays cheap.
    if name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
