"""The conda environment of the workers has what their packages need, in the versions of the lock."""

from __future__ import annotations

import re

import yaml
from packaging.requirements import Requirement
from platform_driver import ROOT, WORKERS

PACKAGES = ("annotation_client", "annotation_utilities", "condensatenet", "worker_client")
PYTHON = {"python_version": "3.11", "python_full_version": "3.11.9", "sys_platform": "linux"}


def read_dependencies(package: str) -> list[Requirement]:
    """Return what a package's pyproject.toml asks for. (tomllib is not in Python 3.10.)"""
    text = (ROOT / package / "pyproject.toml").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^dependencies = \[(.*?)^\]", text, flags=re.MULTILINE | re.DOTALL)
    return [Requirement(line) for line in re.findall(r'"(.+?)"', listed)]


def locked_versions() -> set[str]:
    """Return what the lock of the images installs with Python 3.11, as name==version."""
    lock = (ROOT / "requirements" / "workers.txt").read_text(encoding="utf-8")
    requirements = [Requirement(line) for line in re.findall(r"^([a-z0-9].*?) \\$", lock, flags=re.MULTILINE)]
    chosen = [one for one in requirements if one.marker is None or one.marker.evaluate(PYTHON)]
    return {f"{one.name}{one.specifier}" for one in chosen}


def test_conda_environment_is_in_step_with_the_lock() -> None:
    environment = yaml.safe_load((WORKERS / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    pinned = {line for line in packages["pip"] if "==" in line}
    (torch,) = re.findall(
        r"^torch_version=(.+)$", (ROOT / "scripts" / "install_torch.sh").read_text(), flags=re.MULTILINE
    )
    assert pinned <= locked_versions() | {f"torch=={torch}"}
    folders = [(WORKERS / line).resolve() for line in packages["pip"] if line not in pinned]
    assert folders == [ROOT / package for package in PACKAGES]
    needed = {need.name.replace("_", "-") for package in PACKAGES for need in read_dependencies(package)}
    own = {package.replace("_", "-") for package in PACKAGES}
    assert {line.split("==")[0] for line in pinned} == needed - own
