"""A module's folder is read, and what is wrong with it is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_module_folders import make_module, make_wheel

from external_modules.errors import ExternalModuleError, InvalidModuleError, WorkerError
from external_modules.module_folder import ModuleFolder


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module that is as it should be."""
    wheels = [make_wheel(tmp_path, name, "1.0", "") for name in ("tiny_one", "Tiny.Two")]
    return make_module(tmp_path / "module", *wheels, import_probe=["tiny_one", "os.path"], torch={"version": "2.13.0"})


def test_folder_is_read(module: Path) -> None:
    folder = ModuleFolder(str(module))
    assert (folder.path, folder.name, folder.version, folder.title) == (module, "tiny_module", "0.1.0", "Tiny")
    assert (folder.segments, folder.licence, folder.python, folder.torch) == ("nothing", "MIT", ">=3.10", "2.13.0")
    assert folder.import_probe == ("tiny_one", "os.path") and folder.locked_names == ("tiny-one", "tiny-two")
    assert folder.lock == module / "requirements.txt"


def test_digest_changes_with_what_is_installed_and_nothing_else(module: Path) -> None:
    digests = [ModuleFolder(module).digest]
    description = json.loads((module / "module.json").read_text())
    (module / "module.json").write_text(json.dumps({**description, "title": "Another"}))
    (module / "worker.py").write_text("pass\n")
    content = (module / "requirements.txt").read_bytes()
    (module / "requirements.txt").write_bytes(content.replace(b"\n", b"\r\n"))
    assert ModuleFolder(module).digest == digests[0]
    (module / "requirements.txt").write_bytes(content + b"# more\n")
    digests.append(ModuleFolder(module).digest)
    (module / "pyproject.toml").write_text("")
    digests.append(ModuleFolder(module).digest)
    (module / "module.json").write_text(json.dumps({**description, "torch": None}))
    digests.append(ModuleFolder(module).digest)
    assert len(set(digests)) == 4


@pytest.mark.parametrize("name", ["module.json", "pyproject.toml", "requirements.txt", ""])
def test_missing_file(module: Path, name: str) -> None:
    if name:
        (module / name).unlink()
    else:
        shutil.rmtree(module)
    with pytest.raises(InvalidModuleError, match=f"is no module: it has no {name}"):
        ModuleFolder(module)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "../up", "name"),
        ("name", None, "name"),
        ("version", 1, "version"),
        ("title", None, "title"),
        ("import_probe", [], "import_probe"),
        ("test_arguments", [14], "test_arguments"),
        ("import_probe", "skimage", "import_probe"),
        ("import_probe", ["os; print(1)"], "import_probe"),
        ("python", "3.10", "python"),
        ("python", ">=3.10 or so", "python"),
        ("torch", {"version": "--index-url x"}, "torch"),
        ("torch", "2.13.0", "torch"),
    ],
)
def test_wrong_field(module: Path, field: str, value: object, said: str) -> None:
    description = json.loads((module / "module.json").read_text())
    (module / "module.json").write_text(json.dumps({**description, field: value}))
    with pytest.raises(InvalidModuleError, match=rf'module\.json: "{said}" is .*such as|module\.json: "{said}" is .*:'):
        ModuleFolder(module)


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_description_that_is_no_json_object(module: Path, text: str) -> None:
    (module / "module.json").write_text(text)
    with pytest.raises(InvalidModuleError, match=r"module\.json"):
        ModuleFolder(module)


@pytest.mark.parametrize(
    "line",
    [
        "six",
        "six==1.16.0",
        "six>=1 --hash=sha256:00",
        "--index-url http://mirror.example/simple",
        "-r other.txt",
        "--find-links /wheels",
        "six @ http://mirror.example/six.whl --hash=sha256:00",
        "-e . --hash=sha256:00",
    ],
)
def test_lock_holds_exact_versions_with_hashes_and_no_addresses(module: Path, line: str) -> None:
    (module / "requirements.txt").write_text(f"# a comment\n{line}\n")
    with pytest.raises(InvalidModuleError, match=r"requirements\.txt: .* is no exact version with its hashes"):
        ModuleFolder(module)


def test_lock_as_uv_writes_it(module: Path) -> None:
    (module / "requirements.txt").write_text(
        "# written by a program\nnetworkx==3.4.2 ; python_full_version < '3.11' \\\n    --hash=sha256:30 \\\n"
        "    --hash=sha256:df\n    # via scikit-image\nnetworkx==3.6.1 ; python_full_version >= '3.11' \\\n"
        "    --hash=sha256:26\nscikit_image[data]==0.25 --hash=sha256:11\n"
    )
    assert ModuleFolder(module).locked_names == ("networkx", "scikit-image")


@pytest.mark.parametrize(
    ("clauses", "fitting", "others"),
    [
        (">=3.10", ["3.10.0", "3.13.1", "4.0.0"], ["3.9.18"]),
        (">=3.10, <3.13", ["3.12.9"], ["3.13.0", "3.9.1"]),
        (">3.10.2,<=3.11.1", ["3.10.3", "3.11.1"], ["3.10.2", "3.11.2"]),
        ("==3.11.*", ["3.11.0", "3.11.9"], ["3.12.0"]),
        (">=3.10,!=3.11.*,!=3.12.1", ["3.10.1", "3.12.2"], ["3.11.4", "3.12.1"]),
    ],
)
def test_python_versions(module: Path, clauses: str, fitting: list[str], others: list[str]) -> None:
    description = json.loads((module / "module.json").read_text())
    (module / "module.json").write_text(json.dumps({**description, "python": clauses}))
    folder = ModuleFolder(module)
    for version in fitting + others:
        assert folder.allows_python(tuple(map(int, version.split(".")))) == (version in fitting), version


def test_text_of_a_worker_error_holds_all_that_is_known() -> None:
    error = WorkerError("It failed.", "Traceback: here\n", "last line\n")
    assert str(error) == "It failed.\n\nIn the worker:\nTraceback: here\n\nLast lines of its log:\nlast line"
    assert isinstance(error, ExternalModuleError) and str(WorkerError("It failed.")) == "It failed."
