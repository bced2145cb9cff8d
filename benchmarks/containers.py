"""The workers' images: size by group of layers, and the time from `docker run` to an interface that is stored.

.venv/bin/python benchmarks/containers.py [TAG]     # images made by build_machine_learning_workers.sh; TAG is "latest"
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from workbench.server_process import started_server

RUNS = 10
BASE, PYTHON, TORCH = "base image", "Python of the distribution", "PyTorch and what it needs"
GROUPS = {TORCH: "/opt/torch", "packages": "/opt/venv", "own packages": "/opt/packages", "published models": "/models"}


def main() -> None:
    """Print a table for each image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tag", nargs="?", default="latest")
    tag = parser.parse_args().tag
    for kind in ("predict", "train"):
        image = f"annotations/condensatenet_{kind}:{tag}"
        print(f"\n| {image} | MB |\n|---|---|")
        sizes = group_sizes(image)
        for group, size in sizes.items():
            print(f"| {group} | {size / 1e6:.1f} |")
        print(f"| **all** | **{sum(sizes.values()) / 1e6:.1f}** |")
        seconds = interface_seconds(image)
        print(
            f"\nContainer start to interface done, {RUNS} runs: median {statistics.median(seconds):.2f} s, "
            f"{min(seconds):.2f} to {max(seconds):.2f} s",
            flush=True,
        )


def group_sizes(image: str) -> dict[str, int]:
    """Return bytes by group of layers."""
    history = docker("history", "--no-trunc", "--human=false", "--format", "{{json .}}", image)
    layers = [json.loads(line) for line in reversed(history.splitlines())]  # the oldest first
    groups = [
        next((group for group, folder in GROUPS.items() if f" {folder} " in f"{layer['CreatedBy']} "), "worker")
        for layer in layers
    ]
    first = groups.index(TORCH)
    groups[: first - 1] = [BASE] * (first - 1)
    groups[first - 1] = PYTHON
    sizes = dict.fromkeys([BASE, PYTHON, *GROUPS, "worker"], 0)
    for group, layer in zip(groups, layers, strict=True):
        sizes[group] += int(layer["Size"])
    return sizes


def interface_seconds(image: str) -> list[float]:
    """Return how long an interface request takes, with the platform's command line."""
    with tempfile.TemporaryDirectory() as folder, started_server(Path(folder) / "data") as server:
        command = ["docker", "run", "--rm", "--network=host", image, "--apiUrl", server.api_url]
        command += ["--token", server.token, "--request", "interface", "--parameters", json.dumps({"image": image})]
        seconds = []
        for _ in range(RUNS):
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=sys.stderr)
            seconds.append(time.perf_counter() - began)
        return seconds


def docker(*arguments: str) -> str:
    """Return what a docker command prints."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
