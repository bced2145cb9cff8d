"""The set-up of the development environment; that it works through is shown by ./test itself, which starts with it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["build", "development", "girder_server", "torch", "workers"])
def test_lock_has_versions_and_hashes_but_no_address(name: str) -> None:
    lock = (REPOSITORY / "requirements" / f"{name}.txt").read_text()
    assert "://" not in lock
    versions = re.findall(r"^[a-z0-9].*", lock, flags=re.MULTILINE)
    assert len(versions) > 5
    hashed = re.findall(r"^([a-z0-9.-]+==\S+ .*\\)\n +--hash=sha256:[0-9a-f]{64}", lock, flags=re.MULTILINE)
    assert hashed == versions


@pytest.mark.parametrize("name", ["development", "girder_server", "workers"])
def test_lock_has_the_files_of_every_system(name: str) -> None:
    lock = (REPOSITORY / "requirements" / f"{name}.txt").read_text()
    for package in ("matplotlib", "numpy", "pillow", "scipy"):
        for hashes in re.findall(rf"^{package}==.*\n((?: +--hash=.*\n)+)", lock, flags=re.MULTILINE):
            assert hashes.count("--hash") > 10, package


def test_lock_leaves_torch_to_the_machine() -> None:
    lock = (REPOSITORY / "requirements" / "development.txt").read_text()
    assert re.findall(r"^(?:torch|triton|nvidia|cuda).*", lock, flags=re.MULTILINE) == []


def test_uv_is_told_what_pip_is_configured_to_use(tmp_path: Path) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text("[global]\nindex-url = file:///far\nfind-links =\n    /wheels\n    /more\ntimeout = 9\n")
    environment = {"PIP_CONFIG_FILE": str(configuration), "PIP_INDEX_URL": "file:///nearer", "UV_INDEX": "file:///mine"}
    environment["PIP_EXTRA_INDEX_URL"] = "file:///ignored"

    script = REPOSITORY / "scripts" / "settings_of_pip.py"
    result = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)

    settings = dict(line.removeprefix("export ").split("=", 1) for line in result.stdout.splitlines())
    assert settings["UV_DEFAULT_INDEX"] == "file:///nearer"
    assert settings["UV_FIND_LINKS"] == "/wheels,/more"
    assert "UV_INDEX" not in settings


def test_set_up_without_a_usable_python_says_what_to_install(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cat", "dirname", "mkdir"):
        tool = shutil.which(name)
        assert tool is not None
        (tools / name).symlink_to(tool)
    bash = shutil.which("bash")
    assert bash is not None
    script = tmp_path / "scripts" / "setup_environment.sh"
    script.parent.mkdir()
    shutil.copy(REPOSITORY / "scripts" / "setup_environment.sh", script)

    result = subprocess.run([bash, str(script)], env={"PATH": str(tools)}, capture_output=True, text=True, check=False)

    assert result.returncode == 1
    assert "No Python 3.10 to 3.14" in result.stderr
    assert "python3-venv" in result.stderr
    assert not (tmp_path / ".venv").exists()
