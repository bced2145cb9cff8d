"""A package beside a module is built into the module's environment, without a network, and anew when it changes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tiny_module_folders import make_module, make_wheel, use_only

from external_modules.environments.store import EnvironmentStore
from external_modules.errors import InvalidModuleError, ModuleEnvironmentError
from external_modules.module_folder import ModuleFolder

BACKEND = """
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    files = {name: open(os.path.join("src", name)).read() for name in os.listdir("src") if name.endswith(".py")}
    files["near-1.dist-info/METADATA"] = "Metadata-Version: 2.1\\nName: near\\nVersion: 1\\nRequires-Dist: missing\\n"
    files["near-1.dist-info/WHEEL"] = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    files["near-1.dist-info/RECORD"] = "".join(f"{name},,\\n" for name in [*files, "near-1.dist-info/RECORD"])
    os.mkdir("build")
    os.mkdir("src/near.egg-info")
    open("src/near.egg-info/left.txt", "w").close()
    with zipfile.ZipFile(os.path.join(folder, "near-1-py3-none-any.whl"), "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return "near-1-py3-none-any.whl"
"""
PROJECT = """
[build-system]
requires = ["tiny_backend"]
build-backend = "tiny_backend"

[project]
name = "near"
version = "1"
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of a package, with a path that could mean something else to uv."""
    folder = tmp_path / "beside it [new]; Ω" / "near"
    (folder / "src" / "__pycache__").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "src" / "near.py").write_text("answer = 1\n")
    return folder


@pytest.fixture
def module(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that takes it from there."""
    wheel = make_wheel(tmp_path / "wheels", "tiny_backend", "1.0", BACKEND)
    use_only(wheel.parent, monkeypatch)
    path = os.path.relpath(package, tmp_path / "module")
    return make_module(tmp_path / "module", wheel, import_probe=["near"], local_packages=[Path(path).as_posix()])


def answer_of(python: Path) -> str:
    done = subprocess.run([python, "-I", "-c", "import near; print(near.answer, near.__file__)"], capture_output=True)
    return done.stdout.decode()


def test_package_is_copied_and_made_anew_when_it_changes(tmp_path: Path, module: Path, package: Path) -> None:
    store = EnvironmentStore(tmp_path / "home")
    before = sorted(package.rglob("*"))
    first = store.ensure(ModuleFolder(module))
    assert answer_of(first.python).startswith("1 ") and str(first.path) in answer_of(first.python)
    assert sorted(package.rglob("*")) == before and not (first.path / "local_packages").exists()
    (package / "src" / "near.py").write_text("answer = 2\n")  # no newer pyproject.toml
    second = store.ensure(ModuleFolder(module))
    assert second.path != first.path
    assert (answer_of(first.python)[:2], answer_of(second.python)[:2]) == ("1 ", "2 ")
    (package / "src" / "near.py").unlink()
    with pytest.raises(ModuleEnvironmentError, match="cannot be imported"):
        store.ensure(ModuleFolder(module))


def test_what_does_not_belong_to_the_package_changes_nothing(module: Path, package: Path) -> None:
    digests = [ModuleFolder(module).digest]
    (package / "src" / "__pycache__" / "near.cpython-311.pyc").write_bytes(b"compiled")
    (package / "tests.txt").write_text("not in src")
    assert ModuleFolder(module).digest == digests[0]
    (package / "pyproject.toml").write_text(PROJECT + "\n")
    digests.append(ModuleFolder(module).digest)
    (package / "src" / "near.py").rename(package / "src" / "far.py")
    digests.append(ModuleFolder(module).digest)
    assert len(set(digests)) == 3


def test_a_failing_build_is_told(tmp_path: Path, module: Path, package: Path) -> None:
    (package / "pyproject.toml").write_text(PROJECT.replace("tiny_backend", "other_backend"))
    with pytest.raises(ModuleEnvironmentError, match="Installing near for tiny_module"):
        EnvironmentStore(tmp_path / "home").ensure(ModuleFolder(module))


def test_a_package_that_is_not_there(module: Path, package: Path) -> None:
    package.rename(package.with_name("far"))
    with pytest.raises(InvalidModuleError, match=r"module\.json: the module needs the package near.*Copy it there"):
        ModuleFolder(module)


@pytest.mark.parametrize("named", ["../near", [""], [1], {}])
def test_wrong_field(tmp_path: Path, named: object) -> None:
    module = make_module(tmp_path / "module", import_probe=["os"], local_packages=named)
    with pytest.raises(InvalidModuleError, match=r'module\.json: "local_packages" is .* must list folders'):
        ModuleFolder(module)
