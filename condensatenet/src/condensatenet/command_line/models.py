"""`condensatenet download` and `condensatenet info`: what models there are."""

from __future__ import annotations

import argparse
import json
import math
import platform
from importlib.metadata import version

from condensatenet import __version__
from condensatenet.command_line.common import ProgressDisplay, Verbs, absolute_path, add_verb, check_output_folder
from condensatenet.devices import get_device
from condensatenet.errors import InvalidModelError
from condensatenet.files.download import download_model
from condensatenet.files.model_directory import WEIGHTS_FILE
from condensatenet.files.pretrained import MODELS_DIR, PRETRAINED, SHIPPED_MODEL
from condensatenet.utils import get_model_info

_DEFAULT_REPOSITORY = "rajlab/condensatenet"
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # stored with the weights, but not learnt


def add_parsers(verbs: Verbs) -> None:
    """Add both verbs."""
    download = add_verb(
        verbs,
        "download",
        run_download,
        summary="download a published model",
        description="Download a published model from the Hugging Face hub (or from the server in HF_ENDPOINT). An\n"
        "interrupted download goes on where it was when the command is given again.",
        examples="""  condensatenet download
  condensatenet download --output models/condensatenet-v1
  condensatenet download --repo-id OWNER/NAME --output models/name""",
    )
    download.add_argument(
        "--output", type=absolute_path, metavar="DIR", help="model directory (default: ~/.condensatenet/models/NAME)"
    )
    download.add_argument(
        "--repo-id", default=_DEFAULT_REPOSITORY, metavar="OWNER/NAME", help="the model's name (default: %(default)s)"
    )
    download.add_argument("--force", action="store_true", help="download again even if the model is there")

    info = add_verb(
        verbs,
        "info",
        run_info,
        summary="show versions, the device and models",
        description="Show versions, the device that is used, the downloaded models, and one model's description.",
        examples="""  condensatenet info
  condensatenet info my_model""",
    )
    info.add_argument(
        "model",
        nargs="?",
        default=PRETRAINED,
        metavar="MODEL",
        help="model directory or name of a downloaded model (default: %(default)s)",
    )


def run_download(arguments: argparse.Namespace) -> int:
    """Download a model and print where it is."""
    if arguments.output is not None:
        check_output_folder(arguments.output)
    with ProgressDisplay() as show:
        directory = download_model(arguments.output, arguments.repo_id, arguments.force, progress_callback=show)
    print(directory)
    return 0


def run_info(arguments: argparse.Namespace) -> int:
    """Print what is known about this installation and one model."""
    print(f"condensatenet {__version__}")
    print(f"Python {platform.python_version()}, numpy {version('numpy')}, {_torch_and_device()}")
    downloaded = [place.name for place in sorted(MODELS_DIR.glob("*/")) if (place / WEIGHTS_FILE).is_file()]
    print(f"Downloaded models in {MODELS_DIR}: {', '.join(downloaded) or 'none'}")
    known = get_model_info(arguments.model)
    path, size = known.pop("path"), known.pop("size_bytes")
    known.pop("auto_map", None)  # for the original package only
    print(f"Model {arguments.model}: {path}{' (comes with this package)' if path == str(SHIPPED_MODEL) else ''}")
    if size:
        print(f"  {'parameters':24} {_count_parameters(path):,} ({size / 1e6:.1f} MB)")
    else:
        print(f"  {WEIGHTS_FILE} is missing; copy or download the model again")
    for name, value in known.items():
        print(f"  {name:24} {value if isinstance(value, str) else json.dumps(value)}")
    return 0 if size else 1


def _torch_and_device() -> str:
    try:
        return f"torch {version('torch')} on {get_device()}"
    except (ImportError, OSError) as error:  # not installed, or without a library that it needs
        return f"no torch ({error}), so that nothing can be computed"


def _count_parameters(path: str) -> int:
    """Count from the file's table of tensors, which needs no torch."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(f"{path}/{WEIGHTS_FILE}", framework="numpy") as weights:
            names = [name for name in weights.keys() if not name.endswith(_STATISTICS)]  # noqa: SIM118 - no dictionary
            return sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    except SafetensorError as error:
        raise InvalidModelError(
            f"{path}/{WEIGHTS_FILE} is damaged ({error}); copy or download the model again"
        ) from error
