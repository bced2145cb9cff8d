"""The stand-in limnode itself: a script that runs out of process meets there what it would meet in NIS-Elements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "limnode"))
import limnode
from ga3_host import Ga3Host, make_prefix

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in host starts processes the POSIX way")

SCRIPT = """
import limnode
import json, os, sys, time

def output(inp, out{par}):
    out[0].makeNew("cell", "#FF0000").makeInt32()

def build({par_first}loops):
    return limnode.ReduceProgram(loops).overZStack()

def run(inp, out{par}, ctx):
    what = inp[0].channelName if hasattr(inp[0], "channelName") else None
    value = int(inp[0].data[0, 0, 0, 0])
    if value == 13:
        keeps_a_view = inp[0].data[0]
        raise ValueError("thirteen")
    if value == 99:
        time.sleep(60)
    print("x" * 100_000)  # more than a pipe holds
    out[0].data[:] = inp[0].data * 2
    if len(out) > 1:
        import numpy
        facts = dict(named=os.path.exists(globals().get("__file__", "")),
                     home=os.environ["PYTHONHOME"], path=os.environ.get("PYTHONPATH"), search=os.environ["PATH"],
                     prefix=sys.prefix, abort=ctx.shouldAbort, par={par_value})
        out[1].withColData("facts", [json.dumps(facts)])

if __name__ == "__main__":
    limnode.child_main(run, output, build)
"""
SCRIPTS = {
    "6.20": SCRIPT.format(par="", par_first="", par_value="None"),
    "7.00": SCRIPT.format(par=", par", par_first="par, ", par_value="list(par)"),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prefix(tmp_path_factory.mktemp("prefix with spaces µ"))


@pytest.fixture(params=["6.20", "7.00"])
def host(request: pytest.FixtureRequest, program: Path) -> Iterator[Ga3Host]:
    host = Ga3Host(program, SCRIPTS[request.param], request.param, variables={"PYTHONPATH": "lost"}, par=(1, "two"))
    yield host
    host.shut_down()


def image(value: int) -> limnode.InputChannelData:
    return limnode.InputChannelData(parName="a", data=np.full((2, 3, 4, 1), value, np.uint16))


def objects() -> limnode.OutputBinaryData:
    return limnode.OutputBinaryData(parName="b", data=np.zeros((2, 3, 4, 1), np.int32))


def test_output_and_build_answer(host: Ga3Host) -> None:
    (definition,) = host.output([limnode.InputChannelDef(parName="a")], [limnode.OutputBinaryDef(parName="b")])
    assert (definition.binaryName, definition.binaryColor, definition.bitsPerComponent) == ("cell", 0xFF0000, 32)
    loops = [
        limnode.LoopDef(name=name, type=type, index=0)
        for name, type in [
            ("T", limnode.ExperimentLoopType.loopTypeTLapse),
            ("Z", limnode.ExperimentLoopType.loopTypeZStack),
        ]
    ]
    program = host.build(loops)
    assert isinstance(program, limnode.ReduceProgram) and program.overLoops == ["Z"]


def test_a_script_sees_what_it_sees_out_of_process(
    host: Ga3Host, program: Path, request: pytest.FixtureRequest
) -> None:
    table = limnode.OutputTableData(parName="t", data=limnode.LimTableDataBase("t"))
    table.data.insertCol("facts", [], {"title": "facts", "decltype": "QString"})
    out = objects()
    assert host.run([image(7)], [out, table])
    assert (out.data == 14).all()
    facts = json.loads(table.data.colData("facts")[0])
    home = str(program.parent)
    assert facts.pop("search").split(os.pathsep)[0] == home
    assert facts == {
        "named": False,
        "home": home,
        "path": None,
        "prefix": home,
        "abort": False,
        "par": [1, "two"] if "7.00" in request.node.name else None,
    }


def test_an_error_arrives_and_the_child_lives_on(host: Ga3Host) -> None:
    with pytest.raises(limnode.ChildProcessError, match="thirteen"):
        host.run([image(13)], [objects()])
    assert host.child is not None
    child = host.child.pid
    out = objects()
    assert host.run([image(1)], [out]) and (out.data == 2).all()
    assert host.child.pid == child


def test_an_abort_kills_the_child_and_the_next_run_has_another(host: Ga3Host) -> None:
    host.run([image(1)], [objects()])
    assert host.child is not None
    child = host.child
    start = time.monotonic()
    out = objects()
    assert not host.run([image(99)], [out], should_abort=lambda: time.monotonic() > start + 0.3)
    assert child.wait(5) < 0 and not out.data.any()
    assert host.run([image(1)], [out]) and host.child is not child


def test_a_script_that_does_not_start_says_why(program: Path) -> None:
    host = Ga3Host(program, "import no_such_package")
    with pytest.raises(RuntimeError, match="no_such_package"):
        host.build([])


def test_pythonhome_would_break_an_environment_of_uv(program: Path, tmp_path: Path) -> None:
    """Why workers get a scrubbed environment: what the host sets is right for its own Python only."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    home: dict[str, Any] = {**os.environ, "PYTHONHOME": str(python.parent)}
    assert subprocess.run([python, "-c", "pass"], env=home, capture_output=True).returncode != 0
    assert subprocess.run([python, "-I", "-c", "pass"], env=home, capture_output=True).returncode == 0


def test_separate_labeled_image() -> None:
    labels = np.array([[1, 1, 2], [0, 0, 2], [3, 0, 0]])
    np.testing.assert_array_equal(limnode.separateLabeledImage(labels), [[1, 0, 2], [0, 0, 2], [3, 0, 0]])
