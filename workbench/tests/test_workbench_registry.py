"""The registry of workers: what a workers.yaml means, what is refused, and a Docker engine that is not there."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.jobs import containers
from workbench.jobs.containers import DockerEngine
from workbench.jobs.launch import queue_of
from workbench.jobs.registry import Registry, read_workers

IMAGE = "annotations/find:latest"
MINIMAL = f"""
{IMAGE}:
  command: ["{{python}}", "find.py"]
  labels: {{isUPennContrastWorker: ""}}
"""


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "find.py").touch()
    path = folder / "workers.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_workers_are_found_below_folders_and_started_with_full_paths(tmp_path: Path) -> None:
    write(
        tmp_path / "deep" / "inside",
        f"""
{IMAGE}:
  command: ["{{python}}", "-X", "dev", "find.py", "no_file", "--threads=2"]
  environment:
    PYTHONPATH: ".{os.pathsep}../shared/src{os.pathsep}/absolute"
    MODELS: ./models
    THREADS: 2
    NAME: models
    QUIET: true
  labels: {{isUPennContrastWorker: "", isAnnotationWorker: "", isGPUWorker: false, interfaceName: Find, size: 1.5}}
""",
    )
    write(tmp_path / "other", MINIMAL.replace("find:", "other:"))
    write(tmp_path / ".hidden", MINIMAL.replace("find:", "hidden:"))
    registry = Registry([tmp_path])
    assert list(registry.workers()) == [IMAGE, "annotations/other:latest"]
    worker = registry.find(IMAGE)
    assert worker is not None and registry.find("annotations/hidden:latest") is None
    assert worker.labels == {
        "isUPennContrastWorker": "",
        "isAnnotationWorker": "",
        "isGPUWorker": "false",
        "interfaceName": "Find",
        "size": "1.5",
    }
    folder = tmp_path / "deep" / "inside"
    launch = worker.launch("0" * 24, ["--apiUrl", "x"], tmp_path / "tmp")
    arguments = ("-X", "dev", str(folder / "find.py"), "no_file", "--threads=2", "--apiUrl", "x")
    assert launch.argv == (sys.executable, *arguments)
    assert launch.kill_command is None
    assert launch.environment == {
        "TMPDIR": str(tmp_path / "tmp"),
        "TEMP": str(tmp_path / "tmp"),
        "TMP": str(tmp_path / "tmp"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([str(folder), str(tmp_path / "deep" / "shared" / "src"), "/absolute"]),
        "MODELS": str(folder / "models"),
        "THREADS": "2",
        "NAME": "models",
        "QUIET": "true",
    }


def test_a_relative_folder_is_the_one_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "workers", MINIMAL)
    monkeypatch.chdir(tmp_path)
    worker = Registry([Path("workers")]).find(IMAGE)
    monkeypatch.chdir("/")
    assert worker is not None
    assert worker.launch("0" * 24, [], tmp_path).argv[1] == str(tmp_path / "workers" / "find.py")


def test_a_program_may_stand_beside_its_file_or_on_the_path(tmp_path: Path) -> None:
    (path,) = [write(tmp_path, MINIMAL.replace('["{python}", "find.py"]', '["./find.py", "-v"]'))]
    (worker,) = read_workers(path)
    assert worker.command == (str(tmp_path / "find.py"), "-v")
    write(tmp_path, MINIMAL.replace('["{python}", "find.py"]', "[conda, run]"))
    (worker,) = read_workers(path)
    assert worker.command == ("conda", "run")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "workers.yaml must be names with values"),
        ("- a", "workers.yaml must be names with values"),
        ("1: {}", "workers.yaml must be names with values"),
        (f"{IMAGE}: [1", "cannot be read: .* line 1"),
        (f"{MINIMAL}{MINIMAL}", f"'{IMAGE}' twice.* line 6"),
        ("Annotations/find:latest: {}", "'Annotations/find:latest' is no image name"),
        ("annotations/find: {}", "'annotations/find' is no image name"),
        ("../find:latest: {}", "is no image name"),
        (f"{IMAGE}: text", f"{IMAGE} must be names with values"),
        (MINIMAL + "  gpu: true", f"{IMAGE}: 'gpu' means nothing here; possible are command, environment, labels, "),
        (MINIMAL.replace("command", "Command"), "'Command' means nothing here"),
        (f'{IMAGE}: {{labels: {{isUPennContrastWorker: ""}}}}', f"{IMAGE}: command is missing"),
        (f"{IMAGE}: {{command: [a]}}", f"{IMAGE}: give either labels or a dockerfile"),
        (MINIMAL + "  dockerfile: Dockerfile", f"{IMAGE}: give either labels or a dockerfile"),
        (f"{IMAGE}: {{command: [a], dockerfile: gone}}", f"{IMAGE}: dockerfile .*gone"),
        (MINIMAL.replace('["{python}", "find.py"]', "python find.py"), f"{IMAGE}: command must be a list of texts"),
        (MINIMAL.replace('["{python}", "find.py"]', "[]"), f"{IMAGE}: command must be a list of texts"),
        (MINIMAL.replace('["{python}", "find.py"]', "[a, 1]"), f"{IMAGE}: command must be a list of texts"),
        (MINIMAL.replace("find.py", "fond.py"), f"{IMAGE}: command: there is no file .*fond.py"),
        (MINIMAL.replace('"{python}", "find.py"', "./run.sh"), f"{IMAGE}: command: there is no file .*run.sh"),
        (MINIMAL.replace("isUPennContrastWorker", "isAnnotationWorker"), "labels: isUPennContrastWorker is missing"),
        (MINIMAL.replace('""', "[]"), f"{IMAGE}: labels: isUPennContrastWorker must be a text"),
        (MINIMAL + "  environment: [A=1]", f"{IMAGE}: environment must be names with values"),
        (MINIMAL + '  environment: {"A B": "1"}', f"{IMAGE}: environment: 'A B' is no name of a variable"),
        (MINIMAL + "  environment: {A: {b: c}}", f"{IMAGE}: environment: A must be a text"),
        (MINIMAL + "  environment: {A: !!python/name:os.system x}", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(WorkbenchError, match=message) as caught:
        Registry([tmp_path])
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(WorkbenchError, match=r"workers\.yaml cannot be read"):
        Registry([tmp_path])


def test_one_image_is_described_once(tmp_path: Path) -> None:
    write(tmp_path / "a", MINIMAL)
    write(tmp_path / "b", MINIMAL)
    with pytest.raises(WorkbenchError, match=rf"b.workers\.yaml: {IMAGE} is already named by .*a.workers\.yaml"):
        Registry([tmp_path])
    assert list(Registry([tmp_path / "a", tmp_path / "a"]).workers()) == [IMAGE]


def test_a_folder_without_workers_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"There is no workers\.yaml below"):
        Registry([tmp_path])
    with pytest.raises(WorkbenchError, match=r"There is no folder .*missing"):
        Registry([tmp_path / "missing"])


@pytest.mark.parametrize(
    ("label", "queue"),
    [
        *[("true", "gpu"), ("1", "gpu"), ("YES", "gpu"), ("False", "cpu"), (" 0 ", "cpu"), ("no", "cpu")],
        *[("", "gpu"), ("maybe", "gpu"), (None, "gpu")],
    ],
)
def test_only_a_clear_no_lets_a_worker_run_beside_others(label: str | None, queue: str) -> None:
    assert queue_of({} if label is None else {"isGPUWorker": label}) == queue


class TestWithoutDocker:
    """No `docker`, one that fails and one that hangs: none of them is an error, none takes long."""

    def test_no_docker(self, tmp_path: Path) -> None:
        write(tmp_path, MINIMAL)
        registry = Registry([tmp_path], engine=DockerEngine(str(tmp_path / "docker")))
        assert list(registry.workers()) == [IMAGE]
        assert registry.find("annotations/other:latest") is None
        registry.remove_containers(["0" * 24])

    @pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
    def test_an_engine_that_does_not_answer(self, tmp_path: Path) -> None:
        calls = tmp_path / "calls"
        docker = tmp_path / "docker"
        docker.write_text(f"#!/bin/sh\necho $@ >> {calls}\nexec sleep 20\n")
        docker.chmod(0o755)
        engine = DockerEngine(str(docker))
        start = time.monotonic()
        assert engine.workers() == {} and engine.workers() == {}
        assert 1.5 < time.monotonic() - start < 4
        assert calls.read_text().splitlines() == ["images --quiet --filter label=isUPennContrastWorker"]

    @pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
    def test_an_engine_that_is_too_busy_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(containers, "_CACHE_S", 0.0)
        answers = tmp_path / "answers"
        docker = tmp_path / "docker"
        docker.write_text(f'#!/bin/sh\ncat "{answers}/$1"\n')
        docker.chmod(0o755)
        answers.mkdir()
        (answers / "images").write_text("0123\n")
        (answers / "info").write_text("{}")
        (answers / "inspect").write_text(json.dumps([{"RepoTags": [IMAGE], "Config": {"Labels": {}}}]))
        engine = DockerEngine(str(docker))
        assert list(engine.workers()) == [IMAGE]
        for name in ("inspect", "images"):
            (answers / name).rename(answers / "hidden")
            assert list(engine.workers()) == [IMAGE]
            (answers / "hidden").rename(answers / name)
        (answers / "images").write_text("")
        assert engine.workers() == {}

    @pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")
    def test_an_engine_that_is_down(self, tmp_path: Path) -> None:
        docker = tmp_path / "docker"
        docker.write_text("#!/bin/sh\necho Cannot connect >&2\nexit 1\n")
        docker.chmod(0o755)
        assert DockerEngine(str(docker)).workers() == {}


def test_local_workers_do_not_wait_for_docker(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL)
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexec sleep 20\n")
    docker.chmod(0o755)
    start = time.monotonic()
    assert Registry([tmp_path], engine=DockerEngine(str(docker))).find(IMAGE) is not None
    assert time.monotonic() - start < 1
