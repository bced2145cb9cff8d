"""Module folders whose environments hold one or two wheels of a few bytes, and processes that make them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import external_modules
from external_modules.environments.ready_record import python_of
from external_modules.environments.store import Environment, EnvironmentStore

SOURCES = Path(external_modules.__file__).resolve().parent.parent

_ENSURE = """
import os, sys
from external_modules.environments.store import EnvironmentStore
from external_modules.module_folder import ModuleFolder

def report(fraction, text):
    print("report", fraction, text, flush=True)
    if os.environ.get("PAUSE_AT", "nothing") in text:
        sys.stdin.read()

environment = EnvironmentStore(sys.argv[1]).ensure(ModuleFolder(sys.argv[2]), report)
print("ready", environment.path, flush=True)
if sys.argv[3:]:
    sys.stdin.read()
"""


def make_wheel(folder: Path, name: str, version: str, source: str, *, padding: int = 0, needs: str = "") -> Path:
    """Write a wheel with one module.

    Args:
        folder: where to; is made.
        name: of the package and the module.
        version: of it.
        source: the module's text.
        padding: bytes of a further file, which do not compress.
        needs: a package that it asks for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    information = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source.encode(),
        f"{information}/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            + (f"Requires-Dist: {needs}\n" if needs else "")
        ).encode(),
        f"{information}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if padding:
        files[f"{name}_padding.bin"] = os.urandom(padding)
    record = "".join(f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in files.items())
    files[f"{information}/RECORD"] = f"{record}{information}/RECORD,,\n".encode()
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return wheel


def use_only(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let packages come from a folder of wheels alone, whatever is set on this machine; there is no network."""
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_", "EXTERNAL_MODULES_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))


def lock_line(wheel: Path) -> str:
    """Return the line of a lock that asks for a wheel."""
    name, version, *_ = wheel.name.split("-")
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def make_module(folder: Path, *wheels: Path, **description: object) -> Path:
    """Write a module's folder whose lock asks for wheels.

    Args:
        folder: where to; is made.
        wheels: what its environment holds.
        description: replaces fields of its module.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "name": "tiny_module",
        "version": "0.1.0",
        "title": "Tiny",
        "segments": "nothing",
        "licence": "MIT",
        "import_probe": [wheel.name.split("-")[0] for wheel in wheels],
        "python": ">=3.10",
        "torch": None,
    }
    (folder / "module.json").write_text(json.dumps({**whole, **description}), encoding="utf-8")
    (folder / "pyproject.toml").write_text('[project]\nname = "tiny-module"\nversion = "0"\n', encoding="utf-8")
    (folder / "requirements.txt").write_text("".join(lock_line(wheel) for wheel in wheels), encoding="utf-8")
    return folder


def start_host(
    home: Path,
    module: Path,
    *,
    stay: bool = False,
    variables: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> subprocess.Popen[str]:
    """Start a process that prints "report FRACTION TEXT" lines while it makes an environment, then "ready PATH".

    Args:
        home: of the store.
        module: the module's folder.
        stay: keep the process alive, using the environment, until its stdin closes.
        variables: are set for it. With PAUSE_AT it stops where it reports such a text, until its stdin closes.
        python: what it runs.
    """
    return subprocess.Popen(
        [python, "-c", _ENSURE, str(home), str(module), *(["stay"] if stay else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(SOURCES), "PYTHONIOENCODING": "utf-8", **(variables or {})},
    )


def wait_for_environment(host: subprocess.Popen[str]) -> Path:
    """Return the path that a process of `start_host` tells."""
    assert host.stdout
    while not (line := host.stdout.readline()).startswith("ready "):
        assert line
    return Path(line.removeprefix("ready ").strip())


def make_apart(store: EnvironmentStore, module: Path, python: str = sys.executable) -> Environment:
    """Let another process make an environment, and end."""
    with start_host(store.home, module, python=python) as host:
        path = wait_for_environment(host)
    return Environment(path, python_of(path))


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that packages come from: a folder with tiny_one, and no network."""
    folder = tmp_path / "wheels"
    use_only(folder, monkeypatch)
    make_wheel(folder, "tiny_one", "1.0", "VALUE = 'one'\n")
    return folder


@pytest.fixture
def module(tmp_path: Path, wheels: Path) -> Path:
    """A module that needs tiny_one."""
    return make_module(tmp_path / "module", wheels / "tiny_one-1.0-py3-none-any.whl")


@pytest.fixture
def store(tmp_path: Path) -> EnvironmentStore:
    """A store without environments."""
    return EnvironmentStore(tmp_path / "home")
