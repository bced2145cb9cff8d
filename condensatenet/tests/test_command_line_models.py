"""`condensatenet simulate`, `download` and `info`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from command_line_examples import frame, run_python, write_image

from condensatenet.command_line import main
from condensatenet.files.images import find_images, read_image, read_labels

# simulate


def test_simulated_files_pair_up_and_repeat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "--count", "10", "--size", "40", "56", "--output"]
    for name, seed in (("one", "3"), ("two", "3"), ("three", "4")):
        assert main([*command, str(tmp_path / name), "--seed", seed]) == 0
    masks = [read_labels(path) for path in find_images([tmp_path / "one" / "labels"])]
    assert f"10 images with {sum(int(mask.max()) for mask in masks)} instances" in capsys.readouterr().out
    names = [path.name for path in find_images([tmp_path / "one" / "images"])]
    assert names[0] == "frame_01.tif" and names[-1] == "frame_10.tif"
    assert names == [path.name for path in find_images([tmp_path / "one" / "labels"])]
    contents = [
        [read_image(path) for path in find_images([tmp_path / name / "images"])] for name in ("one", "two", "three")
    ]
    assert {image.shape for image in contents[0]} == {mask.shape for mask in masks} == {(40, 56)}
    assert all(np.array_equal(a, b) for a, b in zip(contents[0], contents[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(contents[0], contents[2], strict=True))
    assert main([*command, str(tmp_path / "one")]) == 2
    assert "holds files" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--count", "0"], ["--size", "0", "9"], ["--seed", "-1"]])
def test_impossible_simulations_leave_nothing(tmp_path: Path, wrong: list[str]) -> None:
    assert main(["simulate", "--output", str(tmp_path / "new"), *wrong]) == 2
    assert not (tmp_path / "new").exists()


# download and info


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line on stderr for each."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server that has the model `owner/name`; HF_ENDPOINT leads to it."""
    published = tmp_path / "hub" / "owner" / "name" / "resolve" / "main"
    published.mkdir(parents=True)
    for file in model_path.iterdir():
        (published / file.name).write_bytes(file.read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(tmp_path / "hub")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield published
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "models" / "mine"
    command = ["download", "--output", str(output), "--repo-id", "owner/name"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{output}\n"
    for name in ("config.json", "model.safetensors"):
        assert (output / name).read_bytes() == (hub / name).read_bytes()
    changed = (hub / "config.json").read_bytes().replace(b"}", b' , "note": "new"}', 1)
    (hub / "config.json").write_bytes(changed)
    assert main(command) == 0
    assert (output / "config.json").read_bytes() != changed
    assert main([*command, "--force"]) == 0
    assert (output / "config.json").read_bytes() == changed


def test_options_are_checked_before_a_model_is_downloaded(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HOME", "USERPROFILE"):  # downloaded models go there
        monkeypatch.setenv(variable, str(tmp_path))
    code = "import sys; from condensatenet.command_line import main; sys.exit(main(sys.argv[1:]))"
    command = ["segment", write_image(tmp_path / "cells.tif", frame()), "--output", tmp_path, "--model", "owner/other"]
    refused = run_python(code, *command, "--min-size", "9", "--max-size", "8")
    assert refused.returncode == 2
    assert "min_size <= max_size, not 9 and 8" in refused.stderr
    failed = run_python(code, *command)
    assert failed.returncode == 1
    assert "/owner/other/resolve/main/config.json: there is no such file (404)" in failed.stderr


def test_failed_download_is_told_from_a_wrong_name(hub: Path, tmp_path: Path) -> None:
    assert main(["download", "--output", str(tmp_path / "x"), "--repo-id", "owner/other"]) == 1
    assert main(["download", "--output", str(tmp_path / "x"), "--repo-id", "no name"]) == 2


def test_info_shows_versions_and_a_model(model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["info", str(model_path)]) == 0
    text = capsys.readouterr().out
    assert f"torch {version('torch')} on " in text
    assert f"Model {model_path}: {model_path}" in text
    assert "encoder_variant          small" in text
    assert "pyramid_channels         [8, 8, 8, 16]" in text
