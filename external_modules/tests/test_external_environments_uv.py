"""The program uv is found, or installed into a private folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from tiny_module_folders import SOURCES, make_module, make_wheel, use_only

from external_modules.environments.store import EnvironmentStore
from external_modules.environments.uv_program import find_uv
from external_modules.environments.uv_settings import uv_environment
from external_modules.errors import ModuleEnvironmentError
from external_modules.module_folder import ModuleFolder

FIND = """
import sys
from pathlib import Path
from external_modules.environments.uv_program import find_uv
print(find_uv(Path(sys.argv[1]), lambda fraction, text: print("report", text, flush=True)).path)
"""


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A Python beside which there is no uv, and which has no pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    return tmp_path / "bare" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


@pytest.fixture
def python_with_pip(bare_python: Path) -> Path:
    """A Python beside which there is no uv, and which has pip."""
    packages = next((bare_python.parent.parent).rglob("site-packages"))
    (packages / "more.pth").write_text(sysconfig.get_path("purelib"))
    return bare_python


def start_finding(python: Path, home: Path, **variables: str) -> subprocess.Popen[str]:
    """Start a host that looks for uv."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EXTERNAL_MODULES_")}
    return subprocess.Popen(
        [str(python), "-c", FIND, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "PATH": "", "PYTHONPATH": str(SOURCES), **variables},
    )


def fake_uv(folder: Path, version: str) -> Path:
    """Write a program that says that it is uv."""
    folder.mkdir()
    program = folder / "uv"
    program.write_text(f"#!/bin/sh\necho 'uv {version}'\n")
    program.chmod(0o755)
    return program


def test_named_uv_must_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTERNAL_MODULES_UV", str(tmp_path / "missing"))
    with pytest.raises(ModuleEnvironmentError, match=r"EXTERNAL_MODULES_UV names .*missing, which does not work"):
        find_uv(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_old_uv_is_refused_where_named_and_passed_over_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = fake_uv(tmp_path / "old", "0.4.30"), fake_uv(tmp_path / "new", "99.0.1")
    monkeypatch.setenv("PATH", os.pathsep.join(["old", str(old.parent), str(new.parent)]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXTERNAL_MODULES_UV", raising=False)
    assert find_uv(tmp_path).path == new and find_uv(tmp_path).version == (99, 0, 1)
    monkeypatch.setenv("PATH", os.pathsep.join(["new", ".", ""]))
    assert find_uv(tmp_path).version != (
        99,
        0,
        1,
    )  # only by an absolute folder, never from where the host happens to be
    monkeypatch.setenv("EXTERNAL_MODULES_UV", str(old))
    with pytest.raises(ModuleEnvironmentError, match=r"is version 0\.4\.30"):
        find_uv(tmp_path)


def test_host_without_pip_is_told_how_to_get_uv(tmp_path: Path, bare_python: Path) -> None:
    with start_finding(bare_python, tmp_path / "home") as host:
        _, trouble = host.communicate()
    last = trouble.strip().splitlines()[-1]
    assert "has no pip" in last and "Install uv" in last and "EXTERNAL_MODULES_UV" in last


def test_installing_uv_without_network(tmp_path: Path, python_with_pip: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    with start_finding(python_with_pip, tmp_path / "home", PIP_NO_INDEX="0", **nowhere, PIP_FIND_LINKS="") as host:
        _, trouble = host.communicate()
    assert "Installing the program uv failed: no package index could be reached. Connect this computer" in trouble
    assert not list(tmp_path.joinpath("home").rglob("uv*.exe")) and not list(tmp_path.joinpath("home").rglob("bin"))


def test_uv_is_installed_once_and_kept(tmp_path: Path, python_with_pip: Path) -> None:
    home = tmp_path / "home with space"
    with start_finding(python_with_pip, home) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        time.sleep(0.5)
        killed.kill()
    hosts = [start_finding(python_with_pip, home) for _ in range(2)]
    answers = [host.communicate() for host in hosts]
    if any("no package index could be reached" in trouble for _, trouble in answers):
        pytest.skip("no package index can be reached")
    assert [host.returncode for host in hosts] == [0, 0], answers
    (path,) = {output.splitlines()[-1] for output, _ in answers}
    assert Path(path).parent.parent.parent == home / "uv" and Path(path).is_file()
    with start_finding(python_with_pip, home, PIP_NO_INDEX="1") as later:
        output, _ = later.communicate()
    assert output.splitlines() == [path]


def test_settings_of_pip_reach_uv_unless_uv_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_only(tmp_path / "own wheels", monkeypatch)
    configuration = tmp_path / "pip.ini"
    configuration.write_text(
        "[global]\nindex-url = http://mirror.example/simple\nfind-links = \n    /wheels\n    /more\n"
        "[install]\nextra-index-url = http://second.example/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    environment = uv_environment(tmp_path / "cache")
    assert environment["UV_DEFAULT_INDEX"] == "http://mirror.example/simple"
    assert environment["UV_INDEX"] == "http://second.example/simple"
    assert environment["UV_FIND_LINKS"] == str(tmp_path / "own wheels")
    assert environment["UV_CACHE_DIR"] == str(tmp_path / "cache")
    monkeypatch.delenv("UV_FIND_LINKS")
    assert uv_environment(tmp_path)["UV_FIND_LINKS"] == "/wheels,/more"
    monkeypatch.setenv("UV_INDEX_URL", "http://own.example/simple")
    assert "UV_DEFAULT_INDEX" not in uv_environment(tmp_path)


def test_update_of_uv_costs_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "wheels", "tiny_one", "1.0", "")
    use_only(wheel.parent, monkeypatch)
    module = ModuleFolder(make_module(tmp_path / "module", wheel))
    store = EnvironmentStore(tmp_path / "home")
    made = store.ensure(module)
    ready = made.path / "ready.json"
    ready.write_text(ready.read_text().replace('"uv": "', '"uv": "0.9.8+'))
    assert store.ensure(module) == made
