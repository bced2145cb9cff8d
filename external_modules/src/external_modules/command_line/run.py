"""`external-modules run`: segments image files with a module."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from external_modules.environments.store import EnvironmentStore
from external_modules.errors import ExternalModuleError, WorkerError
from external_modules.external_module import ExternalModule
from external_modules.image_files import (
    find_images,
    prepare_to_read_images,
    read_image,
    write_labels,
    write_table,
)
from external_modules.module_folder import USUAL_WORKER, ModuleFolder
from external_modules.pipeline.parameters import like, listed
from external_modules.pipeline.worker_functions import read_worker_functions
from external_modules.plane_segmentation import GIVEN_ARGUMENTS, segment_planes, table_of_planes

_SPELLED_AS_IN_PYTHON = {"None": None, "True": True, "False": False}
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
        "  external-modules run threshold_module images --output results --set sigma=2 --set threshold=None",
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
        help="a setting of the module's worker (see its README.md): a number, true, false, None, JSON, or text (write "
        "paths absolute)",
    )
    parser.add_argument("--channel", type=int, metavar="NUMBER", help="which channel, counted from 0 (default: 0)")
    add_modules_option(parser)


def run_run(arguments: argparse.Namespace) -> int:
    """Segment images and print what was found; go on with the next image when one fails."""
    prepare_to_read_images("Reading images")
    folder = usable_folder(find_entry(arguments.module, arguments, EnvironmentStore()))
    settings = dict(arguments.set)
    _check_settings(folder, settings)
    images = find_images(arguments.image, results=(_LABELS,))
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
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
    if failed and len(images) > 1:
        say(f"{failed:,} of {count_noun(len(images), 'image')} failed")
    return 1 if failed else 0


def _check_settings(folder: ModuleFolder, settings: Mapping[str, Any]) -> None:
    """Check names and values by the text of the worker's function, before its first image.

    Raises:
        ExternalModuleError: it has no such setting, or needs another, or another value.
    """
    for function in read_worker_functions(folder.path).values():
        if function.script != USUAL_WORKER:
            continue
        known = function.parameters
        for name, value in settings.items():
            if name in known:
                problem = known[name].accepted.problem_of(value)
                if problem:
                    raise ExternalModuleError(f"--set {name}: it {problem}.")
            elif not function.takes_more:
                raise ExternalModuleError(
                    f"{folder.name} has no setting {name!r}{like(name, known)}; it has {listed(known)}."
                )
        missing = [name for name, parameter in known.items() if parameter.required and name not in settings]
        if missing:
            raise ExternalModuleError(f"{folder.name} needs {listed(missing)}: --set {missing[0]}=VALUE.")


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
    if image.has_unknown_axes:
        say(f"{path.name} does not say what its {count_noun(len(planes), 'page')} are; each is segmented, as a plane")
    number, count = place
    with ProgressDisplay(f"{module.name} [{number + 1}/{count}] {path.name}") as progress:
        labels = segment_planes(module, USUAL_WORKER, planes, settings, progress)
    write_labels(output / f"{path.stem}{_LABELS}", labels.reshape(image.pixels.shape), image.axes)
    table = table_of_planes(labels, planes)
    write_table(output / f"{path.stem}{_TABLE}", table)
    return len(table["ObjectId"])


def _setting(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier() or name in GIVEN_ARGUMENTS:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with the name of a setting, such as sigma=2")
    if value in _SPELLED_AS_IN_PYTHON:  # so the modules' READMEs have it
        return name, _SPELLED_AS_IN_PYTHON[value]
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
