"""CondensateNet training: teaches a model with the outlines that a user corrected in a NimbusImage dataset."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import utils
from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.connection import connect
from annotation_client.tiles import UPennContrastDataset
from annotation_client.utils import sendProgress, sendWarning
from annotation_client.workers import UPennContrastWorkerPreviewClient
from annotation_utilities.interface_values import get_channel, get_number, get_required_select, get_tags, get_text
from worker_client import Progress, WorkerError, run_worker

if TYPE_CHECKING:
    from training_set import Selection, TrainingSet

INITIAL_MODEL, NAME, CHANNEL = "Initial Model", "New Model Name", "Channel"
ANNOTATION_TAG, REGION_TAG = "Annotation Tag", "Region Tag"
EPOCHS, LEARNING_RATE, PATCH_SIZE = "Epochs", "Learning Rate", "Patch Size"
PATCH_MULTIPLE = 32
TITLE = "CondensateNet training"

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
        "min": 0.000001,
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
    settings = read_settings(params["workerInterface"])
    progress = Progress(TITLE)
    progress(0, "reading annotations")
    dataset = UPennContrastDataset(apiUrl, token, datasetId)
    channel = get_channel(params["workerInterface"], CHANNEL, channel_count=dataset.channel_count)
    connection = dataset.client
    name = unique_name(settings.name, utils.model_names(connection))
    training_set = read_training_set(
        dataset, UPennContrastAnnotationClient(apiUrl, token), datasetId, settings, channel, progress
    )
    progress(0.04, f"loading the model {settings.initial_model}")
    start_model = utils.resolve_model(connection, settings.initial_model)
    with tempfile.TemporaryDirectory(prefix="condensatenet-") as folder:
        model = train(training_set, start_model, Path(folder) / name, settings, progress)
        report = json.loads((model / "training_report.json").read_text(encoding="utf-8"))
        progress(0.95, f"saving the model {name}")
        utils.upload_girder_model(connection, model, name, base_model=settings.initial_model)
    regions = "region" if training_set.region_count == 1 else "regions"
    message = (
        f"{report['message']} Trained with {training_set.instance_count:,} annotations in "
        f"{training_set.region_count:,} {regions}. The model {name} is saved: choose it as Model in CondensateNet "
        "segmentation (Reload worker shows it)."
    )
    progress(1, message)
    sendWarning(message, title="Training finished")


def read_settings(values: dict[str, Any]) -> TrainSettings:
    """Check the interface's values.

    Raises:
        InterfaceValueError, WorkerError, ModelStoreError: a value cannot be used; the text names its field.
    """
    numbers = {
        name: get_number(
            values, name, default=field["default"], minimum=field["min"], maximum=field["max"], integer=name == EPOCHS
        )
        for name, field in NUMBERS.items()
    }
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
    """Return another name for an old default that was stored with a tool and is taken; else the user's own choice."""
    is_default = re.fullmatch(r"condensatenet-\d{4}-\d\d-\d\d-\d{6}", name)
    return new_default_name() if is_default and name in existing else name


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
    check_selection(selection, settings)

    def report(done: int, positions: int) -> None:
        progress(0.01 + 0.03 * done / positions, f"reading the image, position {done + 1} of {positions}")

    training_set = collect_samples(dataset, selection, channel, report)
    for count, text in (
        (selection.malformed, "are no usable outlines (fewer than three corners, or no area)"),
        (training_set.without_annotations, "hold no annotation with the Annotation Tag"),
        (training_set.outside, "lie outside the image, or at a position that this dataset does not have"),
    ):
        if count:
            kind = "shapes" if text.startswith("are") else "regions"
            sendWarning(f"{count:,} {kind} were left out: they {text}.", title="Left out of training")
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
    if not selection.region_count:
        raise WorkerError(
            f"No rectangle or polygon has the Region Tag {_quoted(settings.region_tags)}. Draw one around each part in "
            "which every object is outlined, and give it this tag."
        )
    if not selection.annotation_count:
        raise WorkerError(
            f"No polygon has the Annotation Tag {_quoted(settings.annotation_tags)} at the XY, Z and Time of a region. "
            "Give the corrected outlines this tag, or choose another one."
        )


def train(
    training_set: TrainingSet, start_model: Path, output: Path, settings: TrainSettings, progress: Progress
) -> Path:
    """Train and return the directory of the new model."""
    from condensatenet.devices import get_device  # brings torch, seconds that a wrong value should not cost
    from condensatenet.training import prepare_training_data, train_model

    device = get_device()
    if device == "cpu":
        print("No GPU: training on the CPU, which takes longer.", flush=True)
    progress(0.05, f"preparing {training_set.instance_count:,} annotations")
    samples = training_set.samples
    dataset = prepare_training_data(
        [sample.image for sample in samples],
        [sample.labels for sample in samples],
        settings.patch_size,
        intensity_ranges=[sample.intensity_range for sample in samples],
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


def _quoted(tags: list[str]) -> str:
    return " or ".join(f'"{tag}"' for tag in tags)


if __name__ == "__main__":
    sys.exit(run_worker(interface=interface, compute=compute, description=__doc__))
