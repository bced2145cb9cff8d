"""cellpose_module end to end: its environment is really made by uv, and a model is trained in it with Cellpose."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cellpose_models_for_tests
import numpy as np
import pytest
from cellpose_models_for_tests import simulate_discs
from cellpose_place import MODULE, NOWHERE, Place
from microscope import make_environment
from whole_modules import REPOSITORY, assert_the_scripts_differ_in_their_signatures_only

sys.path.insert(0, str(Path(__file__).parent / "limnode"))
import limnode
from ga3_host import Ga3Host

from external_modules.errors import CallAbortedError, WorkerError
from external_modules.external_module import ExternalModule
from external_modules.module_folder import ModuleFolder

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the stand-in host starts processes the POSIX way"),
    pytest.mark.timeout(1800),  # torch may have to be downloaded
]

SCRIPTS = {"6.20": "cellpose_node_v6_20.py", "7.00": "cellpose_node.py"}
OPTIONS = {"diameter": 20, "flow_threshold": 0.2, "cellprob_threshold": 2.0, "min_size": 150, "niter": 6}
Labels = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With the environment in it."""
    place = Place(tmp_path_factory.mktemp("microscope"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.variables.items():
            if name != "HTTPS_PROXY":  # packages may have to be downloaded
                patch.setenv(name, value)
        with ExternalModule(place.module) as module:
            make_environment(module)
        for name in ("https_proxy", "HTTPS_PROXY"):
            patch.setenv(name, NOWHERE)
        yield place


@pytest.fixture(scope="module")
def module(place: Place) -> Iterator[ExternalModule]:
    with ExternalModule(place.module) as module:
        yield module


@pytest.fixture(scope="module")
def unseen() -> tuple[np.ndarray, np.ndarray]:
    """An image (180, 180) uint16 on which the model was not trained, and the labels of what is in it."""
    return simulate_discs(180, 25, seed=1000)


@pytest.fixture(scope="module")
def image(unseen: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return unseen[0]


@pytest.fixture(scope="module")
def nuclei(image: np.ndarray) -> np.ndarray:
    return image[::-1] // 2


@pytest.fixture(scope="module")
def made(place: Place, module: ExternalModule, image: np.ndarray, nuclei: np.ndarray) -> Path:
    """The folder with the models, and with what Cellpose finds when it is called without this module."""
    folder = place.home / "models ü"
    folder.mkdir()
    np.save(folder / "image.npy", image)
    np.save(folder / "nuclei.npy", nuclei)
    (folder / "options.json").write_text(json.dumps(OPTIONS))
    python = module.ensure_environment().python
    script = Path(cellpose_models_for_tests.__file__)
    done = subprocess.run([python, "-I", script, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (folder / "executed").exists()
    return folder


@pytest.fixture(scope="module")
def trained(made: Path) -> Path:
    return made / "models" / "my cells ü"


@pytest.fixture(scope="module")
def found(made: Path) -> dict[str, Labels]:
    """What Cellpose itself finds, by case. No two are equal."""
    with np.load(made / "found.npz") as arrays:
        found = dict(arrays)
    for name, labels in found.items():
        assert labels.max() > 3, f"{name}: there is nothing to compare"
        assert [other for other in found if np.array_equal(found[other], labels)] == [name]
    return found


def loads(module: ExternalModule) -> int:
    """Return how often workers have loaded a model so far."""
    return module.log_file.read_text(encoding="utf-8").count("\nloading the model ")


def test_the_scripts_differ_in_their_signatures_only() -> None:
    old, new = (MODULE / SCRIPTS[name] for name in ("6.20", "7.00"))
    assert_the_scripts_differ_in_their_signatures_only(old, new)


def test_the_module_asks_for_cellpose_and_for_what_torch_needs() -> None:
    folder = ModuleFolder(MODULE)
    assert folder.name == MODULE.name
    of_torch = (REPOSITORY / "requirements" / "torch.in").read_text().splitlines()
    of_torch = [name for name in of_torch if not name.startswith("#")]
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", (MODULE / "pyproject.toml").read_text(), re.M | re.S)
    assert listed is not None
    assert re.findall(r'^    "(.+)",', listed[1], re.M) == ["cellpose==3.1.1.3", *of_torch]
    assert {"cellpose", *of_torch} <= set(folder.locked_names) and "torch" not in folder.locked_names
    assert "://" not in folder.lock.read_text()
    assert f"torch_version={folder.torch}\n" in (REPOSITORY / "scripts" / "install_torch.sh").read_text()
    assert folder.allows_python((3, 12, 9)) and not folder.allows_python((3, 13, 0))  # numpy 2.0 has no wheels


def test_packages_of_the_environment_fit_together(place: Place, module: ExternalModule) -> None:
    python = module.ensure_environment().python
    command = [place.variables["EXTERNAL_MODULES_UV"], "pip", "check", "--python", str(python), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_discs_that_the_model_never_saw_are_found(
    module: ExternalModule, unseen: tuple[np.ndarray, np.ndarray], trained: Path
) -> None:
    image, truth = unseen
    labels = module.call("worker.py", input_image=image, model=trained)
    assert (labels.dtype, labels.shape) == (np.int32, image.shape)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))

    def overlap(number: int) -> float:
        disc = truth == number
        same = labels == np.bincount(labels[disc]).argmax()
        return float((disc & same).sum() / (disc | same).sum())

    hits = sum(overlap(number) > 0.6 for number in range(1, truth.max() + 1))
    assert hits >= 23 and labels.max() <= 27, f"{hits} of 25 discs, {labels.max()} objects"


@pytest.mark.parametrize("mode", ["server", "one-shot"])
def test_labels_are_those_of_cellpose(
    module: ExternalModule, image: np.ndarray, trained: Path, found: dict[str, Labels], mode: Any
) -> None:
    labels = module.call("worker.py", mode=mode, input_image=image, model=trained)
    np.testing.assert_array_equal(labels, found["usual"])


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_every_dtype_and_any_layout(
    module: ExternalModule, image: np.ndarray, trained: Path, found: dict[str, Labels], dtype: Any
) -> None:
    padded = np.zeros((image.shape[0] + 3, 2 * image.shape[1]), dtype)
    view = padded[3:, ::2]
    view[:] = image
    labels = module.call("worker.py", input_image=view, model=trained)
    np.testing.assert_array_equal(labels, found["usual"])


def test_options_and_nuclei_arrive(
    module: ExternalModule, image: np.ndarray, nuclei: np.ndarray, trained: Path, found: dict[str, Labels]
) -> None:
    labels = module.call("worker.py", input_image=image, model=trained, **OPTIONS)
    np.testing.assert_array_equal(labels, found["options"])
    labels = module.call("worker.py", input_image=image, nuclei_image=nuclei, model=trained)
    np.testing.assert_array_equal(labels, found["nuclei"])


def test_a_model_of_one_channel(module: ExternalModule, image: np.ndarray, made: Path) -> None:
    labels = module.call("worker.py", input_image=image, model=made / "one channel")
    assert labels.shape == image.shape
    with pytest.raises(WorkerError, match=r"one channel learnt from one channel; leave nuclei_image out"):
        module.call("worker.py", input_image=image, nuclei_image=image, model=made / "one channel")


def test_a_model_stays_loaded_until_its_file_changes(
    module: ExternalModule, image: np.ndarray, made: Path, trained: Path, found: dict[str, Labels], tmp_path: Path
) -> None:
    model = Path(shutil.copy(trained, tmp_path / "model"))
    before = loads(module)
    for _ in range(2):
        first = module.call("worker.py", input_image=image, model=model)
    assert loads(module) == before + 1
    shutil.copy(made / "stricter", model)
    second = module.call("worker.py", input_image=image, model=model)
    assert loads(module) == before + 2
    np.testing.assert_array_equal(first, found["usual"])
    np.testing.assert_array_equal(second, found["stricter"])


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("cellpose 4", "it is one of Cellpose 4 .*Train it again with Cellpose 3"),
        ("incomplete", "it holds something else than Cellpose's standard network"),
        ("denoise", "it holds something else than Cellpose's standard network"),
        ("malicious", "it is damaged, or no model of Cellpose"),
        ("malicious pickle", "it is damaged, or no model of Cellpose"),
        ("damaged", "it is damaged, or no model of Cellpose"),
        ("text", "it is damaged, or no model of Cellpose"),
    ],
)
def test_what_is_no_model_of_cellpose_3_is_refused(
    module: ExternalModule, image: np.ndarray, made: Path, name: str, problem: str
) -> None:
    with pytest.raises(WorkerError, match=rf"The model .*{name} cannot be used: {problem}") as caught:
        module.call("worker.py", input_image=image, model=made / name)
    assert "weights_only" not in str(caught.value).partition("\n")[0]
    assert not (made / "executed").exists()


def test_a_model_that_is_not_there(module: ExternalModule, image: np.ndarray, tmp_path: Path) -> None:
    def error_of(model: str | Path) -> str:
        with pytest.raises(WorkerError) as caught:
            module.call("worker.py", input_image=image, model=model)
        return str(caught.value).partition("\n")[0]

    assert error_of(tmp_path / "missing").endswith(f"there is no model {tmp_path / 'missing'}; check the path")
    assert "must be a whole one" in error_of("models/mine")
    assert "there is no model 'cyto4'" in error_of("cyto4") and "cyto3, nuclei," in error_of("cyto4")
    assert "cpsam, need a module of their own" in error_of("cpsam")
    assert "there is no model 'transformer_cp3'" in error_of("transformer_cp3")
    assert "\ndownloading " not in module.log_file.read_text(encoding="utf-8")


def test_models_in_the_folder_of_cellpose_go_by_their_names(
    place: Place, module: ExternalModule, image: np.ndarray, trained: Path, found: dict[str, Labels]
) -> None:
    place.models.mkdir(exist_ok=True)
    for file, name in (("cyto2torch_0", "cyto2"), ("mine", "mine")):
        shutil.copy(trained, place.models / file)
        np.testing.assert_array_equal(module.call("worker.py", input_image=image, model=name), found["usual"])
        (place.models / file).unlink()


def test_without_a_network_it_is_told_where_a_model_belongs(
    place: Place, module: ExternalModule, image: np.ndarray
) -> None:
    for model in (None, "cyto3"):
        with pytest.raises(WorkerError) as caught:
            module.call("worker.py", input_image=image, model=model)
        first_line = str(caught.value).partition("\n")[0]
        assert "The model cyto3 could not be downloaded: <urlopen error" in first_line
        assert (
            f"download https://www.cellpose.org/models/cyto3 on another one and copy it to {place.models}" in first_line
        )
    assert [*place.models.iterdir()] == []


class Server(ThreadingHTTPServer):
    """Where Cellpose's models are; answers with `content`, of which it claims that it has `length` bytes."""

    content = b""
    length = 0
    asked: list[str]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server = self.server
            assert isinstance(server, Server)
            server.asked.append(self.path)
            self.send_response(200 if server.content else 404)
            self.send_header("Content-Length", str(server.length))
            self.end_headers()
            self.wfile.write(server.content)

        def log_message(self, *arguments: object) -> None:
            pass


def test_download(
    place: Place, module: ExternalModule, image: np.ndarray, trained: Path, found: dict[str, Labels]
) -> None:
    whole = trained.read_bytes()
    reports: list[tuple[float, str]] = []
    with Server(("127.0.0.1", 0), Server.Handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/models"

        def call(content: bytes, length: int) -> Labels:
            server.content, server.length = content, length
            return module.call(
                "elsewhere.py",
                input_image=image,
                address=address,
                model="nuclei",
                progress=lambda *report: reports.append(report),
            )

        for content, length, problem in [
            (b"", 0, "HTTP Error 404"),
            (whole[:-9], len(whole), f"it broke off after {len(whole) - 9:,} of {len(whole):,} bytes"),
            (b"<html>Please log in</html>", 26, "it is damaged, or no model of Cellpose"),
        ]:
            with pytest.raises(WorkerError, match=f"The model nuclei could not be downloaded: {problem}"):
                call(content, length)
            assert [*place.models.iterdir()] == []
        reports.clear()
        labels = call(whole, len(whole))
        assert server.asked == ["/models/nucleitorch_0"] * 4
        server.shutdown()
    assert (place.models / "nucleitorch_0").read_bytes() == whole
    assert [*place.models.iterdir()] == [place.models / "nucleitorch_0"]
    texts = [text for _, text in reports if text.startswith("downloading the model nuclei (")]
    assert texts and " of 27 MB)" in texts[0]
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions) and reports[-1] == (1.0, f"{labels.max()} objects")
    np.testing.assert_array_equal(call(b"", 0), labels)  # it is there now
    (place.models / "nucleitorch_0").unlink()


def test_abort_between_tiles_leaves_the_model_loaded(
    module: ExternalModule, image: np.ndarray, trained: Path, found: dict[str, Labels]
) -> None:
    module.call("worker.py", input_image=image, model=trained)
    before, fractions = loads(module), [0.0]
    with pytest.raises(CallAbortedError):
        module.call(
            "worker.py",
            input_image=np.tile(image, (6, 6)),
            model=trained,
            progress=lambda fraction, text: fractions.append(fraction),
            should_abort=lambda: fractions[-1] > 0.2,
        )
    assert 0.2 < fractions[-1] < 0.6
    np.testing.assert_array_equal(module.call("worker.py", input_image=image, model=trained), found["usual"])
    assert loads(module) == before


def test_nothing_found_and_no_image(module: ExternalModule, trained: Path) -> None:
    for shape in ((40, 50), (1, 50), (0, 0)):
        labels = module.call("worker.py", input_image=np.full(shape, 7, np.uint16), model=trained)
        assert (labels.shape, labels.dtype, labels.any()) == (shape, np.int32, False)
    square = np.zeros((40, 40))
    for arguments, problem in [
        ({"input_image": np.zeros((3, 40, 40))}, r"shape \(H, W\) is needed, not \(3, 40, 40\)"),
        ({"input_image": np.full((40, 40), np.nan)}, "no number or infinite"),
        ({"input_image": square, "nuclei_image": square[:9]}, r"nuclei_image has the shape \(9, 40\)"),
        ({"input_image": square, "diameter": 0.5}, "diameter is 0.5; it must be given in pixels"),
    ]:
        with pytest.raises(WorkerError, match=problem):
            module.call("worker.py", model=trained, **arguments)


@pytest.mark.parametrize("generation", list(SCRIPTS))
def test_nodes_through_limnode(
    place: Place, image: np.ndarray, trained: Path, found: dict[str, Labels], generation: Any
) -> None:
    text = (place.module / SCRIPTS[generation]).read_text()
    assert text.count('model="cyto3"') == 1
    script = text.replace('model="cyto3"', f"model={str(trained)!r}")
    volume = np.stack([image, np.zeros_like(image), image])[..., np.newaxis]
    host = Ga3Host(place.program, script, generation, variables=place.variables)
    out = limnode.OutputBinaryData(parName="cells", data=np.zeros(volume.shape, np.int32))
    try:
        layer, *_ = host.output([limnode.InputChannelDef(parName="image")], [limnode.OutputBinaryDef(parName="cells")])
        assert (layer.binaryName, layer.bitsPerComponent) == ("cells", 32)
        assert host.run([limnode.InputChannelData(parName="image", data=volume)], [out])
    finally:
        host.shut_down()
    labels = found["usual"].astype(np.int32)
    np.testing.assert_array_equal(out.data[0, :, :, 0], labels)
    assert not out.data[1].any()
    np.testing.assert_array_equal(out.data[2, :, :, 0], np.where(labels > 0, labels + labels.max(), 0))


def test_what_a_microscopist_runs_by_hand(place: Place, trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained, tmp_path / "mine")
    program = [place.program, place.module / "test_cellpose_module.py", "mine"]
    environment = {**os.environ, "PYTHONHOME": str(place.program.parent), "PYTHONUTF8": "1"}
    done = subprocess.run(program, capture_output=True, env=environment, timeout=120, cwd=tmp_path)
    printed = done.stdout.decode()
    assert done.returncode == 0, printed + done.stderr.decode()
    for text in ("labels (512, 512) int32, ", "20 of 20 spots found", "GPU: none", "Everything works."):
        assert text in printed
