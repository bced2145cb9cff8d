"""threshold_module end to end: its environment is really made by uv, and its nodes run through the stand-in limnode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling_behaving_worker import is_running
from microscope import PACKAGE, Microscope
from skimage.measure import label
from whole_modules import assert_the_scripts_differ_in_their_signatures_only

sys.path.insert(0, str(Path(__file__).parent / "limnode"))
import limnode
from ga3_host import Ga3Host

from external_modules.module_folder import ModuleFolder

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the stand-in host starts processes the POSIX way"),
    pytest.mark.timeout(600),  # the packages may have to be downloaded
]

SCRIPTS = {"6.20": "threshold_node_v6_20.py", "7.00": "threshold_node.py"}
GENERATIONS = list(SCRIPTS)
PARAMETERS = "sigma=1.0, threshold=None, min_area=10"
EXACT = "sigma=0, threshold=50, min_area=1"
UNCHANGED = """
HOST_BEFORE = (list(sys.path), dict(os.environ), os.getcwd())
inner_run = run

def run(*arguments):
    inner_run(*arguments)
    assert (sys.path, dict(os.environ), os.getcwd()) == HOST_BEFORE, "the host was changed"
"""
# A second worker of the module: tells what it finds around it, and takes its time without heeding anything.
PROBE = """
import json, os, sys, time
import numpy as np
from module_worker import serve

def probe(input_image, *, facts, seconds):
    found = dict(pid=os.getpid(), home=os.environ.get("PYTHONHOME"), isolated=sys.flags.isolated, prefix=sys.prefix)
    with open(facts + ".new", "w") as file:
        json.dump(found, file)
    os.replace(facts + ".new", facts)
    time.sleep(seconds)
    return np.zeros(input_image.shape, np.int32)

if __name__ == "__main__":
    serve(probe)
"""


class Place(Microscope):
    """One whose module has a second worker, and the hosts that run its node."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "threshold_module")
        (self.module / "probe.py").write_text(PROBE)

    def script(self, generation: str, **replacements: str) -> str:
        text = (self.module / SCRIPTS[generation]).read_text()
        for old, new in {"PARAMETERS": PARAMETERS, **replacements}.items():
            old = {"PARAMETERS": PARAMETERS, "WORKER": '"worker.py"', "NODE": "ThresholdNode()"}[old]
            assert text.count(old) == 1
            text = text.replace(old, new)
        return text.replace('if __name__ == "__main__":', UNCHANGED + '\nif __name__ == "__main__":')

    def host(self, generation: str, **replacements: str) -> Ga3Host:
        return Ga3Host(self.program, self.script(generation, **replacements), generation, variables=self.variables)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """With the environment in it, made by the first run of a node in a child, as it would be at a microscope."""
    place = Place(tmp_path_factory.mktemp("microscope"))
    host = place.host("7.00")
    try:
        host.run([channel(np.zeros((1, 4, 4, 1), np.uint8))], [binary((1, 4, 4, 1))])
    except limnode.ChildProcessError as error:
        if "no package index could be reached" in str(error):
            pytest.skip(f"the module's environment cannot be made: {error}")
        raise
    finally:
        host.shut_down()
    return place


@pytest.fixture(params=GENERATIONS)
def exact(request: pytest.FixtureRequest, place: Place) -> Iterator[Ga3Host]:
    """A host whose node finds everything above 50."""
    host = place.host(request.param, PARAMETERS=EXACT)
    yield host
    host.shut_down()


def channel(data: np.ndarray) -> limnode.InputChannelData:
    return limnode.InputChannelData(parName="image", data=data, calibration=(0.5, 0.5, 1.0))


def binary(shape: tuple[int, ...], dtype: Any = np.int32) -> limnode.OutputBinaryData:
    return limnode.OutputBinaryData(parName="objects", data=np.zeros(shape, dtype))


def defined_by(host: Ga3Host) -> tuple[limnode.OutputBinaryDef, limnode.OutputTableData]:
    inp = [limnode.InputChannelDef(parName="image", calibration=(0.5, 0.5, 1.0))]
    out = [limnode.OutputBinaryDef(parName="objects"), limnode.OutputTableDef(parName="table")]
    layer, table = host.output(inp, out)
    return layer, limnode.OutputTableData(parName="table", data=table.tableDef)


def squares(dtype: Any = np.uint16, depth: int = 1, components: int = 1) -> np.ndarray:
    """Return a volume whose plane z has z + 2 squares, in its last component."""
    volume = np.zeros((depth, 40, 60, components), dtype)
    for z in range(depth):
        for number in range(z + 2):
            volume[z, 5 : 10 + number, 4 + 12 * number : 10 + 12 * number, -1] = 100 + number
    return volume


def test_the_scripts_differ_in_their_signatures_only() -> None:
    old, new = (PACKAGE / "modules" / "threshold_module" / SCRIPTS[name] for name in ("6.20", "7.00"))
    assert_the_scripts_differ_in_their_signatures_only(old, new)


def test_the_module_describes_itself() -> None:
    folder = ModuleFolder(PACKAGE / "modules" / "threshold_module")
    assert folder.name == folder.path.name
    assert {"scikit-image", "numpy"} <= set(folder.locked_names)
    assert "http" not in folder.lock.read_text()


def test_objects_and_their_table_arrive(exact: Ga3Host) -> None:
    assert exact.build([]) is None
    layer, table = defined_by(exact)
    assert (layer.binaryName, layer.bitsPerComponent) == ("objects", 32)
    volume = squares()
    out = binary(volume.shape)
    mask = limnode.OutputBinaryData(parName="mask", data=np.zeros(volume.shape, np.uint8))
    assert exact.run([channel(volume)], [out, table, mask])
    np.testing.assert_array_equal(out.data[0, :, :, 0], label(volume[0, :, :, 0] > 50, connectivity=1))
    np.testing.assert_array_equal(mask.data, out.data)
    rows = dict(zip(table.data.colTitleList, table.data.colDataList, strict=True))
    assert rows == {
        "Entity": ["objects"] * 2,
        "ObjectId": [1, 2],
        "Plane": [0, 0],
        "Area": [30 * 0.25, 36 * 0.25],
        "CentroidX": [3.5, 9.5],
        "CentroidY": [3.75, 4.0],
        "MeanIntensity": [100.0, 101.0],
    }
    units = {meta["title"]: meta.get("units") for meta in table.data.colMetadataList}
    assert (units["Area"], units["CentroidX"]) == ("µm²", "µm")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int32])
def test_every_dtype_with_planes_and_components(exact: Ga3Host, place: Place, dtype: Any) -> None:
    volume = squares(dtype, depth=3, components=2)[:, ::-1, ::-1]
    text = exact.script.replace("min_area=1)", "min_area=1, channel=1)")
    host = Ga3Host(place.program, text, exact.generation, variables=place.variables)
    out = binary((3, 40, 60, 1))
    try:
        assert host.run([channel(volume)], [out])
    finally:
        host.shut_down()
    count = 0
    for z in range(3):
        labels = label(volume[z, :, :, 1] > 50, connectivity=1)
        np.testing.assert_array_equal(out.data[z, :, :, 0], np.where(labels > 0, labels + count, 0))
        count += z + 2
    assert out.data.max() == 9


def test_more_than_65535_objects(exact: Ga3Host) -> None:
    volume = np.zeros((1, 400, 400, 1), np.uint16)
    volume[0, ::2, ::2] = volume[0, 1::2, 1::2] = 65535  # touch at corners only
    _, table = defined_by(exact)
    out = binary(volume.shape)
    assert exact.run([channel(volume)], [out, table])
    assert out.data.max() == 80_000 == len(np.unique(out.data)) - 1 == table.data.rowCount
    small = binary(volume.shape, np.uint8)
    with pytest.raises(limnode.ChildProcessError, match=r"up to number 80000.*makeInt32"):
        exact.run([channel(volume)], [small])
    assert not small.data.any()


def test_nothing_found(exact: Ga3Host) -> None:
    _, table = defined_by(exact)
    out = binary((2, 8, 9, 1))
    assert exact.run([channel(np.zeros((2, 8, 9, 1), np.float32))], [out, table])
    assert not out.data.any() and table.data.rowCount == 0


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_script_as_it_is_finds_what_is_bright(place: Place, generation: str) -> None:
    host = place.host(generation)
    noise = np.random.default_rng(3).normal(200, 5, (1, 40, 60, 1))
    out = binary((1, 40, 60, 1))
    try:
        assert host.run([channel((noise + 10 * squares(np.float32)).astype(np.uint16))], [out])
    finally:
        host.shut_down()
    assert out.data.max() == 2


def test_an_error_of_the_worker_arrives_as_itself(place: Place) -> None:
    host = place.host("7.00", PARAMETERS='sigma="wide", threshold=None, min_area=1')
    try:
        for _ in range(2):  # the worker lives on
            with pytest.raises(limnode.ChildProcessError) as caught:
                host.run([channel(squares())], [binary((1, 40, 60, 1))])
            text = str(caught.value)
            assert "WorkerError" in text and "in segment" in text and "worker.py" in text
    finally:
        host.shut_down()


@pytest.mark.parametrize("mode", ["server", "one-shot"])
def test_a_node_chooses_whether_its_worker_stays(place: Place, tmp_path: Path, mode: str) -> None:
    facts = tmp_path / "facts.json"
    parameters = f"facts={str(facts)!r}, seconds=0"
    host = place.host("6.20", NODE=f"ThresholdNode(mode={mode!r})", WORKER='"probe.py"', PARAMETERS=parameters)
    workers = []
    try:
        for _ in range(2):
            assert host.run([channel(squares())], [binary((1, 40, 60, 1))])
            workers.append(json.loads(facts.read_text())["pid"])
    finally:
        host.shut_down()
    assert (workers[0] == workers[1]) == (mode == "server")


@pytest.mark.parametrize("generation", GENERATIONS)
def test_abort_in_mid_call(place: Place, tmp_path: Path, generation: str) -> None:
    facts = tmp_path / "facts.json"
    host = place.host(generation, WORKER='"probe.py"', PARAMETERS=f"facts={str(facts)!r}, seconds=60")
    out = binary((1, 40, 60, 1))
    try:
        assert not host.run([channel(squares())], [out], should_abort=facts.exists)
        aborted_at = time.monotonic()
        found = json.loads(facts.read_text())
        while is_running(found["pid"]):
            assert time.monotonic() < aborted_at + 5, "the worker outlives its host"
            time.sleep(0.05)
        # The host set PYTHONHOME for its own Python; the worker has the module's.
        assert found["home"] is None and found["isolated"] == 1
        assert Path(found["prefix"]).parent == place.home / "environments"
        facts.unlink()
        host.script = place.script(generation, PARAMETERS=EXACT)
        assert host.run([channel(squares())], [out])
        assert out.data.max() == 2
    finally:
        start = time.monotonic()
        host.shut_down()
    assert time.monotonic() < start + 5, "something holds the child's pipes"


def test_internal_python_stops_a_call_when_the_host_asks(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "facts.json"
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    before = (list(sys.path), dict(os.environ), os.getcwd(), threading.active_count())
    script = place.script("7.00", WORKER="WORKER", PARAMETERS="**parameters")
    names: dict[str, Any] = {"__name__": "node", "WORKER": "probe.py"}
    exec(compile(script, "<node>", "exec"), names)
    names["parameters"] = {"facts": str(facts), "seconds": 60}
    context = limnode.RunContext()
    context._should_abort = facts.exists
    out = binary((1, 40, 60, 1))
    names["run"]([channel(squares())], [out], (), context)
    pid = json.loads(facts.read_text())["pid"]
    assert not is_running(pid) and not out.data.any()
    names["ThresholdNode"].WORKER_SCRIPT = "worker.py"
    names["parameters"] = {"sigma": 0, "threshold": 50, "min_area": 1}
    names["run"]([channel(squares()[:, ::-1, ::-1])], [out], (), limnode.RunContext())
    assert out.data.max() == 2
    names["node"].close()
    assert (sys.path, dict(os.environ), os.getcwd()) == before[:3]


def test_what_a_microscopist_runs_by_hand(place: Place) -> None:
    command = [place.program, place.module / "test_threshold_module.py"]
    environment = {**os.environ, **place.variables, "PYTHONHOME": str(place.program.parent), "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    printed = done.stdout.decode()
    assert done.returncode == 0, printed + done.stderr.decode()
    for text in ("labels (512, 512) int32, 20 objects, 20 of 20 spots found", "Everything works."):
        assert text in printed
    worker = (place.module / "worker.py").read_text()
    (place.module / "worker.py").write_text(worker.replace("smooth >", "smooth <"))
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    finally:
        (place.module / "worker.py").write_text(worker)
    printed = done.stdout.decode()
    assert done.returncode == 1 and "FAILED " in printed and "0 of 20 spots found" in printed
