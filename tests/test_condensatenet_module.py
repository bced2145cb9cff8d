"""condensatenet_module end to end: its environment is really made by uv, and its worker computes with torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import limnode
import numpy as np
import pytest
from condensatenet_model_files import MODEL_FILES, MODULE, pack, write_model
from ga3_host import Ga3Host
from microscope import WITHOUT_CACHES, Microscope, make_environment
from platform_driver import ROOT as REPOSITORY
from whole_modules import assert_the_scripts_differ_in_their_signatures_only

from condensatenet import CondensateNetPipeline, simulate_frame
from condensatenet.files.pretrained import SHIPPED_MODEL
from external_modules.errors import CallAbortedError, WorkerError
from external_modules.external_module import ExternalModule
from external_modules.module_folder import ModuleFolder

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the stand-in host starts processes the POSIX way"),
    pytest.mark.timeout(1800),  # torch may have to be downloaded
]

PACKAGE = REPOSITORY / "external_modules"
SCRIPTS = {"6.20": "condensatenet_node_v6_20.py", "7.00": "condensatenet_node.py"}
Labels = np.ndarray[Any, np.dtype[np.int32]]


class Place(Microscope):
    """One with the second folder, too, that README.md says to copy there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, MODULE.name)
        for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
            source, copy = (place / "condensatenet" / name for place in (REPOSITORY, self.root.parent))
            if source.is_dir():
                shutil.copytree(source, copy, ignore=WITHOUT_CACHES)
            else:
                shutil.copy(source, copy)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With the environment in it."""
    place = Place(tmp_path_factory.mktemp("microscope"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.variables.items():
            patch.setenv(name, value)
        with ExternalModule(place.module) as module:
            make_environment(module)
        yield place


@pytest.fixture(scope="module")
def module(place: Place) -> Iterator[ExternalModule]:
    with ExternalModule(place.module) as module:
        yield module


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """A simulated frame (H, W) uint16."""
    image, _ = simulate_frame((200, 260), rng=np.random.default_rng(5), bit_depth=16)
    return image


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a model with weights and sizes of its own."""
    return write_model(tmp_path_factory.mktemp("models") / "my droplets ü", bias=1.5, min_size=40)


def expected(model: Path, image: np.ndarray, **options: Any) -> Labels:
    """Return what CondensateNet finds in this interpreter."""
    labels = CondensateNetPipeline.from_local(model, "cpu").segment(image, **options)
    assert labels.max() > 3, "there is nothing to compare"
    return labels


def loads(module: ExternalModule) -> int:
    """Return how often workers have loaded a model so far."""
    return module.log_file.read_text(encoding="utf-8").count("\nloading the model ")


def test_the_scripts_differ_in_their_signatures_only() -> None:
    old, new = (MODULE / SCRIPTS[name] for name in ("6.20", "7.00"))
    assert_the_scripts_differ_in_their_signatures_only(old, new)


def test_the_module_asks_for_what_condensatenet_needs() -> None:
    def dependencies(project: Path) -> list[str]:
        listed = re.search(r"^dependencies = \[\n(.*?)^\]", project.read_text(), re.MULTILINE | re.DOTALL)
        assert listed is not None
        return re.findall(r'^    "(.+)",', listed[1], re.MULTILINE)

    folder = ModuleFolder(MODULE)
    (package,) = folder.local_packages
    assert (folder.name, package) == (MODULE.name, REPOSITORY / "condensatenet")
    needed = {name for name in dependencies(package / "pyproject.toml") if not name.startswith("torch")}
    of_torch = (REPOSITORY / "requirements" / "torch.in").read_text().splitlines()
    needed |= {name for name in of_torch if not name.startswith("#")}
    assert set(dependencies(MODULE / "pyproject.toml")) == needed | {"hatchling>=1.26"}
    names = {re.split("[<>=]", name)[0] for name in needed}
    assert names <= set(folder.locked_names) and "torch" not in folder.locked_names
    assert "http" not in folder.lock.read_text()
    assert f"torch_version={folder.torch}\n" in (REPOSITORY / "scripts" / "install_torch.sh").read_text()


def test_packages_of_the_environment_fit_together(place: Place, module: ExternalModule) -> None:
    python = module.ensure_environment().python
    command = [place.variables["EXTERNAL_MODULES_UV"], "pip", "check", "--python", str(python), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_labels_are_those_of_the_pipeline(module: ExternalModule, frame: np.ndarray, dtype: Any) -> None:
    image = (frame >> 8 if dtype is np.uint8 else frame).astype(dtype)[:, ::-1]
    labels = module.call("worker.py", input_image=image)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected(SHIPPED_MODEL, image))


def test_options_arrive(module: ExternalModule, frame: np.ndarray) -> None:
    labels = module.call("worker.py", input_image=frame, prob_thresh=0.5, min_size=30, max_size=200)
    options = {"prob_threshold": 0.5, "min_size": 30, "max_size": 200}
    np.testing.assert_array_equal(labels, expected(SHIPPED_MODEL, frame, **options))
    assert np.bincount(labels.ravel())[1:].min() >= 30
    with pytest.raises(WorkerError, match="prob_threshold must be from 0 to 1, not 2"):
        module.call("worker.py", input_image=frame, prob_thresh=2)


@pytest.mark.parametrize("mode", ["server", "one-shot"])
def test_directory_and_archive_give_the_same(
    module: ExternalModule, frame: np.ndarray, trained: Path, tmp_path: Path, mode: Any
) -> None:
    archives = [pack(trained, tmp_path / "my droplets ü.tar.gz"), pack(trained, tmp_path / "2.tar.gz", prefix="model/")]
    wanted = expected(trained, frame)
    assert not np.array_equal(wanted, expected(SHIPPED_MODEL, frame))
    for model in (trained, *archives) if mode == "server" else archives[:1]:
        labels = module.call("worker.py", mode=mode, input_image=frame, model=model)
        np.testing.assert_array_equal(labels, wanted)


def copy(folder: Path, target: Path) -> Path:
    return shutil.copytree(folder, target, dirs_exist_ok=True)


@pytest.mark.parametrize(("name", "write"), [("model", copy), ("model.tar.gz", pack)])
def test_a_model_stays_loaded_until_its_files_change(
    module: ExternalModule,
    frame: np.ndarray,
    trained: Path,
    tmp_path: Path,
    name: str,
    write: Callable[[Path, Path], Path],
) -> None:
    other = write_model(tmp_path / "other", bias=-1.0)
    model = write(trained, tmp_path / name)
    module.call("worker.py", input_image=frame)  # another model
    before = loads(module)
    for _ in range(3):
        first = module.call("worker.py", input_image=frame, model=model)
        module.call("worker.py", input_image=frame)
    assert loads(module) == before + 1
    write(other, model)
    second = module.call("worker.py", input_image=frame, model=model)
    assert loads(module) == before + 2
    np.testing.assert_array_equal(first, expected(trained, frame))
    np.testing.assert_array_equal(second, expected(other, frame))
    assert not np.array_equal(first, second)


def test_progress_arrives(module: ExternalModule, frame: np.ndarray) -> None:
    reports: list[tuple[float, str]] = []
    labels = module.call(
        "worker.py", mode="one-shot", input_image=frame, progress=lambda *report: reports.append(report)
    )
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions) and len(reports) >= 3
    assert reports[0] == (0.0, "loading the model") and reports[-1] == (1.0, f"{labels.max()} condensates")


def test_abort_between_tiles_leaves_the_model_loaded(module: ExternalModule, frame: np.ndarray) -> None:
    module.call("worker.py", input_image=frame)
    before, fractions = loads(module), [0.0]
    with pytest.raises(CallAbortedError):
        module.call(
            "worker.py",
            input_image=np.tile(frame, (8, 6)),
            progress=lambda fraction, text: fractions.append(fraction),
            should_abort=lambda: fractions[-1] > 0.1,
        )
    assert fractions[-1] < 0.9
    np.testing.assert_array_equal(module.call("worker.py", input_image=frame), expected(SHIPPED_MODEL, frame))
    assert loads(module) == before


def test_nothing_found_and_no_image(module: ExternalModule) -> None:
    labels = module.call("worker.py", input_image=np.full((40, 50), 7, np.uint16))
    assert (labels.shape, labels.dtype, labels.max()) == ((40, 50), np.int32, 0)
    with pytest.raises(WorkerError, match="InvalidImageError"):
        module.call("worker.py", input_image=np.zeros((3, 40, 50), np.uint16))


def test_a_model_that_is_not_there(module: ExternalModule, frame: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"there is no model .*missing\.tar\.gz; check the path"):
        module.call("worker.py", input_image=frame, model=tmp_path / "missing.tar.gz")
    with pytest.raises(WorkerError, match="must be a whole one"):
        module.call("worker.py", input_image=frame, model="models/mine")
    with pytest.raises(WorkerError, match=r"The model .* cannot be used: .*config\.json"):
        module.call("worker.py", input_image=frame, model=tmp_path)


def test_a_damaged_archive_is_told_and_the_worker_lives_on(
    module: ExternalModule, frame: np.ndarray, trained: Path, tmp_path: Path
) -> None:
    archive = pack(trained, tmp_path / "model.tar.gz")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    before = loads(module)
    with pytest.raises(WorkerError, match=r"The model .*model\.tar\.gz cannot be used: it is damaged or incomplete"):
        module.call("worker.py", input_image=frame, model=archive)
    no_model = tmp_path / "no model"
    no_model.mkdir()
    for name in MODEL_FILES:
        (no_model / name).write_bytes(b"{}")
    with pytest.raises(WorkerError, match=r"The model .*model\.tar\.gz cannot be used: .*copy the model again"):
        module.call("worker.py", input_image=frame, model=pack(no_model, archive))
    archive.write_bytes(whole)
    labels = module.call("worker.py", input_image=frame, model=archive)
    np.testing.assert_array_equal(labels, expected(trained, frame))
    assert loads(module) == before + 3  # the worker is the same, and a failure is not kept
    unpacked = module.ensure_environment().path / "models"
    assert all(sorted(path.name for path in folder.iterdir()) == sorted(MODEL_FILES) for folder in unpacked.iterdir())


@pytest.mark.parametrize("generation", list(SCRIPTS))
def test_nodes_through_limnode(place: Place, frame: np.ndarray, trained: Path, generation: Any) -> None:
    archive = pack(trained, place.home / f"trained {generation}.tar.gz")
    text = (place.module / SCRIPTS[generation]).read_text()
    assert text.count("model=None") == 1
    volume = np.stack([frame, frame[::-1]])[..., np.newaxis]
    for script, model in ((text, SHIPPED_MODEL), (text.replace("model=None", f"model={str(archive)!r}"), trained)):
        host = Ga3Host(place.program, script, generation, variables=place.variables)
        out = limnode.OutputBinaryData(parName="condensates", data=np.zeros(volume.shape, np.int32))
        try:
            layer, *_ = host.output(
                [limnode.InputChannelDef(parName="image")], [limnode.OutputBinaryDef(parName="condensates")]
            )
            assert (layer.binaryName, layer.bitsPerComponent) == ("condensates", 32)
            assert host.run([limnode.InputChannelData(parName="image", data=volume)], [out])
        finally:
            host.shut_down()
        count = 0
        for z in range(2):
            labels = expected(model, volume[z, :, :, 0])
            np.testing.assert_array_equal(out.data[z, :, :, 0], np.where(labels > 0, labels + count, 0))
            count += labels.max()


def test_what_a_microscopist_runs_by_hand(place: Place, trained: Path, tmp_path: Path) -> None:
    program = [place.program, place.module / "test_condensatenet_module.py"]
    environment = {**os.environ, "PYTHONHOME": str(place.program.parent), "PYTHONUTF8": "1"}

    def run(*arguments: str | Path, code: int) -> str:
        done = subprocess.run([*program, *arguments], capture_output=True, env=environment, timeout=120, cwd=tmp_path)
        printed = done.stdout.decode()
        assert done.returncode == code, printed + done.stderr.decode()
        return printed

    printed = run(code=0)
    for text in ("int32, ", "20 of 20 spots found", "GPU: none", "Everything works."):
        assert text in printed
    pack(trained, tmp_path / "mine.tar.gz")
    assert "Everything works." in run("mine.tar.gz", code=0)
    assert "there is no model" in run("missing.tar.gz", code=1)
    shutil.move(place.root.parent / "condensatenet", place.root.parent / "hidden")
    try:
        assert "the module needs the package condensatenet" in run(code=1)
    finally:
        shutil.move(place.root.parent / "hidden", place.root.parent / "condensatenet")
