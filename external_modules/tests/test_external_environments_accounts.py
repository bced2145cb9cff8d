"""Environments belong to one account, unless it shares them: then others use what they may not write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tiny_module_folders
from tiny_module_folders import SOURCES, make_apart, make_module

from external_modules.environments.store import EnvironmentStore
from external_modules.environments.uv_program import find_uv
from external_modules.module_folder import ModuleFolder

wheels = tiny_module_folders.wheels
module = tiny_module_folders.module


def test_home_is_for_its_account_alone_unless_it_was_made_by_hand(module: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    for name in ("own", "shared"):
        EnvironmentStore(tmp_path / name / "home" if name == "own" else tmp_path / name).ensure(ModuleFolder(module))
    if sys.platform != "win32":
        assert (tmp_path / "own" / "home").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o755


AS_ANOTHER_ACCOUNT = """
import os, subprocess, sys
from external_modules.environments.store import EnvironmentStore
from external_modules.errors import ModuleEnvironmentError
from external_modules.module_folder import ModuleFolder

store, folder = EnvironmentStore(sys.argv[1]), ModuleFolder(sys.argv[2])
other = ModuleFolder(sys.argv[3])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
if not os.access(sys.executable, os.X_OK):
    sys.exit(77)
environment = store.ensure(folder)
print(subprocess.run([environment.python, "-I", "-c", "import tiny_one; print(tiny_one.VALUE)"],
    capture_output=True, text=True, check=True).stdout.strip())
try:
    store.ensure(other)
except ModuleEnvironmentError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can become another account")
def test_another_account_uses_what_it_may_not_write(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> list[Path]:
        return sorted(path for path in home.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__")

    python = shutil.which("python3", path=os.defpath) or sys.executable  # not one in the home of root
    with tempfile.TemporaryDirectory() as shared:  # other accounts have no access to the test's own folder
        os.chmod(shared, 0o755)
        home = Path(shared) / "home"
        home.mkdir()
        monkeypatch.setenv("EXTERNAL_MODULES_UV", str(shutil.copy(find_uv(tmp_path).path, shared)))
        make_apart(EnvironmentStore(home), module, python)
        before = files()
        folder = shutil.copytree(module, Path(shared) / "module")
        other = make_module(Path(shared) / "other", import_probe=["json"])
        command = [python, "-c", AS_ANOTHER_ACCOUNT, str(home), str(folder), str(other)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SOURCES)}, cwd=shared
        )
        if done.returncode == 77:
            pytest.skip("another account may not start this Python")
        assert done.returncode == 0, done.stderr
        value, problem = done.stdout.splitlines()
        assert value == "one" and "See that you may write to" in problem and "EXTERNAL_MODULES_HOME" in problem
        assert files() == before
