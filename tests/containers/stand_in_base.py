"""A small Debian that stands in for the CUDA bases of the workers' images, where no image can be pulled.

Two images are made: one to run on, and on top of it one to build in, which knows the mirrors, certificates and wheel
folders that pip has on this machine. Both are kept, since they take half a minute.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RUNTIME_IMAGE = "condensatenet-tests/debian:bookworm"
BUILD_IMAGE = "condensatenet-tests/debian-build:bookworm"

_INDEXES = ("index-url", "extra-index-url")


class UnavailableError(Exception):
    """Images cannot be built on this machine; the text says why."""


def docker(*arguments: str, timeout: float = 600) -> str:
    """Return what a docker command prints, after all that it had to say if it fails."""
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert answer.returncode == 0, f"docker {' '.join(arguments)}\n{answer.stdout}{answer.stderr}"
    return answer.stdout


def image_exists(image: str) -> bool:
    """Tell whether the engine has an image."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def check_engine() -> None:
    """Raise UnavailableError where no Docker engine answers."""
    try:
        subprocess.run(["docker", "version"], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"no Docker engine answers ({error})") from error


def make_bases() -> None:
    """Make both images; the second one anew, from the engine's cache if pip's settings are what they were."""
    if not image_exists(RUNTIME_IMAGE):
        _import_debian()
    with tempfile.TemporaryDirectory() as folder:
        _write_settings_of_pip(Path(folder))
        (Path(folder) / "Dockerfile").write_text(f"FROM {RUNTIME_IMAGE}\nCOPY machine /machine\nCOPY pip.conf /etc/\n")
        docker("build", "--tag", BUILD_IMAGE, folder)


def _import_debian() -> None:
    if not shutil.which("debootstrap"):
        raise UnavailableError("there is no base image, and no debootstrap to make one")
    if os.getuid() != 0:
        raise UnavailableError("there is no base image, and only root can make one with debootstrap")
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", "bookworm", folder], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise UnavailableError(f"debootstrap failed: {made.stdout[-500:]}{made.stderr[-500:]}")
        shutil.rmtree(Path(folder, "var/cache/apt"))
        packed = subprocess.Popen(["tar", "--create", "--directory", folder, "."], stdout=subprocess.PIPE)
        subprocess.run(["docker", "import", "-", RUNTIME_IMAGE], stdin=packed.stdout, capture_output=True, check=True)
        assert packed.wait() == 0


def _write_settings_of_pip(folder: Path) -> None:
    """Write pip.conf and, in machine/, the files that it names; indexes that are folders of this machine stay here."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    settings = {}
    for line in lines:
        name, literal = line.split("=", 1)
        settings[name.rsplit(".", 1)[1]] = ast.literal_eval(literal)
    (folder / "machine").mkdir()
    written = {name: settings[name] for name in _INDEXES if name in settings and "file:" not in settings[name]}
    if "cert" in settings:
        shutil.copy(settings["cert"], folder / "machine" / "certificates.crt")
        written["cert"] = "/machine/certificates.crt"
    for wheels in settings.get("find-links", "").split():
        shutil.copytree(wheels, folder / "machine" / "wheels", dirs_exist_ok=True)
        written["find-links"] = "/machine/wheels"
    text = "".join(f"{name} = {value}\n" for name, value in written.items())
    (folder / "pip.conf").write_text(f"[global]\n{text}")
