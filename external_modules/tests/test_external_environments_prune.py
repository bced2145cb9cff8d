"""Pruning removes the environments that nobody needs, and no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_module_folders
from tiny_module_folders import make_apart, make_module, make_wheel, start_host, wait_for_environment

from external_modules.environments.store import EnvironmentStore
from external_modules.module_folder import ModuleFolder

wheels = tiny_module_folders.wheels
module = tiny_module_folders.module
store = tiny_module_folders.store


def change_record(path: Path, **fields: object) -> None:
    """Change what an environment's ready.json says."""
    ready = path / "ready.json"
    ready.write_text(json.dumps({**json.loads(ready.read_text()), **fields}))


def test_changed_lock_makes_another_environment_and_the_old_one_goes_when_nobody_uses_it(
    module: Path, store: EnvironmentStore, wheels: Path
) -> None:
    with start_host(store.home, module, stay=True) as user:
        old = wait_for_environment(user)
        newer = make_wheel(wheels, "tiny_one", "2.0", "")
        make_module(module, newer)
        assert store.find(ModuleFolder(module)) is None
        new = store.ensure(ModuleFolder(module))
        assert new.path != old and list(new.path.rglob("tiny_one-2.0.dist-info"))

        assert store.prune() == [] and (old / "ready.json").is_file()  # in use
        user.communicate()
        assert user.returncode == 0
    assert store.prune() == [old] and not old.exists()
    assert [path.name for path in old.parent.iterdir() if path.name.startswith(old.name)] == []
    assert store.prune() == [] and store.find(ModuleFolder(module)) == new


def test_mark_of_a_killed_process_counts_no_more(module: Path, store: EnvironmentStore, wheels: Path) -> None:
    with start_host(store.home, module, stay=True) as user:
        path = wait_for_environment(user)
        make_module(module, make_wheel(wheels, "tiny_one", "2.0", ""))
        assert store.prune() == []
        user.kill()
    assert store.prune() == [path]


def test_prune_keeps_what_is_asked_for_and_removes_what_is_half_made(
    module: Path, store: EnvironmentStore, tmp_path: Path
) -> None:
    environment = make_apart(store, module)
    folder = ModuleFolder(shutil.move(module, tmp_path / "moved"))
    half = store.home / "environments" / "tiny_module-0123456789abcdef"
    half.mkdir()
    (half / "pyvenv.cfg").write_text("home = /\n")
    (store.home / "environments" / "my notes").mkdir()
    assert store.prune([folder]) == [half]
    assert store.prune() == [environment.path]  # where it was made for, nothing is any more
    assert (store.home / "environments" / "my notes").is_dir()


def test_prune_keeps_what_a_module_out_of_reach_asks_for(store: EnvironmentStore, wheels: Path, tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    module = make_module(drive / "modules" / "tiny", wheels / "tiny_one-1.0-py3-none-any.whl")
    environment = make_apart(store, module)
    away = drive.rename(tmp_path / "away")
    assert store.prune() == []
    (drive / "modules").mkdir(parents=True)  # where the drive is mounted
    assert store.prune() == []
    shutil.rmtree(drive)
    away.rename(drive)
    description = (module / "module.json").read_text()
    (module / "module.json").write_text("{")  # being edited
    assert store.prune() == []
    (module / "module.json").write_text(description)
    make_module(drive / "modules" / "other")
    shutil.rmtree(module)
    assert store.prune() == [environment.path]


@pytest.mark.parametrize(
    ("changes", "is_replaced"),
    [
        ({"uv": "0.9.8"}, True),
        ({"python": [3, 8, 1], "abi": ".cpython-38.so"}, True),  # this Python, before it was updated
        ({"made": 2e9}, False),  # newer
        ({"made_with": "/other/python"}, False),
        ({"torch_backend": "cu130"}, False),
        ({"platform": "plan9-vax"}, False),
    ],
)
def test_prune_removes_what_a_newer_environment_replaces(
    module: Path, store: EnvironmentStore, changes: dict[str, object], is_replaced: bool
) -> None:
    environment = make_apart(store, module)
    other = environment.path.with_name("tiny_module-0123456789abcdef")
    shutil.copytree(environment.path, other, symlinks=True)
    change_record(other, **{"made": 1e9, **changes})
    found = store.find(ModuleFolder(module))
    assert found
    if "made" in changes:
        assert found.path == other and store.prune() == [environment.path]
    else:
        assert found == environment and store.prune() == ([other] if is_replaced else [])


def test_prune_keeps_what_rests_on_a_python_out_of_reach(module: Path, store: EnvironmentStore, tmp_path: Path) -> None:
    environment = make_apart(store, module)
    change_record(environment.path, base_folder=str(tmp_path / "drive" / "python"))
    assert store.find(ModuleFolder(module)) is None and store.prune() == []
    change_record(environment.path, base_folder=str(tmp_path), packages=["missing"])
    assert store.prune() == [environment.path]
