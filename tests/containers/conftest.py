"""The two images, built on a stand-in base by the build script from a copy of the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import stand_in_base
from container_platform import IMAGE_TAG
from platform_driver import ROOT

_NOT_OF_THE_TREE = shutil.ignore_patterns(".venv", ".cache", ".git", "results", "__pycache__", "*_cache", ".hypothesis")
_REPORT = pytest.StashKey[list[str]]()
NO_HUB = "http://127.0.0.1:9"  # nothing listens there


@dataclass(frozen=True)
class Images:
    """The images, and the tree that they were built from.

    Attributes:
        tree: a copy of the repository.
        output: what the build script printed.
    """

    tree: Path
    output: str

    def build(self, *arguments: str) -> str:
        """Run the build script of the tree and return what it prints."""
        bases = [f"BASE_IMAGE={stand_in_base.BUILD_IMAGE}", f"RUNTIME_IMAGE={stand_in_base.RUNTIME_IMAGE}"]
        options = [part for value in (*bases, "TORCH_BUILD=cpu") for part in ("--build-arg", value)]
        return run_build_script(self.tree, *options, *arguments).stdout


def run_build_script(tree: Path, *arguments: str, succeeds: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a tree's build script; stdout holds its errors, too."""
    finished = subprocess.run(
        [tree / "build_machine_learning_workers.sh", *arguments],
        env={**os.environ, "BUILD_NETWORK": "host", "IMAGE_TAG": IMAGE_TAG},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (finished.returncode == 0) == succeeds, finished.stdout[-5000:]
    return finished


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """The images as they are built where the hub of the published models is out of reach."""
    try:
        stand_in_base.check_engine()
        stand_in_base.make_bases()
    except stand_in_base.UnavailableError as error:
        pytest.skip(f"no images can be built here: {error}")
    tree = tmp_path_factory.mktemp("images") / "tree"
    shutil.copytree(ROOT, tree, ignore=_NOT_OF_THE_TREE)
    output = Images(tree, "").build("--build-arg", f"HF_ENDPOINT={NO_HUB}")
    yield Images(tree, output)
    # Only the names go: the layers stay in the engine's cache.
    names = [f"annotations/condensatenet_{kind}:{IMAGE_TAG}" for kind in ("predict", "train")]
    subprocess.run(["docker", "rmi", "--no-prune", *names], check=True, capture_output=True)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> list[str]:
    """Lines that are printed below the results of all tests."""
    return request.config.stash[_REPORT]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[_REPORT]:
        terminalreporter.section("container images")
        for line in config.stash[_REPORT]:
            terminalreporter.write_line(line)
