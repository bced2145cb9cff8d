"""Environments are made by uv, found again at once, and leave the host as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_module_folders
from tiny_module_folders import make_apart, make_module, make_wheel, start_host, wait_for_environment

from external_modules.child_environment import scrubbed_environment
from external_modules.environments.ready_record import python_of, read_record
from external_modules.environments.store import Environment, EnvironmentStore, default_home
from external_modules.environments.uv_program import find_uv
from external_modules.errors import ModuleEnvironmentError
from external_modules.module_folder import ModuleFolder

wheels = tiny_module_folders.wheels
module = tiny_module_folders.module
store = tiny_module_folders.store


def run(environment: Environment, code: str) -> str:
    """Run code in an environment and return what it prints."""
    command = [str(environment.python), "-I", "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=scrubbed_environment()
    ).stdout.strip()


def unlocked(environment: Environment) -> dict[str, str]:
    """Return what an environment tells of packages that were not locked."""
    record = read_record(environment.path)
    assert record
    return record.unlocked


def test_environment_is_made_and_the_host_stays_as_it_was(module: Path, store: EnvironmentStore) -> None:
    before = (list(sys.path), dict(os.environ), os.getcwd(), set(sys.modules) & {"tiny_one", "pip"})
    reports: list[tuple[float | None, str]] = []
    environment = store.ensure(ModuleFolder(module), report=lambda fraction, text: reports.append((fraction, text)))
    assert (list(sys.path), dict(os.environ), os.getcwd(), set(sys.modules) & {"tiny_one", "pip"}) == before

    assert run(environment, "import tiny_one; print(tiny_one.VALUE)") == "one"
    assert run(environment, "import sys; print(sys.prefix)") == str(environment.path)
    assert environment.path.parent == store.home / "environments"
    name, _, digits = environment.path.name.rpartition("-")
    assert name == "tiny_module" and len(digits) == 16 and int(digits, 16) >= 0
    assert store.find(ModuleFolder(module)) == environment and store.path_of(ModuleFolder(module)) == environment.path

    fractions = [fraction for fraction, _ in reports if fraction is not None]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len(fractions) >= 4
    assert any(text == "installing 1 packages (first use of tiny_module; about a minute)" for _, text in reports)


def test_ready_environment_is_found_in_milliseconds_without_uv(
    module: Path, store: EnvironmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = store.ensure(ModuleFolder(module))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("EXTERNAL_MODULES_UV", str(module / "no such program"))
    monkeypatch.delenv("UV_FIND_LINKS")
    reports: list[str] = []
    durations = []
    for _ in range(20):  # one of them is undisturbed by what else this machine does
        start = time.perf_counter()
        found = EnvironmentStore(store.home).ensure(ModuleFolder(module), lambda fraction, text: reports.append(text))
        durations.append(time.perf_counter() - start)
        assert found == environment
    assert min(durations) < 0.02
    assert not reports


def test_paths_with_spaces_and_unicode(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = tmp_path / "Bilder für Jürgen µm 图像"
    folder = strange / "räder"
    shutil.copytree(wheels, folder)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    module = make_module(strange / "ein Modul", folder / "tiny_one-1.0-py3-none-any.whl")
    environment = EnvironmentStore(strange / "da heim").ensure(ModuleFolder(module))
    assert environment.path.is_relative_to(strange)
    assert run(environment, "import tiny_one; print(tiny_one.VALUE)") == "one"


def test_host_with_a_python_that_misleads_children(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = tmp_path / "poison"
    poison.mkdir()
    for name in ("json", "tiny_one", "encodings"):
        (poison / f"{name}.py").write_text("raise SystemExit('a module of the host')")
    for name, value in (
        ("PYTHONHOME", str(tmp_path / "nowhere")),
        ("PYTHONPATH", str(poison)),
        ("CONDA_PREFIX", "/c"),
        ("VIRTUAL_ENV", "/v"),
        ("UV_PROJECT_ENVIRONMENT", "/u"),
        ("UV_PYTHON", "2.7"),
        ("UV_TARGET", str(tmp_path / "target")),
        ("UV_CACHE_DIR", str(tmp_path / "cache")),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(poison)
    store = EnvironmentStore(tmp_path / "home")
    assert run(store.ensure(ModuleFolder(module)), "import tiny_one; print(tiny_one.VALUE)") == "one"
    assert not (tmp_path / "target").exists() and not (tmp_path / "cache").exists()
    names = scrubbed_environment().keys()
    assert not {"PYTHONHOME", "PYTHONPATH", "CONDA_PREFIX", "VIRTUAL_ENV", "UV_PYTHON"} & names and "PATH" in names


def test_hosts_with_different_pythons_of_one_version_have_an_environment_each(
    module: Path, store: EnvironmentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for name in ("first", "second"):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / name)], check=True)
        monkeypatch.setenv("EXTERNAL_MODULES_PYTHON", str(python_of(tmp_path / name)))
        made.append(store.ensure(ModuleFolder(module)))
    assert made[0] != made[1]
    for name, environment in zip(("first", "second"), made, strict=True):
        monkeypatch.setenv("EXTERNAL_MODULES_PYTHON", str(python_of(tmp_path / name)))
        assert store.find(ModuleFolder(module)) == environment
    monkeypatch.delenv("EXTERNAL_MODULES_PYTHON")
    assert store.find(ModuleFolder(module)) in made  # any will do


@pytest.mark.parametrize("damage", ["python", "package", "ready", "cut ready", "folder"])
def test_broken_environment_is_remade(module: Path, store: EnvironmentStore, damage: str) -> None:
    environment = make_apart(store, module)
    packages = next(environment.path.rglob("tiny_one.py"))
    if damage == "python":
        environment.python.unlink()
    elif damage == "package":
        packages.unlink()
    elif damage == "ready":
        (environment.path / "ready.json").unlink()
        packages.unlink()  # it shares its content with uv's cache
        packages.write_text("raise ImportError('half written')")
    elif damage == "cut ready":
        ready = environment.path / "ready.json"
        ready.write_text(ready.read_text()[:100])
    else:
        shutil.rmtree(environment.path)
    assert store.find(ModuleFolder(module)) is None
    assert store.ensure(ModuleFolder(module)) == environment
    assert run(environment, "import tiny_one; print(tiny_one.VALUE)") == "one"


def test_broken_environment_that_is_in_use_stays_beside_the_new_one(module: Path, store: EnvironmentStore) -> None:
    with start_host(store.home, module, stay=True) as user:
        old = wait_for_environment(user)
        next(old.rglob("tiny_one.py")).unlink()
        new = store.ensure(ModuleFolder(module))
        assert new.path == old.with_name(f"{old.name}-2") and python_of(old).exists()
        assert store.ensure(ModuleFolder(module)) == new == store.find(ModuleFolder(module))
        assert store.prune() == []
        user.communicate()
    assert store.prune() == [old]
    assert {path.name for path in old.parent.iterdir()} == {new.path.name, f"{new.path.name}.in_use"}


def test_probe_that_fails_gives_its_output(tmp_path: Path, wheels: Path, store: EnvironmentStore) -> None:
    broken = make_wheel(wheels, "tiny_two", "1.0", "raise OSError('libtiny.so.7: cannot open shared object')\n")
    module = make_module(tmp_path / "module", broken)
    with pytest.raises(ModuleEnvironmentError, match=r"cannot be imported(?s:.*)libtiny\.so\.7"):
        store.ensure(ModuleFolder(module))
    assert store.find(ModuleFolder(module)) is None and not list(store.home.rglob("ready.json"))
    make_module(module, make_wheel(wheels, "tiny_two", "1.1", ""))
    assert store.ensure(ModuleFolder(module))


def test_damaged_cache_is_done_without(module: Path, store: EnvironmentStore) -> None:
    environment = make_apart(store, module)
    shutil.rmtree(environment.path)
    for cached in store.home.joinpath("cache").rglob("tiny_one.py"):
        cached.write_text("raise ImportError('no content')")
    with pytest.raises(ModuleEnvironmentError, match="no content"):
        store.ensure(ModuleFolder(module))
    assert store.ensure(ModuleFolder(module)) == environment
    assert run(environment, "import tiny_one; print(tiny_one.VALUE)") == "one"
    assert not list(store.home.rglob("*.suspect"))


def test_package_that_is_not_what_was_locked_is_refused(module: Path, store: EnvironmentStore, wheels: Path) -> None:
    make_wheel(wheels, "tiny_one", "1.0", "VALUE = 'something else'\n")
    with pytest.raises(ModuleEnvironmentError, match=r"Installing the packages of tiny_module failed(?s:.*)[Hh]ash"):
        store.ensure(ModuleFolder(module))
    assert not list(store.home.rglob("ready.json"))


def test_torch_comes_from_a_folder_of_wheels_without_touching_the_lock(
    tmp_path: Path, wheels: Path, store: EnvironmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXTERNAL_MODULES_TORCH_BACKEND", "cpu")
    make_wheel(wheels, "torch", "2.13.0+cpu", "import tiny_one\n", needs="tiny_two")
    make_wheel(wheels, "tiny_two", "1.0", "")
    make_wheel(wheels, "tiny_one", "9.0", "VALUE = 'nine'\n")
    module = make_module(
        tmp_path / "module",
        wheels / "tiny_one-1.0-py3-none-any.whl",
        torch={"version": "2.13.0"},
        import_probe=["torch"],
    )
    reports: list[str] = []
    environment = store.ensure(ModuleFolder(module), lambda fraction, text: reports.append(text))
    assert run(environment, "import torch; print(torch.tiny_one.VALUE)") == "one"
    assert any("installing torch 2.13.0" in text for text in reports)
    assert not list(environment.path.rglob("tiny_two.py"))  # which nobody locked
    elsewhere = EnvironmentStore(tmp_path / "elsewhere").ensure(ModuleFolder(module))
    assert unlocked(elsewhere) == unlocked(environment) and [*unlocked(environment)] == ["torch==2.13.0+cpu"]
    make_wheel(wheels, "torch", "2.13.0+cpu", "import tiny_one  # another build of the same name\n")
    another = EnvironmentStore(tmp_path / "another").ensure(ModuleFolder(module))
    assert unlocked(another).keys() == unlocked(environment).keys() and unlocked(another) != unlocked(environment)

    monkeypatch.setenv("EXTERNAL_MODULES_TORCH_BACKEND", "cu130")
    with pytest.raises(ModuleEnvironmentError, match=r"torch 2\.13\.0 for tiny_module, build cu130"):
        store.ensure(ModuleFolder(module))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch holds its CUDA libraries")
def test_cuda_libraries_come_with_torch(
    tmp_path: Path, wheels: Path, store: EnvironmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXTERNAL_MODULES_TORCH_BACKEND", "cu130")
    make_wheel(wheels, "torch", "2.13.0+cu130", "", needs="cuda_library")
    make_wheel(wheels, "cuda_library", "13.0", "")
    module = make_module(tmp_path / "module", torch={"version": "2.13.0"}, import_probe=["torch", "cuda_library"])
    assert [*unlocked(store.ensure(ModuleFolder(module)))] == ["cuda-library==13.0", "torch==2.13.0+cu130"]


def test_module_without_locked_packages(tmp_path: Path, store: EnvironmentStore) -> None:
    module = make_module(tmp_path / "module", import_probe=["json"])
    assert run(store.ensure(ModuleFolder(module)), "print(1)") == "1"


def test_named_python(module: Path, store: EnvironmentStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def name(path: Path) -> None:
        monkeypatch.setenv("EXTERNAL_MODULES_PYTHON", str(path))

    with_host = store.ensure(ModuleFolder(module))
    name(Path(sys.executable))
    assert store.ensure(ModuleFolder(module)) == with_host
    name(tmp_path / "none")
    with pytest.raises(ModuleEnvironmentError, match="none cannot be used"):
        store.ensure(ModuleFolder(module))
    name(Path(sys.executable))
    make_module(module, import_probe=["json"], python="<3")
    with pytest.raises(ModuleEnvironmentError, match=r"EXTERNAL_MODULES_PYTHON names .* needs <3"):
        store.ensure(ModuleFolder(module))


def test_python_that_uv_finds(tmp_path: Path, store: EnvironmentStore) -> None:
    minor = sys.version_info.minor
    module = make_module(tmp_path / "module", import_probe=["json"], python=f">=3.10,!=3.{minor}.*")
    try:
        environment = store.ensure(ModuleFolder(module))
    except ModuleEnvironmentError as error:
        assert "Downloading a Python" in str(error)
        pytest.skip("there is no second version of Python here")
    assert run(environment, "import sys; print(sys.version_info.minor)") != str(minor)
    assert store.find(ModuleFolder(module)) == environment


def test_no_python_fits(tmp_path: Path, store: EnvironmentStore) -> None:
    module = make_module(tmp_path / "module", import_probe=["json"], python=">=3.98")
    with pytest.raises(ModuleEnvironmentError, match=r"Downloading a Python >=3\.98 failed"):
        store.ensure(ModuleFolder(module))


def test_default_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert default_home().name == "external_modules"
    monkeypatch.setenv("EXTERNAL_MODULES_HOME", str(tmp_path / "elsewhere"))
    assert EnvironmentStore().home == tmp_path / "elsewhere"


def test_module_whose_version_of_a_package_a_real_index_has(
    tmp_path: Path, store: EnvironmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_OFFLINE", "UV_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    (tmp_path / "six.in").write_text("six\n")
    compiling = find_uv(store.home).run(
        ["pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate", tmp_path / "six.in"],
        lambda line: None,
    )
    if compiling.code != 0:
        pytest.skip(f"no package index can be reached: {compiling.tail(3)}")
    module = make_module(tmp_path / "module", import_probe=["six"])
    (module / "requirements.txt").write_text(compiling.output)
    assert run(store.ensure(ModuleFolder(module)), "import six; print(six.PY3)") == "True"
    assert "six" in json.loads(next(store.home.rglob("ready.json")).read_text())["packages"][0]
