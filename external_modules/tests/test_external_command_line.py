"""The command `external-modules`, as a process: list, sync, prune, doctor and new, with wheels of a few bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tiny_module_folders import SOURCES, lock_line, make_module, make_wheel, start_host, use_only

from external_modules.module_folder import ModuleFolder

PACKAGE = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only package that there is; no network, and a home of its own."""
    use_only(tmp_path / "wheels", monkeypatch)
    monkeypatch.setenv("EXTERNAL_MODULES_HOME", str(tmp_path / "home ä"))
    monkeypatch.setenv("EXTERNAL_MODULES_PATH", str(tmp_path))
    return make_wheel(tmp_path / "wheels", "tiny_one", "1.0", "", padding=50_000)


@pytest.fixture
def modules(tmp_path: Path, wheel: Path) -> Path:
    """A folder with the module tiny_module."""
    return make_module(tmp_path / "my modules" / "tiny_module", wheel).parent


def start(
    *arguments: str | Path, python: str | Path = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [str(python), "-m", "external_modules", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(SOURCES), "PYTHONIOENCODING": "utf-8", **variables},
        timeout=120,
    )


def succeed(*arguments: str | Path) -> list[str]:
    """Run the command, which must succeed, and return the lines that it prints."""
    done = start(*arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.splitlines()


def fail(*arguments: str | Path) -> str:
    """Run the command, which must fail with one line, and return that."""
    done = start(*arguments)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("external-modules") and ": error: " in line
    return line


def python_without(folder: Path, *, packages: str) -> Path:
    """Make a Python beside which there is no uv, and which has the package's sources and some other packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    place = next(folder.rglob("site-packages"))
    for path in Path(sysconfig.get_path("purelib")).glob(packages):
        (place / path.name).symlink_to(path)
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def test_list_and_sync(modules: Path, tmp_path: Path) -> None:
    title, row = succeed("list", "--modules", modules)
    assert title.split() == ["module", "version", "segments", "licence", "environment"]
    assert row.split("  ")[0] == "tiny_module" and row.endswith("made at first use")

    (line,) = succeed("sync", "--modules", modules)
    assert line.startswith("tiny_module: ready, ") and str(tmp_path / "home ä" / "environments") in line
    assert succeed("sync", "tiny_module", "--modules", modules) == [line] == succeed("sync", modules / "tiny_module")

    make_module(modules / "broken").joinpath("pyproject.toml").unlink()
    _, broken, row = succeed("list", "--modules", modules)
    assert "  ready, " in row and " kB" in row
    assert broken.startswith("broken ") and "it has no pyproject.toml" in broken
    entries = json.loads("\n".join(succeed("list", "--json", "--modules", modules)))["modules"]
    assert [(entry["name"], entry["ready"]) for entry in entries] == [("broken", False), ("tiny_module", True)]


def test_list_without_modules_says_how_to_get_one(tmp_path: Path) -> None:
    (line,) = succeed("list", "--modules", tmp_path)
    assert "external-modules new NAME" in line


def test_sync_goes_on_after_a_module_that_fails(modules: Path, wheel: Path) -> None:
    gone = make_wheel(wheel.parent, "gone", "1.0", "")
    make_module(modules / "impossible", gone, name="impossible")
    gone.unlink()
    done = start("sync", "--modules", modules)
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    assert done.returncode == 1 and len(errors) == 1 and "Traceback" not in done.stderr
    assert errors[0].startswith("external-modules: error: impossible: Installing the packages") and "gone" in errors[0]
    assert done.stdout.startswith("tiny_module: ready")


def test_sync_shows_progress(modules: Path) -> None:
    python = modules / "slow"
    python.write_text(f'#!/bin/sh\ncase "$1" in venv) sleep 2;; esac\nexec "{sysconfig.get_path("scripts")}/uv" "$@"\n')
    python.chmod(0o755)
    done = start("sync", "--modules", modules, EXTERNAL_MODULES_UV=str(python))
    assert done.returncode == 0, done.stderr
    assert "tiny_module   5% making an environment (first use of tiny_module)" in done.stderr.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_progress_in_a_terminal_is_one_line_that_goes_away(modules: Path) -> None:
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "external_modules", "sync", "--modules", str(modules)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=end, env={**os.environ, "PYTHONPATH": str(SOURCES), "COLUMNS": "40"}
    )
    os.close(end)
    shown = os.read(terminal, 100_000).decode().split("\r")
    os.close(terminal)
    assert done.returncode == 0 and done.stdout.startswith(b"tiny_module: ready")
    assert shown[1].startswith("tiny_module   5% making an environment")
    assert not any("\n" in line or len(line) > 39 for line in shown) and shown[-1] == "" == shown[-2].strip()


def test_prune_removes_what_nobody_needs_and_says_how_much(modules: Path, wheel: Path, tmp_path: Path) -> None:
    succeed("sync", "--modules", modules)
    assert succeed("prune", "--modules", modules) == ["0 environments removed, 0 bytes freed"]
    moved = (modules / "tiny_module").rename(modules / "moved")
    assert succeed("prune", "--modules", modules)[-1].startswith("0 environments removed")
    moved.rename(modules / "tiny_module")
    (old,) = [path for path in (tmp_path / "home ä" / "environments").iterdir() if (path / "ready.json").exists()]
    with start_host(tmp_path / "home ä", modules / "tiny_module", stay=True) as user:
        assert user.stdout and user.stdin
        while not user.stdout.readline().startswith("ready"):
            pass
        make_module(modules / "tiny_module", make_wheel(wheel.parent, "tiny_two", "1.0", ""))
        succeed("sync", "--modules", modules)
        assert succeed("prune", "--modules", modules)[-1].startswith("0 environments removed")
        user.stdin.close()
    removed, total, cache = succeed("prune", "--modules", modules)
    assert removed.startswith(f"removed {old.name}: ") and " of which " in removed and not old.exists()
    assert total.startswith("1 environment removed, ") and "--cache empties it" in cache
    assert len(succeed("sync", "--modules", modules)) == 1

    *_, emptied = succeed("prune", "--cache", "--modules", modules)
    assert emptied.startswith("uv's cache emptied, ")
    assert not list((tmp_path / "home ä" / "cache").rglob("tiny_*"))
    assert " ready, " in succeed("list", "--modules", modules)[1]


def test_doctor_before_and_after_the_environment_is_made(modules: Path, wheel: Path) -> None:
    text = "\n".join(succeed("doctor", "tiny_module", "--modules", modules))
    assert "ok      index: all 1 packages of the lock can be had" in text and "ok      uv " in text
    assert "note    environment is not made yet: `external-modules sync tiny_module`" in text
    succeed("sync", "--modules", modules)
    wheel.unlink()
    done = start("doctor", "--modules", modules)
    assert done.returncode == 1 and not done.stderr
    assert "ok      index is not needed" in done.stdout and "ok      environment ready, " in done.stdout
    assert "FAILED  package numpy cannot be imported: ModuleNotFoundError" in done.stdout
    assert "to make the environment anew remove" in done.stdout and "broken" in done.stdout.splitlines()[-1]


def test_doctor_names_what_is_broken(modules: Path, wheel: Path, tmp_path: Path) -> None:
    wheel.unlink()
    make_module(modules / "broken").joinpath("module.json").write_text("{")
    done = start("doctor", "--modules", modules)
    assert done.returncode == 1 and done.stdout.splitlines()[-1] == "2 broken"
    assert "FAILED  index: not all packages of the lock can be had. Connect this computer" in done.stdout
    assert "FAILED  module folder: " in done.stdout and "not JSON" in done.stdout
    (tmp_path / "file").write_text("")
    done = start("doctor", "--modules", modules, EXTERNAL_MODULES_HOME=str(tmp_path / "file" / "home"))
    assert done.returncode == 1 and "FAILED  data folder" in done.stdout and "EXTERNAL_MODULES_HOME" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="links to packages")
def test_doctor_installs_nothing(modules: Path, tmp_path: Path) -> None:
    for packages, uv in [("numpy*", "FAILED  uv: Making an environment needs"), ("[np]*", "note    uv is not there")]:
        python = python_without(tmp_path / f"python {len(packages)}", packages=packages)
        done = start("doctor", "--modules", modules, python=python, PATH="")
        assert uv in done.stdout and done.returncode == (uv.startswith("FAILED")), done.stdout + done.stderr
        assert not list((tmp_path / "home ä").rglob("bin"))


@pytest.mark.skipif(sys.platform == "win32", reason="links to packages")
def test_images_need_optional_packages(modules: Path, tmp_path: Path) -> None:
    python = python_without(tmp_path / "python", packages="numpy*")
    done = start("run", "tiny_module", "a.tif", "--output", tmp_path / "out", "--modules", modules, python=python)
    assert done.returncode == 1 and done.stderr.startswith(
        "external-modules: error: Reading images needs tifffile and pillow"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "VERB"),
        (["lst"], "invalid choice: 'lst'"),
        (["sync", "cellpos"], "There is no module 'cellpos' in {modules}. There are: tiny_module."),
        (["doctor", "cellpos"], "There is no module 'cellpos'"),
        (["sync", "some/where"], "where is no module: it has no pyproject.toml"),
        (["list", "--modules", "nowhere"], "nowhere cannot be read"),
        (["run", "cellpos", "{image}", "--output", "o"], "There is no module 'cellpos'"),
        (["run", "tiny_module", "{image}"], "--output"),
        (["run", "tiny_module", "missing.tif", "--output", "o"], "There is no file"),
        (["run", "tiny_module", "{modules}", "--output", "o"], "holds no TIFF or PNG file"),
        (["run", "tiny_module", "{text}", "--output", "o"], "is neither TIFF nor PNG"),
        (["run", "tiny_module", "{image}", "{twin}", "--output", "o"], "would have the same results a_labels.tif"),
        (["run", "tiny_module", "{image}", "--output", "{text}"], "File exists"),
        (["run", "tiny_module", "{image}", "--output", "o", "--set", "sigma"], "'sigma' is not NAME=VALUE"),
        (["run", "tiny_module", "{image}", "--output", "o", "--set", "input_image=1"], "is not NAME=VALUE"),
        (["run", "tiny_module", "{image}", "--output", "o", "--set", "progress=1"], "is not NAME=VALUE"),
        (["new", "star-dist"], "'star-dist' cannot be the name of a module"),
        (["new", "3d"], "'3d' cannot be the name"),
        (["new", "étoile"], "cannot be the name"),
        (["new", "_module"], "cannot be the name"),
        (["new", "../evil"], "cannot be the name"),
        (["new", "a" * 60], "cannot be the name"),
        (["new", "tiny"], "tiny_module is there already. Choose another name"),
        (["new", "tiny_module"], "is there already"),
        (["new", "other", "--modules", "nowhere"], "There is no folder"),
    ],
)
def test_errors_are_one_line(modules: Path, tmp_path: Path, arguments: list[str], text: str) -> None:
    for name in ("a.tif", "b/a.png", "text.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    names = {
        "modules": modules,
        "image": tmp_path / "a.tif",
        "twin": tmp_path / "b" / "a.png",
        "text": tmp_path / "text.txt",
    }
    given = [argument.format(**names) for argument in arguments]
    is_named = not arguments or arguments[0] == "lst" or "--modules" in arguments
    assert text.format(**names) in fail(*given, *([] if is_named else ["--modules", str(modules)]))


def test_package_that_was_installed_without_its_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "lib" / "packages" / "external_modules"
    shutil.copytree(SOURCES / "external_modules", installed, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.delenv("EXTERNAL_MODULES_PATH")
    place = {"PYTHONPATH": str(installed.parent)}
    done = start("list", **place)
    assert done.returncode == 1 and "No folder of modules was found. Name it with --modules FOLDER" in done.stderr
    done = start("new", "mine", "--modules", tmp_path, **place)
    assert done.returncode == 1 and "The pattern of new modules is missing; it should be" in done.stderr
    shutil.copytree(PACKAGE / "modules" / "threshold_module", installed / "modules" / "threshold_module")
    done = start("new", "mine", "--modules", tmp_path, **place)
    assert done.returncode == 0 and ModuleFolder(tmp_path / "mine_module").name == "mine_module" and not done.stderr
    done = start("new", "mine", **place)
    own = tmp_path / "home ä" / "modules" / "mine_module"
    assert done.returncode == 0 and not done.stderr and ModuleFolder(own).name == "mine_module"
    assert "mine_module" in start("list", **place).stdout
    script = (own / "test_mine_module.py").read_text(encoding="utf-8")
    assert f"sys.path.insert(0, {str(installed.parent)!r})" in script


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python reads no TOML")
def test_lock_writes_what_is_asked_for(modules: Path, wheel: Path, tmp_path: Path) -> None:
    module = modules / "tiny_module"
    project = module / "pyproject.toml"
    locked = (module / "requirements.txt").read_text()
    project.write_text(project.read_text() + "dependencies = ['tiny_two>=1']\n")
    assert "does not lock tiny-two, for which pyproject.toml asks. Write it anew: external-modules lock" in fail(
        "sync", "tiny_module", "--modules", modules
    )
    assert "FAILED  lock: tiny-two not in" in start("doctor", "--modules", modules).stdout

    index = tmp_path / "index" / "tiny-two"
    two = make_wheel(index, "tiny_two", "1.5", "VALUE = 2\n")
    (index / "index.html").write_text(f'<a href="{two.name}">{two.name}</a>')
    place = {"UV_DEFAULT_INDEX": index.parent.as_uri(), "UV_OFFLINE": ""}
    done = start("lock", "tiny_module", "--modules", modules, **place)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{module / 'requirements.txt'}: 1 package\n"
    assert ModuleFolder(module).locked_names == ("tiny-two",) and not ModuleFolder(module).unlocked_names
    text = (module / "requirements.txt").read_text()
    assert lock_line(two).replace("_", "-") in text and "://" not in text and locked not in text

    project.write_text(project.read_text().replace("tiny_two", "nothing-of-that-name"))
    done = start("lock", "tiny_module", "--modules", modules, **place)
    assert done.returncode == 1 and "nothing-of-that-name" in done.stderr
    assert (module / "requirements.txt").read_text() == text
    (module / "module.json").write_text("{")
    assert "is not JSON" in fail("lock", "tiny_module", "--modules", modules)


def test_new_writes_a_whole_module(modules: Path) -> None:
    first, *_ = succeed("new", "star_dist", "--modules", modules)
    folder = modules / "star_dist_module"
    assert first == f"{folder} is written. Next:"
    assert sorted(path.name for path in modules.iterdir()) == ["star_dist_module", "tiny_module"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "module.json",
        "pyproject.toml",
        "requirements.txt",
        "star_dist_node.py",
        "star_dist_node_v6_20.py",
        "test_star_dist_module.py",
        "worker.py",
    ]
    module = ModuleFolder(folder)
    pattern = ModuleFolder(PACKAGE / "modules" / "threshold_module")
    assert (module.name, module.title, module.locked_names) == ("star_dist_module", "star dist", pattern.locked_names)
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    for name, text in texts.items():
        for old in ("threshold_module", "threshold-module", "threshold_node", "ThresholdNode"):
            assert old not in text, name
    assert 'MODULE_NAME = "star_dist_module"' in texts["star_dist_node.py"]
    assert "class StarDistNode(" in texts["star_dist_node_v6_20.py"]
    readme = texts["README.md"]
    assert readme.startswith("# star_dist_module\n\nFinds bright objects") and "## Change it" in readme
    assert "smallest example" not in readme and "by its authors" not in readme and "\n\n| file |" in readme
    assert texts["worker.py"].count("# Replace what this function does") == 1
    for name in texts:
        if name.endswith(".py"):
            compile(texts[name], name, "exec")
