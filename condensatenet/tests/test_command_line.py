"""The command `condensatenet` as a process: its help and usage, what it imports, and its progress."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from command_line_examples import run_python

from condensatenet import CondensateNetPipeline
from condensatenet.command_line import main

VERBS = ("segment", "train", "evaluate", "simulate", "download", "info")


def test_help_of_every_verb_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        text = capsys.readouterr().out
        assert stop.value.code == 0
        assert f"examples:\n  condensatenet {verb}" in text, verb


def test_module_can_be_run() -> None:
    command = [sys.executable, "-m", "condensatenet"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert all(f"  {verb} " in shown.stdout for verb in VERBS)
    command += ["evaluate", "--labels", "no_such_folder", "--predictions", "."]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.startswith("condensatenet: error: There is no file or folder")
    assert "Traceback" not in failed.stderr


def test_what_needs_no_network_does_not_import_torch(tmp_path: Path, model_path: Path) -> None:
    code = """
import sys
sys.modules["torch"] = None  # importing it fails
from condensatenet.command_line import main
output, model = sys.argv[1:]
for verb in ("segment", "train", "evaluate"):
    try:
        main([verb, "--help"])
    except SystemExit as stop:
        assert stop.code == 0
assert main(["simulate", "--output", output, "--count", "1"]) == 0
masks = output + "/labels"
assert main(["evaluate", "--labels", masks, "--predictions", masks]) == 0
assert main(["segment", output + "/images", "--output", output, "--model", model, "--overlap", "0.9"]) == 2
assert main(["train", "--images", output + "/images", "--labels", masks, "--output", output]) == 2
assert main(["info", model]) == 0
"""
    result = run_python(code, tmp_path / "out", model_path)
    assert result.returncode == 0, result.stderr
    assert "overlap must be from 0 to 0.5, not 0.9" in result.stderr
    assert "exists and is not a model" in result.stderr
    parameters = sum(
        parameter.numel() for parameter in CondensateNetPipeline.from_local(model_path).network.parameters()
    )
    assert f"parameters               {parameters:,} (" in result.stdout
    assert "no torch (import of torch halted" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_told_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "condensatenet", "simulate", "--output", str(tmp_path), "--count", "1"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=buffered, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("condensatenet: error: ")
    assert "space on the disk" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_bar_is_for_terminals(tmp_path: Path) -> None:
    import fcntl
    import pty
    import termios

    code = "import sys; from condensatenet.command_line import main; main(sys.argv[1:])"
    simulate = ["simulate", "--count", "2", "--output"]
    quiet = run_python(code, *simulate, tmp_path / "quiet")
    assert quiet.stdout.startswith("2 images with")
    assert quiet.stderr == ""
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", code, *simulate, str(tmp_path / "shown")]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=stderr, check=True)
    assert b"0/2" in os.read(terminal, 10_000)
    os.close(stderr)
    os.close(terminal)


def test_missing_and_unknown_options_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["no_such_verb"], ["segment", "a.tif"], ["simulate", "--outp", "x"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert "usage: condensatenet" in capsys.readouterr().err
