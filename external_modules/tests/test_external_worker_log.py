"""The log of a module's workers is this account's own, and elsewhere if it may not write where it should be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_module_folders import SOURCES

from external_modules.calls.worker_log import LogFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rights of files")

AS_ANOTHER_ACCOUNT = """
import os, sys
from pathlib import Path
from external_modules.calls.worker_log import LogFile
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
log = LogFile(Path(sys.argv[1]))
log.append(b"output\\n")
log.append(b"more\\n")
print(log.path)
"""


def test_log_is_for_its_account_alone(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "logs" / "tiny.log")
    log.append(b"output\n")
    assert log.path.read_bytes() == b"output\n" and stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_log_of_an_account_that_may_not_write_there(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o555)
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER_ACCOUNT, str(folder / "tiny.log")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    first, *lines = path.read_text().splitlines()
    assert path.parent.parent != folder.parent and path.name == "tiny.log" and lines == ["output", "more"]
    assert first.startswith(f"This account may not write to {folder / 'tiny.log'}: ")
    path.unlink()
    path.parent.rmdir()
