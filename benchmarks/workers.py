"""The two workers and the workbench, measured from outside: processes, HTTP, peak memory.

.venv/bin/python benchmarks/workers.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from annotation_client.annotations import UPennContrastAnnotationClient
from annotation_client.tiles import UPennContrastDataset
from annotation_utilities.geometry import geometry_to_coordinates, labels_to_geometries
from condensatenet.simulation import simulate_frame
from measuring import describe_machine, milliseconds, print_table
from workbench.server_process import import_files, started_server

ROOT = Path(__file__).resolve().parent.parent
WORKERS = ROOT / "workers" / "annotations" / "condensatenet"
TRAINED_FRAMES = 4

# Runs an entrypoint as a script, with everything imported before, and adds up the time in the network and in the
# instance step.
PROFILED_PREDICT = """
import runpy, sys, time
import condensatenet.inference.pipeline, condensatenet.inference.tiles, condensatenet.network.model
import annotation_utilities.geometry, deeptile, rasterio.features, shapely, torch, worker_client.worker_client
seconds = {"network": 0.0, "instances": 0.0}
def timed(name, function):
    def run(*arguments, **options):
        began = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[name] += time.perf_counter() - began
    return run
pipeline = condensatenet.inference.pipeline.CondensateNetPipeline
pipeline.predict = timed("network", pipeline.predict)
pipeline.postprocess = timed("instances", pipeline.postprocess)
sys.argv = sys.argv[1:]
began = time.perf_counter()
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("seconds", time.perf_counter() - began, seconds["network"], seconds["instances"])
"""


@dataclass(frozen=True)
class Workbench:
    """A running workbench."""

    data: Path
    api_url: str
    token: str

    def worker(self, kind: str, request: str, parameters: dict[str, Any], dataset: str | None = None) -> list[str]:
        """Return the arguments with which the platform starts a worker."""
        arguments = [str(WORKERS / kind / "entrypoint.py"), "--apiUrl", self.api_url, "--token", self.token]
        arguments += ["--request", request, "--parameters", json.dumps(parameters)]
        return arguments + (["--datasetId", dataset] if dataset else [])

    def import_frames(self, name: str, frames: Iterator[np.ndarray]) -> str:
        """Import frames (H, W) as Z slices and return the dataset's id."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "frames.tif"
            with tifffile.TiffWriter(file) as writer:
                for frame in frames:
                    writer.write(frame, contiguous=True)
            return import_files(self.data, [file], name=name)

    def annotate(self, dataset: str, labels: np.ndarray, z: int) -> None:
        """Outline everything in a label mask, and mark the whole frame as a region."""
        height, width = labels.shape
        corners = [(0, 0), (width, 0), (width, height), (0, height)]
        outlines = [geometry_to_coordinates(geometry) for geometry in labels_to_geometries(labels).values()]
        documents = [annotation(dataset, outline, ["object"], z) for outline in outlines]
        region = [{"x": float(x), "y": float(y)} for x, y in corners]
        client = UPennContrastAnnotationClient(self.api_url, self.token)
        client.createMultipleAnnotations([*documents, annotation(dataset, region, ["region"], z)])


def annotation(dataset: str, coordinates: list[dict[str, float]], tags: list[str], z: int = 0) -> dict[str, Any]:
    """Return a polygon as the platform stores it."""
    location = {"XY": 0, "Z": z, "Time": 0}
    return {
        "datasetId": dataset,
        "shape": "polygon",
        "channel": 0,
        "location": location,
        "tags": tags,
        "coordinates": coordinates,
    }


def tool(values: dict[str, Any], tags: list[str]) -> dict[str, Any]:
    """Return what the platform sends for a tool."""
    position = {"XY": 0, "Z": 0, "Time": 0}
    nothing = {"tags": [], "layer": None, "channel": None}
    return {"channel": 0, "assignment": position, "tile": position, "tags": tags, "connectTo": nothing} | {
        "workerInterface": values
    }


def run(arguments: list[str]) -> tuple[float, float, str]:
    """Run a Python process; return its seconds, its peak memory in MiB and its output."""
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(WORKERS)}
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the worker failed:\n{output}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024, output


def measure_interface(workbench: Workbench, rounds: int) -> list[list[object]]:
    """Return the seconds of an interface request, Python's start included."""
    rows: list[list[object]] = []
    for kind in ("predict", "train"):
        arguments = workbench.worker(kind, "interface", {"image": f"benchmark/{kind}"})
        seconds = [run(arguments)[0] for _ in range(rounds)]
        rows.append([f"interface, {kind}", milliseconds(statistics.median(seconds)), "below 0.6 s"])
    return rows


def measure_predict(workbench: Workbench) -> list[list[object]]:
    """Return the share of the network and the instance step in a prediction, after the imports."""
    image, labels = simulate_frame((2048, 2048), rng=np.random.default_rng(3), bit_depth=16)
    dataset = workbench.import_frames("large", iter([image]))
    UPennContrastDataset(workbench.api_url, workbench.token, dataset)  # the server has shown the image before
    values = {"Model": "pretrained", "Instance Grouping": "merged"}
    output = run(["-c", PROFILED_PREDICT, *workbench.worker("predict", "compute", tool(values, ["found"]), dataset)])[2]
    total, network, instances = map(float, output.split("seconds")[-1].split())
    found = UPennContrastAnnotationClient(workbench.api_url, workbench.token).countAnnotationsByDatasetId(dataset)
    share = f"{(network + instances) / total:.0%} of {total:.1f} s"
    what = f"predict, 2048 x 2048, {labels.max():,} objects, {found['count']:,} found: network and instances"
    return [[what, share, "at least 85 %"]]


def measure_annotations(workbench: Workbench, polygons: int, listed: int) -> list[list[object]]:
    """Return the seconds that polygons take to be uploaded and listed."""
    dataset = workbench.import_frames("annotations", iter([np.zeros((64, 64), np.uint16)]))
    client = UPennContrastAnnotationClient(workbench.api_url, workbench.token)
    angles = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    rng = np.random.default_rng(0)

    def outlines(count: int) -> list[dict[str, Any]]:
        centres = rng.uniform(0, 2000, (count, 2))
        return [
            annotation(dataset, [{"x": x + 5 * np.cos(a), "y": y + 5 * np.sin(a)} for a in angles.tolist()], ["found"])
            for x, y in centres.tolist()
        ]

    documents = outlines(polygons)
    began = time.perf_counter()
    client.createMultipleAnnotations(documents)
    upload = time.perf_counter() - began
    for _ in range((listed - polygons) // polygons):
        client.createMultipleAnnotations(outlines(polygons))
    began = time.perf_counter()
    count = len(client.getAnnotationsByDatasetId(dataset))
    listing = time.perf_counter() - began
    return [
        [f"upload of {polygons:,} polygons of 30 vertices", milliseconds(upload), "below 10 s"],
        [f"listing {count:,} of them", milliseconds(listing), "below 5 s"],
    ]


def measure_training_memory(workbench: Workbench, frame_counts: tuple[int, ...], side: int) -> list[list[object]]:
    """Return the peak memory of training with the same few regions in datasets of more and more frames."""
    rows: list[list[object]] = []
    for count in frame_counts:
        rng = np.random.default_rng(1)
        shown = [simulate_frame((256, 256), rng=rng, bit_depth=16) for _ in range(TRAINED_FRAMES)]
        places = {round(i * (count - 1) / (TRAINED_FRAMES - 1)): pair for i, pair in enumerate(shown)}

        def frames(count: int = count, places: dict[int, Any] = places) -> Iterator[np.ndarray]:
            for number in range(count):
                frame = np.random.default_rng(number).integers(100, 200, (side, side), dtype=np.uint16)
                if number in places:
                    frame[:256, :256] = places[number][0]
                yield frame

        dataset = workbench.import_frames(f"{count} frames", frames())
        for z, (_, labels) in places.items():
            workbench.annotate(dataset, labels, z)
        values = {"Initial Model": "pretrained", "New Model Name": f"from {count}", "Annotation Tag": ["object"]}
        values |= {"Region Tag": ["region"], "Epochs": 10, "Patch Size": 128}
        peak = run(workbench.worker("train", "compute", tool(values, []), dataset))[1]
        size = count * side * side * 2 / 2**20
        rows.append(
            [f"train, {TRAINED_FRAMES} regions in {count} frames ({size:,.0f} MiB)", f"{peak:,.0f} MiB", "constant"]
        )
    return rows


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--rounds", type=int, default=9, help="interface requests of each worker (default: %(default)s)"
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[4, 32, 128], help="frames of the training datasets")
    parser.add_argument("--side", type=int, default=1024, help="of a training frame in pixels (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, started_server(Path(folder), workers=[ROOT / "workers"]) as server:
        workbench = Workbench(Path(folder), server.api_url, server.token)
        rows = measure_interface(workbench, arguments.rounds)
        rows += measure_predict(workbench)
        rows += measure_annotations(workbench, 20_000, 100_000)
        rows += measure_training_memory(workbench, tuple(arguments.frames), arguments.side)
    print_table(["what", "measured", "aim"], rows, describe_machine())


if __name__ == "__main__":
    main()
