"""Servers that several test files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running_workbench import RunningWorkbench, running_workbench


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorkbench]:
    """A workbench with this repository's workers and an empty data folder."""
    with running_workbench(tmp_path_factory.mktemp("workbench") / "data") as running:
        yield running
