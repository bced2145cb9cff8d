"""The catalogue: which modules lie below folders, and whether their environments are there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tiny_module_folders import SOURCES, make_module, make_wheel, use_only

from external_modules.catalogue import read_catalogue, size_of, unshared_size_of, usual_folders
from external_modules.environments.store import EnvironmentStore
from external_modules.errors import InvalidModuleError


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only package that there is."""
    use_only(tmp_path / "wheels", monkeypatch)
    return make_wheel(tmp_path / "wheels", "tiny_one", "1.0", "", padding=50_000)


def test_entries_tell_what_modules_are_and_whether_they_are_ready(tmp_path: Path, wheel: Path) -> None:
    folder = tmp_path / "modules Ω"
    make_module(folder / "second", wheel, name="second", segments="nuclei", licence="BSD-3-Clause")
    make_module(folder / "first", wheel, name="first", torch={"version": "2.13.0"})
    make_module(folder / "broken", wheel, version=3)
    (folder / "no module").mkdir()
    (folder / "file.txt").write_text("")
    store = EnvironmentStore(tmp_path / "home")

    broken, first, second = read_catalogue([folder], store)
    assert [broken.name, first.name, second.name] == ["broken", "first", "second"]
    assert broken.folder is None and '"version" is 3' in broken.problem
    assert second.environment is None and not (tmp_path / "home").exists()
    assert second.folder
    environment = store.ensure(second.folder)

    entries = {entry.name: json.loads(json.dumps(entry.as_json())) for entry in read_catalogue([folder], store)}
    size = entries["second"].pop("environment_bytes")
    assert 50_000 < size == size_of(environment.path)
    assert entries["second"] == {
        "name": "second",
        "version": "0.1.0",
        "title": "Tiny",
        "segments": "nuclei",
        "licence": "BSD-3-Clause",
        "python": ">=3.10",
        "torch": None,
        "folder": str(folder / "second"),
        "ready": True,
        "environment": str(environment.path),
        "problem": None,
    }
    assert (entries["first"]["ready"], entries["first"]["torch"]) == (False, "2.13.0")
    assert entries["broken"]["ready"] is False and "version" in entries["broken"]["problem"]


def test_the_first_of_two_with_one_name_counts(tmp_path: Path, wheel: Path) -> None:
    mine = make_module(tmp_path / "mine" / "tiny_module", wheel)
    make_module(tmp_path / "others" / "tiny_module", wheel)
    (entry,) = read_catalogue([mine.parent, tmp_path / "others"], EnvironmentStore(tmp_path))
    assert entry.path == mine


AS_ANOTHER_ACCOUNT = """
import os, sys
from pathlib import Path
from external_modules.catalogue import read_catalogue
from external_modules.environments.store import EnvironmentStore
from external_modules.module_folder import ModuleFolder
folder = Path(sys.argv[1])
ModuleFolder(folder / "tiny_module")  # imports what this Python lets only its owner read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print([entry.name for entry in read_catalogue([folder], EnvironmentStore(folder / "home"))])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="rights of files")
def test_a_folder_that_may_not_be_looked_into_hides_no_other(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as place:  # other accounts cannot look into pytest's
        os.chmod(place, 0o755)
        make_module(Path(place, "tiny_module"), wheel)
        Path(place, "private").mkdir(mode=0)
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_ACCOUNT, place],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
        )
    assert done.stdout == "['tiny_module']\n", done.stderr


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModuleError, match="nowhere cannot be read"):
        read_catalogue([tmp_path / "nowhere"], EnvironmentStore(tmp_path))


def test_usual_folders_are_those_in_which_nodes_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside_the_package = Path(__file__).resolve().parents[1] / "modules"
    monkeypatch.setenv("EXTERNAL_MODULES_PATH", str(tmp_path))
    assert usual_folders() == [beside_the_package]
    (tmp_path / "modules").mkdir()
    assert usual_folders() == [tmp_path / "modules", beside_the_package]
    monkeypatch.setenv("EXTERNAL_MODULES_PATH", str(beside_the_package.parent))
    assert usual_folders() == [beside_the_package]


def test_sizes_tell_shared_files_from_others(tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "own").write_bytes(bytes(1000))
    (tmp_path / "cached").write_bytes(bytes(300))
    os.link(tmp_path / "cached", folder / "shared")
    assert (size_of(folder), unshared_size_of(folder)) == (1300, 1000)
    assert size_of(tmp_path / "missing") == 0
