"""The log of a module's workers is this account's own, and elsewhere if it may not write where it should be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tiny_module_folders import SOURCES

from external_modules.calls.worker_log import LogFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rights of files")

INTERRUPTED = """
import signal, sys
from pathlib import Path
from external_modules.calls.worker_log import LogFile
log = LogFile(Path(sys.argv[1]))
signal.signal(signal.SIGALRM, lambda number, frame: log.note("in between"))
for number in range(1000):
    signal.setitimer(signal.ITIMER_REAL, 0.00001 * (number % 10 + 1))
    log.append(b"output\\n")
    signal.setitimer(signal.ITIMER_REAL, 0)
"""

AS_ANOTHER_ACCOUNT = """
import os, sys
from pathlib import Path
from external_modules.calls.worker_log import LIMIT, LogFile
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
log = LogFile(Path(sys.argv[1]))
log.append(b"output\\n")
log.append(b"more\\n")
if sys.argv[2:]:
    log.append(bytes(LIMIT))
    log.append(b"after")
print(log.path)
"""


def test_log_is_for_its_account_alone(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "logs" / "tiny.log")
    log.append(b"output\n")
    assert log.path.read_bytes() == b"output\n" and stat.S_IMODE(log.path.stat().st_mode) == 0o600


def run(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_line_may_come_in_the_middle_of_another_of_the_same_thread(tmp_path: Path) -> None:
    run(INTERRUPTED, tmp_path / "tiny.log")
    text = (tmp_path / "tiny.log").read_text()
    assert text.count("output\n") == 1000 and text.count(" in between\n") > 3


def test_log_stays_where_it_is_if_it_cannot_be_renamed() -> None:
    with tempfile.TemporaryDirectory() as folder:  # other accounts cannot look into pytest's
        path = Path(folder, "tiny.log")
        path.touch()
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
        path.parent.chmod(0o555)
        assert run(AS_ANOTHER_ACCOUNT, path, "rename") == str(path)
        assert path.read_bytes().endswith(b"\0after") and [*path.parent.iterdir()] == [path]
        path.parent.chmod(0o700)


def test_log_of_an_account_that_may_not_write_there(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o555)
    path = Path(run(AS_ANOTHER_ACCOUNT, folder / "tiny.log"))
    first, *lines = path.read_text().splitlines()
    assert path.parent.parent != folder.parent and path.name == "tiny.log" and lines == ["output", "more"]
    assert first.startswith(f"This account may not write to {folder / 'tiny.log'}: ")
    path.unlink()
    path.parent.rmdir()
