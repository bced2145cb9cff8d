"""CondensateNet training: teaches a model with the outlines that a user corrected in a NimbusImage dataset."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from girder_client import HttpError

import utils
from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.connection import Connection, connect
from annotation_client.errors import UploadError
from annotation_client.tiles import UPennContrastDataset
from annotation_client.utils import sendProgress, sendWarning
from annotation_client.workers import UPennContrastWorkerPreviewClient
from annotation_utilities.interface_values import get_channel, get_numbers, get_required_select, get_tags, get_text
from worker_client import Progress, WorkerError, check_parameters, run_worker

if TYPE_CHECKING:
    from training_set import Selection, TrainingSet

INITIAL_MODEL, NAME, CHANNEL = "Initial Model", "New Model Name", "Channel"
ANNOTATION_TAG, REGION_TAG = "Annotation Tag", "Region Tag"
EPOCHS, LEARNING_RATE, PATCH_SIZE = "Epochs", "Learning Rate", "Patch Size"
PATCH_MULTIPLE = 32
TITLE = "CondensateNet training"
WAIT_FOR_SERVER_S = 600.0  # with a trained model in hand
PAUSE_S = 5.0

NUMBERS: dict[str, dict[str, Any]] = {
    EPOCHS: {
        "default": 100,
        "min": 10,
        "max": 500,
        "step": 1,
        "tooltip": "Passes over your annotations, at most: training stops by itself when it no longer helps.",
    },
    LEARNING_RATE: {
        "default": 0.0001,
        "min": 0.00001,
        "max": 0.01,
        "step": 0.00001,
        "tooltip": "0.0001 changes a model gently. Use 0.001 if your images look quite different from what it knows.",
    },
    PATCH_SIZE: {
        "default": 256,
        "min": 128,
        "max": 512,
        "step": PATCH_MULTIPLE,
        "unit": "pixels",
        "tooltip": "Side of the squares that are trained on. Make it smaller if the GPU's memory does not suffice.",
    },
}
NOTES = (
    "<b>Teach CondensateNet your images.</b> 1. Correct the outlines in a few regions until <i>every</i> object there "
    "is right, and give these outlines a tag. 2. Draw a rectangle or polygon around each finished region and give it "
    "another tag. 3. Choose both tags here and submit. The new model then appears as <i>Model</i> in "
    "CondensateNet segmentation (press Reload worker there)."
)


@dataclass(frozen=True)
class TrainSettings:
    """The checked values of the interface; `channel` is checked later, since the dataset must be known for it."""

    initial_model: str
    name: str
    annotation_tags: list[str]
    region_tags: list[str]
    epochs: int
    learning_rate: float
    patch_size: int


def interface(image: str, apiUrl: str, token: str) -> None:
    """Send the fields of the tool to the server; the models are those that the user has now."""
    connection = connect(apiUrl, token)
    fields: dict[str, dict[str, Any]] = {
        "About": {"type": "notes", "value": NOTES},
        INITIAL_MODEL: {
            "type": "select",
            "items": utils.model_names(connection),
            "default": utils.PRETRAINED,
            "required": True,
            "noCache": True,
            "tooltip": "With more annotations, start from pretrained again and use all of them.",
        },
        NAME: {
            "type": "text",
            "default": new_default_name(),
            "noCache": True,
            "tooltip": "Letters, digits, spaces and . _ - . A model of yours that has this name already is replaced.",
        },
        ANNOTATION_TAG: {"type": "tags", "tooltip": "Tag of the corrected outlines (polygons). Several: any of them."},
        REGION_TAG: {
            "type": "tags",
            "tooltip": "Tag of the rectangles or polygons in which every object is outlined. Pixels outside of them "
            "are ignored.",
        },
        CHANNEL: {"type": "channel", "default": 0, "required": True, "tooltip": "The channel that shows the objects."},
        **{name: {"type": "number", **field} for name, field in NUMBERS.items()},
    }
    ordered = {name: {**field, "displayOrder": order} for order, (name, field) in enumerate(fields.items())}
    UPennContrastWorkerPreviewClient(apiUrl=apiUrl, token=token).setWorkerImageInterface(image, ordered)


def compute(datasetId: str, apiUrl: str, token: str, params: dict[str, Any]) -> None:
    """Collect what the user marked, train, and put the model into the user's folder."""
    check_parameters(params)
    settings = read_settings(params["workerInterface"])
    progress = Progress(TITLE)
    progress(0, f"loading the model {settings.initial_model}")
    dataset = UPennContrastDataset(apiUrl, token, datasetId)
    dataset.check_grey()
    channel = get_channel(params["workerInterface"], CHANNEL, channel_count=dataset.channel_count)
    connection = dataset.client
    start_model = utils.resolve_model(connection, settings.initial_model)
    progress(0.01, "reading annotations")
    training_set = read_training_set(
        dataset, UPennContrastAnnotationClient(apiUrl, token), datasetId, settings, channel, progress
    )
    with tempfile.TemporaryDirectory(prefix="condensatenet-") as folder:
        model = train(training_set, start_model, Path(folder) / "model", settings, progress)
        report = json.loads((model / "training_report.json").read_text(encoding="utf-8"))
        name = save_model(connection, model, settings, progress)
    helped = report["improved"] is not False
    use = "choose it as Model in CondensateNet segmentation (Reload worker shows it)"
    message = (
        f"{report['message']} Used {_count(training_set.instance_count, 'annotation')} in "
        f"{_count(training_set.region_count, 'region')}. The model {name} is saved{f': {use}' if helped else ''}."
    )
    progress(1, message)
    sendWarning(message, title="Training finished" if helped else "Training did not help")


def read_settings(values: dict[str, Any]) -> TrainSettings:
    """Check the interface's values.

    Raises:
        InterfaceValueError, WorkerError, ModelStoreError: a value cannot be used; the text names its field.
    """
    numbers = get_numbers(values, NUMBERS)
    settings = TrainSettings(
        initial_model=get_required_select(values.get(INITIAL_MODEL), INITIAL_MODEL),
        name=utils.validate_model_name(get_text(values, NAME, default=new_default_name())),
        annotation_tags=get_tags(values, ANNOTATION_TAG, required=True),
        region_tags=get_tags(values, REGION_TAG, required=True),
        epochs=int(numbers[EPOCHS]),
        learning_rate=float(numbers[LEARNING_RATE]),
        patch_size=round(numbers[PATCH_SIZE] / PATCH_MULTIPLE) * PATCH_MULTIPLE,
    )
    both = sorted(set(settings.annotation_tags) & set(settings.region_tags))
    if both:
        raise WorkerError(
            f'"{both[0]}" is both an Annotation Tag and a Region Tag. Give the regions a tag of their own, so that '
            "they are not taken for objects."
        )
    if settings.patch_size != numbers[PATCH_SIZE]:
        sendWarning(
            f"Patch Size must be a multiple of {PATCH_MULTIPLE}: {settings.patch_size} is used instead of "
            f"{numbers[PATCH_SIZE]:g}.",
            title="Patch Size was rounded",
        )
    return settings


def new_default_name() -> str:
    """Return a name made of the current time, which no earlier training has used."""
    return f"condensatenet-{datetime.now():%Y-%m-%d-%H%M%S}"


def unique_name(name: str, existing: list[str]) -> str:
    """Return a new name for a default that is taken, such as one stored with a tool; else the user's choice."""
    if not re.fullmatch(r"condensatenet-\d{4}-\d\d-\d\d-\d{6}(-\d+)?", name) or name not in existing:
        return name
    default = new_default_name()
    candidates = chain([default], (f"{default}-{number}" for number in count(2)))
    return next(candidate for candidate in candidates if candidate not in existing)


def save_model(connection: Connection, model: Path, settings: TrainSettings, progress: Progress) -> str:
    """Upload the model and return its name; a server that is away for a while does not cost the training.

    Raises:
        HttpError, requests.RequestException, UploadError: the server does not take it, or stays away.
    """
    deadline = time.monotonic() + WAIT_FOR_SERVER_S
    while True:
        try:
            name = unique_name(settings.name, utils.model_names(connection))
            progress(0.95, f"saving the model {name}")
            utils.upload_girder_model(connection, model, name, base_model=settings.initial_model)
        except (requests.RequestException, UploadError) as error:
            refused = isinstance(error, HttpError) and error.status not in (429, 502, 503, 504)
            if refused or time.monotonic() > deadline:
                raise
            progress(0.95, "the server cannot be reached; waiting to save the model")
            time.sleep(PAUSE_S)
        else:
            return name


def read_training_set(
    dataset: UPennContrastDataset,
    client: UPennContrastAnnotationClient,
    dataset_id: str,
    settings: TrainSettings,
    channel: int,
    progress: Progress,
) -> TrainingSet:
    """Return the samples, and say what was left out.

    Raises:
        WorkerError: there is nothing to train on; the text says what is missing.
    """
    from training_set import collect_samples, select_by_position

    selection = select_by_position(
        documents_with_tags(client, dataset_id, ("polygon", "rectangle"), settings.region_tags),
        documents_with_tags(client, dataset_id, ("polygon",), settings.annotation_tags),
    )
    _warn_left_out(selection.malformed, "outline", "fewer than three corners, or no area")
    _warn_left_out(selection.regions_with_annotation_tag, "annotation", "it has the Region Tag, too")
    check_selection(selection, settings)

    def report(done: int, positions: int) -> None:
        progress(0.01 + 0.03 * done / positions, f"reading the image, position {done + 1} of {positions}")

    training_set = collect_samples(dataset, selection, channel, report)
    _warn_left_out(training_set.repeated, "annotation", "another one outlines the same object")
    _warn_left_out(training_set.without_annotations, "region", "no annotation with the Annotation Tag inside")
    _warn_left_out(training_set.outside, "region", "outside the image, or at a position that the dataset lacks")
    if not training_set.instance_count:
        raise WorkerError(
            f"None of the {selection.region_count:,} regions can be used. A region must lie on the image and hold "
            "outlines that have the Annotation Tag, at the same XY, Z and Time."
        )
    return training_set


def documents_with_tags(
    client: UPennContrastAnnotationClient, dataset_id: str, shapes: tuple[str, ...], tags: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield the annotations of these shapes that have any of the tags, each once.

    The server returns annotations that have all of the given tags, so that it is asked once for each.
    """
    seen: set[str] = set()
    for shape in shapes:
        for tag in tags:
            for document in client.iter_annotations(dataset_id, shape=shape, tags=[tag]):
                if document["_id"] not in seen:
                    seen.add(document["_id"])
                    yield document


def check_selection(selection: Selection, settings: TrainSettings) -> None:
    """Raise `WorkerError` if there is no region, or no annotation at the position of one."""
    usable = "usable " if selection.malformed else ""
    if not selection.region_count:
        raise WorkerError(
            f"No {usable}rectangle or polygon has the Region Tag {_quoted(settings.region_tags)}. Draw one around each "
            "part in which every object is outlined, and give it this tag."
        )
    if not selection.annotation_count:
        raise WorkerError(
            f"No {usable}polygon has the Annotation Tag {_quoted(settings.annotation_tags)} at the XY, Z and Time of a "
            "region. Give the corrected outlines this tag, or choose another one."
        )


def train(
    training_set: TrainingSet, start_model: Path, output: Path, settings: TrainSettings, progress: Progress
) -> Path:
    """Train and return the directory of the new model."""
    from condensatenet.devices import get_device  # brings torch, seconds that a wrong value should not cost
    from condensatenet.training import prepare_training_data, train_model

    device = get_device()
    if device == "cpu":
        sendWarning("Training on the CPU, which takes longer.", title="No GPU")
    progress(0.05, f"preparing {training_set.instance_count:,} annotations")
    samples = training_set.samples
    dataset = prepare_training_data(
        [sample.image for sample in samples],
        [sample.labels for sample in samples],
        settings.patch_size,
        intensity_ranges=[sample.intensity_range for sample in samples],
        groups=[sample.position for sample in samples],
    )

    def report(fraction: float, message: str) -> None:
        sendProgress(0.05 + 0.9 * fraction, TITLE, message)  # `message` says what time is left

    train_model(
        dataset,
        start_model,
        output,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        device=device,
        progress_callback=report,
    )
    return output


def _warn_left_out(number: int, what: str, reason: str) -> None:
    if number:
        sendWarning(f"{_count(number, what)} left out: {reason}.", title="Left out of training")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _quoted(tags: list[str]) -> str:
    return " or ".join(f'"{tag}"' for tag in tags)


if __name__ == "__main__":
    sys.exit(run_worker(interface=interface, compute=compute, description=__doc__))
