"""The house's rules: who imports whom, and that every package installs alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED: dict[str, set[str]] = {
    "condensatenet": set(),
    "annotation_utilities": set(),
    "annotation_client": set(),
    "worker_client": {"annotation_client", "annotation_utilities"},
    "workbench": set(),
    "external_modules": set(),
}
WORKERS = ROOT / "workers" / "annotations" / "condensatenet"


def imported_modules(file: Path) -> set[str]:
    """Return the top-level names that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_package_imports_only_what_it_may(package: str) -> None:
    files = [*(ROOT / package / "src").rglob("*.py"), *(ROOT / package / "tests").rglob("*.py")]
    assert len(files) > 5
    forbidden = ALLOWED.keys() - ALLOWED[package] - {package}
    for file in files:
        assert not imported_modules(file) & forbidden, file


def test_no_package_imports_a_worker_and_no_worker_the_workbench() -> None:
    modules = {file.stem for file in WORKERS.rglob("*.py") if "tests" not in file.parts} - {"utils"}
    for package in ALLOWED:
        for file in (ROOT / package / "src").rglob("*.py"):
            assert not imported_modules(file) & modules, file
    for file in WORKERS.rglob("*.py"):
        assert "workbench" not in imported_modules(file), file


@pytest.mark.timeout(600)
@pytest.mark.parametrize("package", [name for name in ALLOWED if name != "condensatenet"])
def test_package_installs_alone(package: str, tmp_path: Path) -> None:
    """Without the rest of this repository its modules can be imported, and its tests with what it declares for them."""
    python = tmp_path / "venv" / "bin" / "python"
    packages = [str(ROOT / name) for name in sorted(ALLOWED[package])] + [f"{ROOT / package}[test]"]
    lock = ROOT / "requirements" / "development.txt"
    versions = "\n".join(line.split(" \\")[0] for line in lock.read_text().splitlines() if "==" in line)
    (tmp_path / "versions.txt").write_text(versions)
    script = f"""
        set -eu
        eval "$({sys.executable} scripts/settings_of_pip.py)"
        export UV_INDEX_STRATEGY=unsafe-best-match
        .venv/bin/uv venv --quiet --python {sys.executable} {tmp_path}/venv
        .venv/bin/uv pip install --quiet --python {python} --constraint {tmp_path}/versions.txt "$@"
    """
    subprocess.run(["bash", "-c", script, "install", *packages], cwd=ROOT, check=True)
    walk = f"""
import importlib, pkgutil, sys
import {package}
for module in pkgutil.walk_packages({package}.__path__, "{package}."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    subprocess.run([python, "-I", "-c", walk], cwd=tmp_path, check=True)
    if package == "external_modules":
        command = [python.with_name("external-modules"), "list", "--json"]
        listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "threshold_module" in listed.stdout, "an installed package finds the module that came with it"
    command = [python, "-m", "pytest", "--quiet", "--collect-only", "--rootdir", ROOT / package, "-c", "/dev/null"]
    listed = subprocess.run(
        [*command, "-p", "no:cacheprovider", ROOT / package / "tests"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.returncode == 0, listed.stdout + listed.stderr
