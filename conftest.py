"""What tests of several packages need: a real Girder server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent
GIRDER_ENVIRONMENT = REPOSITORY / ".cache" / "girder_server" / "venv"


@pytest.fixture(scope="session")
def girder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running Girder server: its `apiUrl`, and `user`, `token`, `otherUser`, `otherToken` of two users without rights
    on each other's folders. One server serves the whole session, so a test makes its own folders in it.
    """
    if not (GIRDER_ENVIRONMENT / "set_up_from").exists():
        pytest.skip("the Girder server is not set up: run scripts/setup_girder_server.sh")
    log = tmp_path_factory.mktemp("girder_server") / "log.txt"
    command = [str(GIRDER_ENVIRONMENT / "bin" / "python"), str(REPOSITORY / "tests" / "girder_server.py")]
    with (
        log.open("wb") as log_file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log_file, text=True) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"the Girder server did not start: {log.read_text()}")
        yield json.loads(line)
        process.stdin.close()  # ends it
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
