from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from condensatenet.errors import DownloadError
from nuclei_sample import fetch_nuclei_sample


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leaves pip nothing to download from but the folder returned."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def test_sample_is_an_image_with_125_labelled_nuclei() -> None:
    image_path, labels_path = fetch_nuclei_sample()
    image, labels = tifffile.imread(image_path), tifffile.imread(labels_path)
    assert image.shape == labels.shape == (512, 512)
    assert image.dtype == labels.dtype == np.uint16
    assert np.unique(labels[labels > 0]).size == 125
    assert image[labels > 0].mean() > 2 * image[labels == 0].mean()


def test_sample_is_downloaded_once(offline: Path) -> None:
    assert fetch_nuclei_sample() == fetch_nuclei_sample()


def test_without_network_the_error_says_so_and_nothing_is_left(offline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    with pytest.raises(DownloadError, match="internet connection"):
        fetch_nuclei_sample(folder)
    assert list(folder.iterdir()) == []


def test_another_file_under_the_same_name_is_refused(offline: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(offline / "stardist-0.9.2-cp311-cp311-win_amd64.whl", "w") as wheel:
        wheel.writestr("stardist-0.9.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: stardist\nVersion: 0.9.2\n")
        wheel.writestr("stardist-0.9.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-win_amd64\n")
        wheel.writestr("stardist/data/images/img2d.tif", b"not this")
        wheel.writestr("stardist/data/images/mask2d.tif", b"not this")
    folder = tmp_path / "sample"
    with pytest.raises(DownloadError, match="not the file that was expected"):
        fetch_nuclei_sample(folder)
    assert list(folder.iterdir()) == []
