"""A small Debian that stands in for the CUDA bases of the workers' images.

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

_PUBLIC_IMAGE = "debian:bookworm-slim"
_SCOPES = (":env:", "install", "global")  # of pip; the first that has an option wins


class UnavailableError(Exception):
    """Images cannot be built or run on this machine; the text says why."""


def docker(*arguments: str, timeout: float = 600) -> str:
    """Return what a docker command prints, after all that it had to say if it fails."""
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert answer.returncode == 0, f"docker {' '.join(arguments)}\n{answer.stdout}{answer.stderr}"
    return answer.stdout


def check_engine() -> None:
    """Raise UnavailableError where no Docker engine answers."""
    try:
        subprocess.run(["docker", "version"], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"no Docker engine answers ({error})") from error


def make_bases() -> None:
    """Make both images; the second one anew, from the engine's cache if pip's settings are what they were."""
    if not _succeeds("docker", "image", "inspect", RUNTIME_IMAGE):
        if _succeeds("docker", "pull", "--quiet", _PUBLIC_IMAGE):
            docker("tag", _PUBLIC_IMAGE, RUNTIME_IMAGE)
        else:
            _import_debian()
    with tempfile.TemporaryDirectory() as folder:
        _write_settings_of_pip(Path(folder))
        (Path(folder) / "Dockerfile").write_text(f"FROM {RUNTIME_IMAGE}\nCOPY machine /machine\nCOPY pip.conf /etc/\n")
        docker("build", "--tag", BUILD_IMAGE, folder)


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _import_debian() -> None:
    if not shutil.which("debootstrap") or os.getuid() != 0:
        raise UnavailableError(f"{_PUBLIC_IMAGE} cannot be pulled; to make such an image takes root and debootstrap")
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", "bookworm", folder], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise UnavailableError(f"debootstrap failed: {made.stdout[-500:]}{made.stderr[-500:]}")
        shutil.rmtree(Path(folder, "var/cache/apt"))
        command = ["tar", "--create", "--directory", folder, "."]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as packed:
            docker_import = ["docker", "import", "-", RUNTIME_IMAGE]
            subprocess.run(docker_import, stdin=packed.stdout, capture_output=True, check=True)
        assert packed.returncode == 0


def _write_settings_of_pip(folder: Path) -> None:
    """Write pip.conf and, in machine/, the files that it names; indexes that are folders of this machine stay here."""
    settings = _settings_of_pip()
    written = {}
    for name in ("index-url", "extra-index-url"):
        addresses = [address for address in settings.get(name, "").split() if not address.startswith("file:")]
        if any("@" in address for address in addresses):
            raise UnavailableError(f"pip's {name} holds a password, which no image should hold")
        if addresses:
            written[name] = " ".join(addresses)
    (folder / "machine").mkdir()
    if "cert" in settings:
        shutil.copy(settings["cert"], folder / "machine" / "certificates.crt")
        written["cert"] = "/machine/certificates.crt"
    for wheels in filter(os.path.isdir, settings.get("find-links", "").split()):
        shutil.copytree(wheels, folder / "machine" / "wheels", dirs_exist_ok=True)
        written["find-links"] = "/machine/wheels"
    text = "".join(f"{name} = {value}\n" for name, value in written.items())
    (folder / "pip.conf").write_text(f"[global]\n{text}")


def _settings_of_pip() -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    listed = dict(line.split("=", 1) for line in lines)
    return {
        name.partition(".")[2]: ast.literal_eval(literal)
        for scope in reversed(_SCOPES)
        for name, literal in listed.items()
        if name.partition(".")[0] == scope
    }
