"""REGISTRY.md says what the workers say."""

from __future__ import annotations

import subprocess
import sys

from platform_driver import ROOT


def test_registry_is_up_to_date() -> None:
    command = [sys.executable, ROOT / "scripts" / "write_registry.py", "--check"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
