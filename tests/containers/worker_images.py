"""The two images, built on the stand-in base by the build script from a clean copy of the tree."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from platform_driver import ROOT
from stand_in_base import BUILD_IMAGE, RUNTIME_IMAGE, UnavailableError

IMAGE_TAG = f"test-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"  # one for each checkout on a machine
KINDS = ("predict", "train")
NO_HUB = "http://127.0.0.1:9"  # nothing listens there


def image_of(kind: str) -> str:
    """Return the image that is tested."""
    return f"annotations/condensatenet_{kind}:{IMAGE_TAG}"


@dataclass(frozen=True)
class Images:
    """The images as they are built where the hub of the published models is out of reach.

    Attributes:
        tree: the copy of the repository that they were built from.
        output: what the build script printed.
    """

    tree: Path
    output: str

    def build(self, *arguments: str) -> str:
        """Run the build script of the tree and return what it prints."""
        bases = (f"BASE_IMAGE={BUILD_IMAGE}", f"RUNTIME_IMAGE={RUNTIME_IMAGE}", "TORCH_BUILD=cpu")
        options = [part for value in bases for part in ("--build-arg", value)]
        return run_build_script(self.tree, *options, *arguments)


def build_images(tree: Path) -> Images:
    """Copy the repository's files to `tree`, as after a checkout under umask 077, and build both images."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    subprocess.run(["chmod", "-R", "go=", tree], check=True)
    output = Images(tree, "").build("--build-arg", f"HF_ENDPOINT={NO_HUB}")
    return Images(tree, output)


def run_build_script(tree: Path, *arguments: str, succeeds: bool = True) -> str:
    """Run a tree's build script and return what it prints on both streams."""
    finished = subprocess.run(
        [tree / "build_machine_learning_workers.sh", *arguments],
        env={**os.environ, "BUILD_NETWORK": "host", "WORKER_IMAGE_TAG": IMAGE_TAG},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (finished.returncode == 0) == succeeds, finished.stdout[-5000:]
    return finished.stdout


def remove_names() -> None:
    """Take the images' names away; their layers stay in the engine's cache for the next time."""
    subprocess.run(["docker", "rmi", "--no-prune", *map(image_of, KINDS)], check=True, capture_output=True)


def check_network() -> None:
    """Raise UnavailableError where a container on the machine's network does not reach this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = f"import socket; socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}), 5)"
        command = [
            "docker",
            "run",
            "--rm",
            "--network=host",
            "--entrypoint",
            "/opt/venv/bin/python",
            image_of("predict"),
        ]
        reached = subprocess.run([*command, "-c", code], capture_output=True, text=True, check=False)
    if reached.returncode:
        raise UnavailableError(f"containers do not reach this machine's own addresses: {reached.stderr[-300:]}")
