"""Images through a pipeline, one by one; what is finished already is not done again."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from external_modules.environments.file_lock import try_lock
from external_modules.errors import ExternalModuleError
from external_modules.external_module import ExternalModule
from external_modules.image_files import TczyxImage, read_tczyx, write_labels, write_table
from external_modules.object_labels import count_objects
from external_modules.pipeline.base_functions import LOAD, SAVE
from external_modules.pipeline.definition import Pipeline, Step
from external_modules.pipeline.record import Record, digest_of_module, origin_of
from external_modules.pipeline.time_left import TimeLeft
from external_modules.plane_segmentation import segment_planes, table_of_planes

LOCK_FILE = "run_pipeline.lock"

_WEIGHT_OF_WORKER = 20  # how much longer its step takes than one of the base, roughly

Report = Callable[[float | None, str], object]


@dataclass(frozen=True)
class Outcome:
    """What became of an image.

    Attributes:
        image: the file.
        skipped: whether its results were finished already.
        objects: how many each step found that segments, by the step's name.
        error: why there are no results; None if there are.
    """

    image: Path
    skipped: bool
    objects: dict[str, int]
    error: Exception | None


def run_pipeline(
    pipeline: Pipeline, images: Sequence[Path], output: Path, module: ExternalModule, progress: Report
) -> Generator[Outcome, None, None]:
    """Run a pipeline over images; an image that fails does not keep the others from being done.

    Args:
        pipeline: what is done.
        images: files, whose results have different names.
        output: folder for the results; is made.
        module: the pipeline's module. Its environment is made if any image has to be done.
        progress: is called with a fraction of all images (0 to 1, or None: as before) and a text.

    Yields:
        What became of each image, in order.

    Raises:
        ExternalModuleError: a result would overwrite an image, another program writes to the folder, or the
            environment cannot be made.
        OSError: the folder cannot be written to.
    """
    _check_that_names_differ(pipeline, images, output)
    output.mkdir(parents=True, exist_ok=True)
    lock = try_lock(output / LOCK_FILE)
    if lock is None:
        raise ExternalModuleError(
            f"Another program runs a pipeline into {output}. Wait for it, or give another --output."
        )
    try:
        yield from _run(pipeline, images, output, module, progress)
    finally:
        lock.release(remove=True)


def _check_that_names_differ(pipeline: Pipeline, images: Sequence[Path], output: Path) -> None:
    given = {os.fspath(path).casefold() for path in images}  # some systems do not tell A from a
    owners: dict[str, Path] = {}
    for image in images:
        for name in _outputs_of(image, pipeline):
            if os.fspath(output / name).casefold() in given:
                raise ExternalModuleError(
                    f"The result {name} of {image} would overwrite an image. Give another --output."
                )
            other = owners.setdefault(name.casefold(), image)
            if other != image:
                raise ExternalModuleError(f"{other} and {image} would both have the result {name}. Rename one.")


def _run(
    pipeline: Pipeline, images: Sequence[Path], output: Path, module: ExternalModule, progress: Report
) -> Generator[Outcome, None, None]:
    record = Record(output)
    module_digest = digest_of_module(pipeline.folder)
    waiting = [image for image in images if not _is_finished(image, pipeline, module_digest, record)]
    places = {image: place for place, image in enumerate(waiting)}
    if waiting:
        module.ensure_environment(progress)
    time_left = TimeLeft([image.stat().st_size if image.is_file() else 0 for image in waiting])
    for image in images:
        if image not in places:
            yield Outcome(image, True, {}, None)
            continue

        def show(fraction: float, text: str, image: Path = image) -> None:
            done = time_left.fraction(places[image], fraction)
            left = time_left.text(done)
            progress(done, f"{image.name} ({places[image] + 1}/{len(waiting)}) {text}{', ' if left else ''}{left}")

        try:
            origin = origin_of(image, pipeline, module_digest)  # before it is read: it may change meanwhile
            record.forget(_outputs_of(image, pipeline))
            objects = _run_steps(pipeline, image, output, module, show)
            record.add(_outputs_of(image, pipeline), origin)
        except (ExternalModuleError, OSError, MemoryError) as error:
            yield Outcome(image, False, {}, error)
        else:
            yield Outcome(image, False, objects, None)


def _run_steps(
    pipeline: Pipeline, path: Path, output: Path, module: ExternalModule, progress: Callable[[float, str], None]
) -> dict[str, int]:
    image = None
    labels: dict[str, NDArray[np.int32]] = {}
    channels: dict[str, int] = {}
    weights = [_WEIGHT_OF_WORKER if step.script else 1 for step in pipeline.steps]
    for number, step in enumerate(pipeline.steps):

        def show(fraction: float, text: str, number: int = number, step: Step = step) -> None:
            done = sum(weights[:number]) + fraction * weights[number]
            progress(done / sum(weights), f"{step.name} {text}".strip())

        show(0, "")
        if step.function == LOAD and not step.script:
            image = read_tczyx(path, step.params.get("axes"))
            continue
        assert image is not None  # the pipeline was checked: a step before loads it
        if step.script:
            settings = dict(step.params)
            channels[step.name] = settings.pop("channel", 0)
            planes = _planes(image, channels[step.name], path)
            labels[step.name] = segment_planes(module, step.script, planes, settings, show)
        else:
            channel = step.params.get("channel", channels[step.labels])
            _save(step, labels[step.labels], _planes(image, channel, path), image, output / f"{path.stem}{step.ending}")
    return {name: count_objects(found) for name, found in labels.items()}


def _save(step: Step, labels: NDArray[np.int32], planes: NDArray[Any], image: TczyxImage, output: Path) -> None:
    if step.function == SAVE:
        time, _, *rest = image.pixels.shape
        write_labels(output, labels.reshape(time, 1, *rest), "TCZYX")
    else:
        write_table(output, table_of_planes(labels, planes))


def _planes(image: TczyxImage, channel: int, path: Path) -> NDArray[Any]:
    channels = image.pixels.shape[1]
    if channel >= channels:
        raise ExternalModuleError(
            f"{path} has {channels} channel{'' if channels == 1 else 's'}, counted from 0; there is no channel "
            f"{channel}."
        )
    return image.planes_of(channel)


def _is_finished(image: Path, pipeline: Pipeline, module_digest: str, record: Record) -> bool:
    try:
        return record.is_finished(_outputs_of(image, pipeline), origin_of(image, pipeline, module_digest))
    except OSError:  # is told when it is its turn
        return False


def _outputs_of(image: Path, pipeline: Pipeline) -> list[str]:
    return [f"{image.stem}{ending}" for ending in pipeline.endings]
