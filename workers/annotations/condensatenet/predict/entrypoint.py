"""CondensateNet segmentation: outlines the condensates at the chosen positions of a NimbusImage dataset."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import utils
from annotation_client.connection import connect
from annotation_client.errors import DatasetError
from annotation_client.utils import sendWarning
from annotation_client.workers import UPennContrastWorkerPreviewClient
from annotation_utilities.batch_argument_parser import batch_interface_fields
from annotation_utilities.interface_values import get_numbers, get_required_select, get_select
from worker_client import Progress, WorkerClient, WorkerError, check_parameters, run_worker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from shapely import Polygon

    from condensatenet import CondensateNetPipeline


MODEL, MODEL_VERSION, GROUPING = "Model", "Model Version", "Instance Grouping"
BAKED_OF_VERSION = {"condensatenet-v1": "condensatenet-v1", "condensatenet (original)": "condensatenet"}
"""`Model Version` of tools that were saved before there was a `Model` field -> baked-in model."""

NUMBERS: dict[str, dict[str, Any]] = {
    "Probability Threshold": {
        "default": 0.15,
        "min": 0,
        "max": 1,
        "step": 0.01,
        "tooltip": "Pixels with a higher probability belong to a condensate. Lower it to find fainter ones. "
        "Models that you trained are adjusted to 0.15.",
    },
    "Min Size": {
        "default": 15,
        "min": 0,
        "max": 1000,
        "step": 1,
        "unit": "pixels",
        "tooltip": "Smaller objects are left out (area).",
    },
    "Max Size": {
        "default": 600,
        "min": 1,
        "max": 100_000,
        "step": 1,
        "unit": "pixels",
        "tooltip": "Larger objects are left out (area). Training ends with a message that says what your objects need.",
    },
    "Smoothing": {
        "default": 0.3,
        "min": 0,
        "max": 10,
        "step": 0.1,
        "unit": "pixels",
        "tooltip": "How far an outline may deviate from the pixels to have fewer corners. 0 keeps every pixel.",
    },
    "Padding": {
        "default": 0,
        "min": -20,
        "max": 20,
        "step": 0.5,
        "unit": "pixels",
        "tooltip": "Outlines are moved outwards by this much, or inwards if it is negative.",
    },
    "Tile Size": {
        "default": 1024,
        "min": 256,
        "max": 2048,
        "step": 32,
        "unit": "pixels",
        "tooltip": "Large images are computed in tiles of this size. Make it smaller if the memory does not suffice.",
    },
    "Tile Overlap": {
        "default": 0.1,
        "min": 0,
        "max": 0.5,
        "step": 0.05,
        "tooltip": "Part of a tile that it shares with the next one.",
    },
}


@dataclass(frozen=True)
class PredictSettings:
    """The checked values of the interface.

    Attributes:
        model: name of the model, see `utils.resolve_model`.
        smoothing: tolerance in pixels of the simplified outlines.
        padding: distance in pixels by which outlines are moved outwards.
        segmentation: options of `CondensateNetPipeline`.
    """

    model: str
    smoothing: float
    padding: float
    segmentation: dict[str, Any]


def interface(image: str, apiUrl: str, token: str) -> None:
    """Send the fields of the tool to the server; the models are those that the user has now."""
    connection = connect(apiUrl, token)
    fields = {
        MODEL: {
            "type": "select",
            "items": utils.model_names(connection),
            "default": utils.PRETRAINED,
            "required": True,
            "noCache": True,
            "displayOrder": 0,
            "tooltip": "The pretrained network, or one that you trained with CondensateNet training.",
        },
        **batch_interface_fields(display_order=1),
        **{
            name: {"type": "number", **field, "displayOrder": order}
            for order, (name, field) in enumerate(NUMBERS.items(), start=4)
        },
        GROUPING: {
            "type": "select",
            "items": ["merged", "exact"],
            "default": "merged",
            "required": True,
            "displayOrder": 4 + len(NUMBERS),
            "tooltip": "merged: fewer objects are split (recommended). exact: groups pixels as the original "
            "CondensateNet does.",
        },
    }
    UPennContrastWorkerPreviewClient(apiUrl=apiUrl, token=token).setWorkerImageInterface(image, fields)


def compute(datasetId: str, apiUrl: str, token: str, params: dict[str, Any]) -> None:
    """Find the condensates at every chosen position and upload their outlines, one position at a time."""
    check_parameters(params)
    settings = read_settings(params["workerInterface"])
    worker = WorkerClient(datasetId, apiUrl, token, params)
    worker.validate_coordinates()
    positions = existing_positions(worker)
    progress = Progress("Finding condensates")
    progress(0, f"loading the model {settings.model}")
    model = utils.resolve_model(worker.connection, settings.model)

    from condensatenet import CondensateNetPipeline  # brings torch, seconds that a wrong value should not cost

    pipeline = CondensateNetPipeline.from_local(model, **settings.segmentation)
    if pipeline.device == "cpu":
        print("No GPU: computing on the CPU.", flush=True)
    warn_of_sizes(pipeline.config, settings)
    found = 0
    for number, position in enumerate(positions):

        def report(fraction: float, message: str, number: int = number) -> None:
            progress((number + fraction) / len(positions), f"position {number + 1} of {len(positions)}, {message}")

        report(0, "loading the image")
        image = worker.get_image(position["XY"], position["Z"], position["Time"], worker.channel)
        outlines = find_outlines(pipeline, image, settings, report)
        report(1, f"uploading {len(outlines):,} outlines")
        found += worker.create_polygon_annotations(position, outlines)
    place = "position" if len(positions) == 1 else "positions"
    summary = f"{found:,} condensates at {len(positions)} {place}, found by the model {settings.model}"
    progress(1, summary)
    if not found:
        sendWarning(
            "No condensates were found. Lower the Probability Threshold, check Min Size and Max Size, or choose "
            "another Channel or Model.",
            title="Nothing found",
        )


def read_settings(values: dict[str, Any]) -> PredictSettings:
    """Check the interface's values, those of tools that were saved with an earlier version included.

    Raises:
        InterfaceValueError, WorkerError: a value cannot be used; the text names its field.
    """
    numbers = get_numbers(values, NUMBERS)
    if numbers["Min Size"] > numbers["Max Size"]:
        raise WorkerError(
            f"Min Size ({numbers['Min Size']}) is larger than Max Size ({numbers['Max Size']}), so that nothing can be "
            "found. Change one of them."
        )
    return PredictSettings(
        model=_read_model(values),
        smoothing=numbers["Smoothing"],
        padding=numbers["Padding"],
        segmentation={
            "prob_threshold": numbers["Probability Threshold"],
            "min_size": numbers["Min Size"],
            "max_size": numbers["Max Size"],
            "tile_size": numbers["Tile Size"],
            "overlap": numbers["Tile Overlap"],
            "grouping": get_select(values, GROUPING, default="exact", allowed_values=["merged", "exact"]),
        },
    )


def _read_model(values: dict[str, Any]) -> str:
    if MODEL in values or MODEL_VERSION not in values:
        return get_required_select(values.get(MODEL), MODEL)
    version = get_required_select(values[MODEL_VERSION], MODEL_VERSION, list(BAKED_OF_VERSION))
    if BAKED_OF_VERSION[version] in utils.baked_model_names():
        return BAKED_OF_VERSION[version]
    sendWarning(
        f"{version} is not installed here, so the model {utils.PRETRAINED} is used. Make a new tool to choose a Model.",
        title="Another model is used",
    )
    return utils.PRETRAINED


def existing_positions(worker: WorkerClient) -> list[dict[str, int]]:
    """Return the chosen positions; combinations of XY, Z and Time that the dataset lacks are left out with a warning.

    Raises:
        DatasetError: it lacks all of them, or its images have several values per pixel.
    """
    dataset = worker.datasetClient
    dataset.check_grey()
    positions = worker.positions()
    existing, problem = [], None
    for position in positions:
        try:
            dataset.coordinatesToFrameIndex(position["XY"], position["Z"], position["Time"], worker.channel)
        except DatasetError as error:
            problem = error
        else:
            existing.append(position)
    if problem and not existing:
        raise problem
    if problem:
        missing = len(positions) - len(existing)
        sendWarning(f"{missing:,} of the chosen positions have no image in this channel.", title="Positions left out")
    return existing


def warn_of_sizes(config: Mapping[str, Any], settings: PredictSettings) -> None:
    """Say so if a model was made for other sizes than Min Size and Max Size let through."""
    chosen = settings.segmentation
    smallest, largest = (
        chosen[name] if config.get(name) is None else config[name] for name in ("min_size", "max_size")
    )
    if smallest < chosen["min_size"] or largest > chosen["max_size"]:
        sendWarning(
            f"The model {settings.model} was made for objects of other sizes: it works best with a Min Size of at most "
            f"{smallest} and a Max Size of at least {largest} pixels.",
            title="Objects may be left out",
        )


def find_outlines(
    pipeline: CondensateNetPipeline,
    image: NDArray[np.generic],
    settings: PredictSettings,
    report: Callable[[float, str], None],
) -> list[Polygon]:
    """Return the outline of every condensate in an image (H, W), in pixel-corner coordinates (x, y).

    A condensate in several parts is outlined by its largest one, and holes are filled; one that padding left nothing of
    has no outline.
    """
    import numpy as np
    import shapely

    from annotation_utilities.geometry import labels_to_geometries

    instances = pipeline.segment(image, progress_callback=report)
    # All outlines at a time: one call each would take as long as a part of the network.
    outlines = np.array(list(labels_to_geometries(instances).values()), dtype=object)
    if settings.padding:
        outlines = shapely.buffer(outlines, settings.padding)
    outlines = shapely.simplify(outlines, settings.smoothing, preserve_topology=True)
    largest = [max(shapely.get_parts(outline), key=shapely.area) for outline in outlines if not outline.is_empty]
    return list(shapely.polygons(shapely.get_exterior_ring(largest)))


if __name__ == "__main__":
    sys.exit(run_worker(interface=interface, compute=compute, description=__doc__))
