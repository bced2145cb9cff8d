"""Images for the tests of this folder, and a report of what was measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stand_in_base
import worker_images
from worker_images import Images

_REPORT = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """Both images."""
    try:
        stand_in_base.check_engine()
        stand_in_base.make_bases()
        built = worker_images.build_images(tmp_path_factory.mktemp("images") / "tree")
        worker_images.check_network()
    except stand_in_base.UnavailableError as error:
        pytest.skip(f"no images can be built and run here: {error}")
    yield built
    worker_images.remove_names()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> list[str]:
    """Lines that are printed below the results of all tests."""
    return request.config.stash[_REPORT]


def pytest_configure(config: pytest.Config) -> None:
    """Begin the report."""
    config.stash[_REPORT] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the report."""
    if config.stash[_REPORT]:
        terminalreporter.section("container images")
        for line in config.stash[_REPORT]:
            terminalreporter.write_line(line)
