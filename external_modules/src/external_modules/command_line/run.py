"""`external-modules run`: segments image files with a module."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from external_modules.command_line.common import (
    ProgressDisplay,
    Verbs,
    absolute_path,
    add_modules_option,
    add_verb,
    complain,
    count_noun,
    find_entry,
    one_line,
    say,
    usable_folder,
)
from external_modules.command_line.image_files import (
    ENDINGS,
    check_that_images_can_be_read,
    read_image,
    write_labels,
    write_table,
)
from external_modules.environments import EnvironmentStore
from external_modules.errors import ExternalModuleError, WorkerError
from external_modules.external_module import ExternalModule
from external_modules.ga3 import GA3NodeMixin

WORKER = "worker.py"

_LABELS, _TABLE = "_labels.tif", "_objects.csv"


def add_parsers(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "run",
        run_run,
        summary="segment image files",
        description="Segment TIFF and PNG files. For each image NAME the folder gets NAME_labels.tif (int32, a\n"
        "pixel's value is the number of its object) and NAME_objects.csv (a row for each object, in pixels).\n"
        "Every plane of a stack is segmented by itself; objects are numbered through from plane to plane.",
        examples="  external-modules run threshold_module image.tif --output results\n"
        "  external-modules run threshold_module images --output results --set sigma=2 --set threshold=null",
    )
    parser.add_argument("module", metavar="MODULE", help="name or path of a module")
    parser.add_argument(
        "image", nargs="+", type=absolute_path, metavar="IMAGE", help="TIFF or PNG file, or a folder of them"
    )
    parser.add_argument("--output", type=absolute_path, required=True, metavar="FOLDER", help="for results; is made")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="a setting of the module's worker: a number, true, false, null, JSON, or text (write paths absolute)",
    )
    parser.add_argument("--channel", type=int, metavar="NUMBER", help="which channel, counted from 0 (default: 0)")
    add_modules_option(parser)


def run_run(arguments: argparse.Namespace) -> int:
    """Segment images and print what was found; go on with the next image when one fails."""
    check_that_images_can_be_read()
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it would warn of comes as an error
    folder = usable_folder(find_entry(arguments.module, arguments, EnvironmentStore()))
    images = _find_images(arguments.image)
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    settings = dict(arguments.set)
    failed = 0
    with ExternalModule(folder.path) as module:
        with ProgressDisplay(module.name) as progress:
            module.ensure_environment(progress)
        for number, path in enumerate(images):
            try:
                found = _segment(module, path, output, arguments.channel, settings, (number, len(images)))
            except ExternalModuleError as error:
                failed += 1
                log = f" (more in {module.log_file})" if isinstance(error, WorkerError) else ""
                about = "" if str(path) in one_line(error) else f"{path}: "
                complain(f"{about}{one_line(error)}{log}")
            else:
                print(f"{path.name}: {count_noun(found, 'object')}, {output / path.stem}{_LABELS}", flush=True)
    return 1 if failed else 0


def labels_of(result: Any) -> Any:
    """Return the labels in what a worker returned: an array, or a dict that has one as "labels".

    Raises:
        ExternalModuleError: there are none.
    """
    labels = result.get("labels") if isinstance(result, Mapping) else result
    if not isinstance(labels, np.ndarray):
        raise ExternalModuleError(
            f"The worker returned no labels but {type(result).__name__}. It must return an array, or a dict that has "
            'one as "labels".'
        )
    return labels


def _segment(
    module: ExternalModule,
    path: Path,
    output: Path,
    channel: int | None,
    settings: Mapping[str, Any],
    place: tuple[int, int],
) -> int:
    image = read_image(path, channel or 0)
    if channel is None and image.channels > 1:
        say(f"{path.name} has {image.channels} channels; the first is used (--channel NUMBER for another)")
    planes = image.pixels.reshape(-1, *image.pixels.shape[-2:])
    number, count = place
    tools = GA3NodeMixin()
    labels: NDArray[np.int32] = np.zeros(planes.shape, np.int32)
    rows = []
    with ProgressDisplay(f"{module.name} [{number + 1}/{count}] {path.name}") as progress:
        for z, plane in enumerate(planes):

            def show(fraction: float, text: str, z: int = z) -> None:
                progress((z + fraction) / len(planes), text)

            result = module.call(WORKER, timeout=None, progress=show, input_image=plane, **settings)
            found = tools.to_object_labels(labels_of(result))
            if found.shape != plane.shape:
                raise ExternalModuleError(f"The worker returned labels of shape {found.shape} for {plane.shape}.")
            highest = int(labels.max(initial=0))
            labels[z] = tools.to_object_labels(np.where(found > 0, found.astype(np.int64) + highest, 0))
            columns = tools.object_table(labels[z], plane)
            rows.append({"Plane": np.full(len(columns["ObjectId"]), z), **columns})
    write_labels(output / f"{path.stem}{_LABELS}", labels.reshape(image.pixels.shape), image.axes)
    table = {title: np.concatenate([part[title] for part in rows]) for title in rows[0]}
    write_table(output / f"{path.stem}{_TABLE}", table)
    return len(table["ObjectId"])


def _find_images(given: Sequence[Path]) -> list[Path]:
    """Return the files, those of folders in order, each with results of its own.

    Raises:
        ExternalModuleError: one is not there, is no image, or would overwrite another's results.
    """
    images: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(
                file
                for file in path.iterdir()
                if file.suffix.lower() in ENDINGS and file.is_file() and not file.name.endswith(_LABELS)
            )
            if not inside:
                raise ExternalModuleError(f"The folder {path} holds no TIFF or PNG file.")
            images += inside
        elif not path.is_file():
            raise ExternalModuleError(f"There is no file {path}.")
        elif path.suffix.lower() not in ENDINGS:
            raise ExternalModuleError(f"{path} is neither TIFF nor PNG: its name must end with {', '.join(ENDINGS)}.")
        else:
            images.append(path)
    images = list(dict.fromkeys(images))
    owners: dict[str, Path] = {}
    for path in images:
        other = owners.setdefault(path.stem.casefold(), path)
        if other != path:
            raise ExternalModuleError(
                f"{other} and {path} would have the same results {path.stem}{_LABELS}. Rename one, or run them one "
                "after the other with an --output of their own."
            )
    return images


def _setting(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier() or name in ("input_image", "progress"):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with the name of a setting, such as sigma=2")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
