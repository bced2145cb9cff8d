"""`condensatenet train`: teach a model with corrected label masks."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from numpy.typing import NDArray

from condensatenet.command_line.common import (
    ProgressDisplay,
    Verbs,
    absolute_path,
    add_device_option,
    add_verb,
    check_output_folder,
    count_noun,
    progress_bar,
    say,
)
from condensatenet.errors import InvalidImageError, InvalidLabelsError, InvalidOptionError, TrainingStopped
from condensatenet.files.images import pair_images_with_labels, read_image, read_labels
from condensatenet.files.model_directory import load_network
from condensatenet.files.pretrained import PRETRAINED, find_model
from condensatenet.inference.normalize import check_image
from condensatenet.network.variants import INPUT_MULTIPLE
from condensatenet.training.dataset import CondensateNetDataset, check_patch_size, prepare_training_data
from condensatenet.training.result import REPORT_FILE, check_output_path
from condensatenet.training.settings import TrainingSettings

_DEFAULTS = TrainingSettings()


def add_parsers(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "train",
        run,
        summary="teach a model with corrected label masks",
        description="Teach a model with images and their label masks (0 background, 1 and up instances, -1 not\n"
        "annotated). The mask of cells.tif is called cells.tif, cells_labels.tif or cells_masks.tif. A part of\n"
        "the annotations is held out to measure whether the new model is better than the one it started from.\n\n"
        "Ctrl-C stops; the same command with --resume goes on from the last finished epoch. A model in the\n"
        "output directory is replaced when the new one is complete.",
        examples="""  condensatenet train --images images --labels corrected --output my_model
  condensatenet train --images images --labels corrected --output my_model --resume
  condensatenet train --images more --labels more_corrected --model my_model --output my_model_2 --epochs 200
  condensatenet segment images --model my_model --output results""",
    )
    parser.add_argument("--images", type=absolute_path, required=True, metavar="DIR", help="images, one plane per file")
    parser.add_argument("--labels", type=absolute_path, required=True, metavar="DIR", help="their label masks")
    parser.add_argument("--output", type=absolute_path, required=True, metavar="DIR", help="directory of the new model")
    parser.add_argument(
        "--model",
        default=PRETRAINED,
        metavar="START",
        help="model to start from: a directory or the name of a downloaded model (default: %(default)s)",
    )
    for name, kind, text in (
        ("epochs", int, "passes over the images, at most"),
        ("learning_rate", float, "peak learning rate"),
        ("batch_size", int, "patches per step; less needs less memory"),
        ("weight_decay", float, "weight decay of AdamW"),
    ):
        option, default = f"--{name.replace('_', '-')}", getattr(_DEFAULTS, name)
        parser.add_argument(option, type=kind, default=default, metavar="NUMBER", help=f"{text} (default: {default})")
    parser.add_argument(
        "--patch-size",
        type=int,
        default=256,
        metavar="PIXELS",
        help=f"side of the patches that are cut from the images, a multiple of {INPUT_MULTIPLE} (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=_DEFAULTS.random_seed,
        metavar="NUMBER",
        help="of what is held out and of everything else that is random (default: %(default)s)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, and print whether it helped."""
    _check_options(arguments)
    pairs = pair_images_with_labels(arguments.images, arguments.labels)

    from condensatenet.devices import get_device
    from condensatenet.training.checkpoint import checkpoint_directory
    from condensatenet.training.loop import train_model

    device = get_device(arguments.device)
    load_network(find_model(arguments.model))  # a damaged start model is to be known before the images are prepared
    unfinished = checkpoint_directory(arguments.output)
    _check_resume(unfinished, arguments.resume)
    dataset = _read_dataset(pairs, arguments.patch_size, arguments.seed)
    say(f"Training on {device}, starting from the model {arguments.model}")
    with ProgressDisplay() as show, _noted_signals() as signals:
        try:
            train_model(
                dataset,
                arguments.model,
                arguments.output,
                epochs=arguments.epochs,
                learning_rate=arguments.learning_rate,
                weight_decay=arguments.weight_decay,
                batch_size=arguments.batch_size,
                device=device,
                random_seed=arguments.seed,
                progress_callback=show,
                resume=arguments.resume,
                should_stop=lambda: bool(signals),
            )
        except TrainingStopped:
            if unfinished.exists():
                say(f"Stopped. To go on, give the same command with --resume (the run so far is in {unfinished}).")
            else:
                say("Stopped before the first epoch was finished, so that there is nothing to resume.")
            return 128 + signals[0]
    report = json.loads((arguments.output / REPORT_FILE).read_text(encoding="utf-8"))
    print(report["message"])
    print(f"The new model, its report ({REPORT_FILE}) and pictures are in {arguments.output}")
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    TrainingSettings(
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        batch_size=arguments.batch_size,
        random_seed=arguments.seed,
    )
    check_patch_size(arguments.patch_size)
    check_output_folder(arguments.output)
    check_output_path(arguments.output)
    find_model(arguments.model)


def _check_resume(unfinished: Path, resume: bool) -> None:
    if unfinished.exists() and not resume:
        raise InvalidOptionError(
            f"{unfinished} holds a stopped run; add --resume to go on with it, or delete that folder to start again"
        )
    if resume and not unfinished.exists():
        say(f"There is no stopped run {unfinished}, so training starts from the beginning")


def _read_dataset(pairs: list[tuple[Path, Path]], patch_size: int, seed: int) -> CondensateNetDataset:
    images: list[NDArray[Any]] = []
    label_masks: list[NDArray[Any]] = []
    with progress_bar(len(pairs), "image") as bar:
        for image_path, labels_path in pairs:
            image, labels = read_image(image_path), read_labels(labels_path)
            try:
                image = check_image(image)
            except InvalidImageError as error:
                raise InvalidImageError(f"{image_path}: {error}") from error
            if image.shape != labels.shape:
                raise InvalidLabelsError(
                    f"{labels_path} has {labels.shape[0]} x {labels.shape[1]} pixels, but its image {image_path} "
                    f"{image.shape[0]} x {image.shape[1]}; give the masks of these images"
                )
            images.append(image)
            label_masks.append(labels)
            bar.update()
    say(f"Preparing {count_noun(len(images), 'image')}")
    return prepare_training_data(images, label_masks, patch_size, random_seed=seed)


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, so that training can stop between two steps; the second one ends it at once."""
    received: list[int] = []

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        restore()
