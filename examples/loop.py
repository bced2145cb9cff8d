"""The main job: correct - train - predict on one machine, through the workbench and the two workers.

A workbench is started, images are imported, known outlines play the user's corrections in a part of them, and both
tools run as jobs of the workbench, as they do on the platform. Both models are measured on what training never saw.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sample_frames
from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.tiles import UPennContrastDataset
from annotation_utilities.geometry import (
    annotation_to_geometry,
    geometries_to_labels,
    geometry_to_coordinates,
    labels_to_geometries,
)
from annotation_utilities.selection import location_of
from condensatenet.evaluation import compare_table, evaluate_instances
from condensatenet.figures import Panel, draw_panels
from sample_frames import Location, Sample
from workbench.errors import WorkbenchError
from workbench.server.address import RunningServer
from workbench.server_process import import_files, started_server

ROOT = Path(__file__).resolve().parent.parent
WORKBENCH = [sys.executable, "-m", "workbench"]
ANNOTATED, REGION, BEFORE, AFTER = "annotated", "complete", "pretrained model", "retrained model"
MODEL = "my model"


def main() -> None:
    """Run the loop, say how good both models are, and where to look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", choices=["nuclei", "simulated"], default="nuclei", help="what to work on")
    parser.add_argument("--once", action="store_true", help="end when done; without it the workbench stays up")
    parser.add_argument("--epochs", type=int, help="passes over the annotations, at most (at least 10)")
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="folder for the results")
    parser.add_argument(
        "--containers",
        metavar="TAG",
        nargs="?",
        const="latest",
        help="run the container images that build_machine_learning_workers.sh made, not the programs of this folder",
    )
    parser.add_argument("--port", type=int, default=8080, help="of the workbench (default: 8080)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))  # so that the workbench ends, too
    cache = ROOT / ".cache"
    if arguments.sample == "nuclei":
        sample = sample_frames.nuclei(cache / "nuclei_sample")
    else:
        sample = sample_frames.simulated(cache / "simulated_sample")
    if arguments.epochs:
        sample.training["Epochs"] = arguments.epochs
    output: Path = arguments.output / arguments.sample
    output.mkdir(parents=True, exist_ok=True)
    data = arguments.output / "workbench"
    workers = [] if arguments.containers else [ROOT / "workers"]
    with started_server(data, port=arguments.port, workers=workers) as server:
        run_loop(sample, server, data, output, arguments.containers or "latest")
        if not arguments.once:
            print(
                f"\nThe workbench goes on; Ctrl-C ends it. Look at it:\n{server.url}/#token={server.token}",
                flush=True,
            )
            wait_for_interrupt()


def run_loop(sample: Sample, server: RunningServer, data: Path, output: Path, image_tag: str) -> None:
    """Import, annotate, segment with the pretrained model, train, segment with the new one, and compare."""
    dataset_id = import_files(data, sample.files, name=sample.name)
    print(f"Imported {sample.name} as dataset {dataset_id}", flush=True)
    annotate(sample, server, dataset_id)
    predict, train = (f"annotations/condensatenet_{kind}:{image_tag}" for kind in ("predict", "train"))
    run_tool(predict, dataset_id, data, sample, [BEFORE], {**sample.prediction, "Model": "pretrained"})
    fields = {"New Model Name": MODEL, "Annotation Tag": ANNOTATED, "Region Tag": REGION, "Channel": sample.channel + 1}
    run_tool(train, dataset_id, data, sample, [], {**fields, **sample.training})
    run_tool(predict, dataset_id, data, sample, [AFTER], {**sample.prediction, "Model": MODEL})
    predictions = {tag: read_predictions(sample, server, dataset_id, tag) for tag in (BEFORE, AFTER)}
    unseen = {location: sample.unseen(location) for location in sample.truths}
    measured = [location for location, labels in unseen.items() if (labels > 0).any()]
    evaluations = {
        tag: evaluate_instances([unseen[at] for at in measured], [labels[at] for at in measured])
        for tag, labels in predictions.items()
    }
    picture = output / "unseen_part.png"
    draw_comparison(sample, server, dataset_id, measured[:2], unseen, predictions, picture)
    workbench("export", dataset_id, "--output", output / "export", "--tag", AFTER, "--data", data)
    print("\nOn what training never saw:\n")
    print(compare_table(evaluations))
    print(f"\nLook at: {picture}\nLabel masks, outlines and table: {output / 'export'}")


def workbench(*arguments: object) -> None:
    """Run one of the workbench's commands."""
    result = subprocess.run([*WORKBENCH, *map(str, arguments)], check=False)
    if result.returncode:
        raise SystemExit(result.returncode)


def run_tool(image: str, dataset_id: str, data: Path, sample: Sample, tags: list[str], fields: dict[str, Any]) -> None:
    """Run one of the two tools as a job of the workbench."""
    options = [f"--set={name}={value}" for name, value in fields.items()] + [f"--tag={tag}" for tag in tags]
    workbench("run-tool", image, dataset_id, "--data", data, "--channel", sample.channel + 1, *options)


def annotate(sample: Sample, server: RunningServer, dataset_id: str) -> None:
    """Upload the outlines and the regions that a user would have drawn in the annotated part."""
    documents = []
    for location, (left, top, right, bottom) in sample.regions.items():
        rectangle = [(left, top), (right, top), (right, bottom), (left, bottom)]
        corners = [{"x": float(x), "y": float(y)} for x, y in rectangle]
        documents.append(annotation(sample, dataset_id, location, "rectangle", corners, REGION))
        labels = sample.truths[location]
        seen = np.unique(labels[top:bottom, left:right])
        for label, geometry in labels_to_geometries(labels).items():
            if label in seen:
                outline = geometry_to_coordinates(geometry)
                documents.append(annotation(sample, dataset_id, location, "polygon", outline, ANNOTATED))
    UPennContrastAnnotationClient(server.api_url, server.token).createMultipleAnnotations(documents)


def annotation(
    sample: Sample, dataset_id: str, location: Location, shape: str, coordinates: list[dict[str, float]], tag: str
) -> dict[str, Any]:
    """Return an annotation as the platform stores it."""
    return {
        "datasetId": dataset_id,
        "shape": shape,
        "channel": sample.channel,
        "location": dict(zip(("XY", "Z", "Time"), location, strict=True)),
        "tags": [tag],
        "coordinates": coordinates,
    }


def read_predictions(
    sample: Sample, server: RunningServer, dataset_id: str, tag: str
) -> dict[Location, NDArray[np.int32]]:
    """Return label masks of the outlines with a tag."""
    client = UPennContrastAnnotationClient(server.api_url, server.token)
    found: dict[Location, dict[int, Any]] = {location: {} for location in sample.truths}
    for document in client.iter_annotations(dataset_id, shape="polygon", tags=[tag]):
        at_position = found[location_of(document)]
        at_position[len(at_position) + 1] = annotation_to_geometry(document)
    return {
        location: geometries_to_labels(geometries, sample.truths[location].shape)
        for location, geometries in found.items()
    }


def draw_comparison(
    sample: Sample,
    server: RunningServer,
    dataset_id: str,
    locations: list[Location],
    unseen: dict[Location, NDArray[np.int32]],
    predictions: dict[str, dict[Location, NDArray[np.int32]]],
    picture: Path,
) -> None:
    """Draw both models' outlines on the unseen part of some positions, one row each."""
    frames = UPennContrastDataset(server.api_url, server.token, dataset_id)
    rows = []
    for at in locations:
        image = frames.frame(*at, sample.channel)
        columns = np.flatnonzero((unseen[at] >= 0).any(axis=0))
        part = np.s_[:, columns[0] : columns[-1] + 1]
        rows.append(
            [Panel(tag, image[part], unseen[at][part], labels[at][part]) for tag, labels in predictions.items()]
        )
    draw_panels(rows, picture)


def wait_for_interrupt() -> None:
    """Return at Ctrl-C or SIGTERM."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    try:
        main()
    except WorkbenchError as error:
        sys.exit(str(error))
