"""The host's side of the stand-in limnode: starts a node script the way NIS-Elements does "out of process"."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Literal

import limnode
import numpy as np

HERE = Path(__file__).resolve().parent


def make_prefix(folder: Path) -> Path:
    """Make a Python whose program lies at the root of its prefix, as conda's does on Windows, and return the program.

    Only with such a one can a host set PYTHONHOME to the program's folder. numpy and limnode are in it, as the host
    demands. They lie beside the standard library, because where else a Python looks differs between systems.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = folder / "lib" / version
    library.mkdir(parents=True)
    for entry in Path(os.__file__).parent.iterdir():
        if entry.name not in ("site-packages", "dist-packages", "__pycache__", "sitecustomize.py"):
            (library / entry.name).symlink_to(entry)
    for name in ("limnode.py", "limtabledata.py"):
        shutil.copy(HERE / name, library)
    specification = importlib.util.find_spec("numpy")
    assert specification is not None and specification.origin is not None
    package = Path(specification.origin).parent
    for entry in (package, package.with_name("numpy.libs")):
        if entry.exists():
            (library / entry.name).symlink_to(entry)
    program = folder / "python"
    program.symlink_to(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    return program


class Ga3Host:
    """Runs one node. `generation` decides with which arguments the script's functions are called."""

    def __init__(
        self,
        executable: Path,
        script: str,
        generation: Literal["6.20", "7.00"] = "7.00",
        *,
        variables: dict[str, str] | None = None,
        par: tuple[Any, ...] = (),
    ) -> None:
        self.script = script
        self._executable, self._variables = executable, variables or {}
        self.generation = generation
        self._par = (par,) if generation == "7.00" else ()
        self.child: subprocess.Popen[bytes] | None = None
        self.printed: list[bytes] = []
        self._connection: Connection | None = None
        self._readers: list[threading.Thread] = []

    def output(self, inp: Sequence[Any], out: Sequence[Any]) -> tuple[Any, ...]:
        """Return the definitions of the outputs as the script left them."""
        return self._ask(limnode.Request("output", (tuple(inp), tuple(out), *self._par)))

    def build(self, loops: list[limnode.LoopDef]) -> limnode.Program | None:
        return self._ask(limnode.Request("build", (*self._par, loops)))

    def run(self, inp: Sequence[Any], out: Sequence[Any], should_abort: Callable[[], bool] | None = None) -> bool:
        """Run the script on arrays and tables; what it wrote is in `out` afterwards. False: it was aborted."""
        memories: dict[str, SharedMemory] = {}
        arrays = {}
        for parameter in (*inp, *out):
            if isinstance(parameter, limnode.ArrayData) and parameter.data is not None:
                memory = SharedMemory(create=True, size=max(1, parameter.data.nbytes))
                np.ndarray(parameter.data.shape, parameter.data.dtype, buffer=memory.buf)[:] = parameter.data
                memories[parameter.parName] = memory
                arrays[parameter.parName] = (memory.name, parameter.data.shape, parameter.data.dtype)
        bare = [copy.copy(parameter) for parameter in (*inp, *out)]
        for parameter in bare:
            if isinstance(parameter, limnode.ArrayData):
                parameter.data = None
        arguments = (tuple(bare[: len(inp)]), tuple(bare[len(inp) :]), *self._par, limnode.RunContext())
        try:
            answer = self._ask(limnode.Request("run", arguments, arrays), should_abort)
            if answer is None:
                return False
            for parameter, returned in zip(out, answer, strict=True):
                if parameter.parName in arrays:
                    _, shape, dtype = arrays[parameter.parName]
                    parameter.data = np.ndarray(shape, dtype, buffer=memories[parameter.parName].buf).copy()
                elif isinstance(parameter, limnode.OutputTableData):
                    parameter.data = returned.data
            return True
        finally:
            for memory in memories.values():
                memory.close()
                memory.unlink()

    def shut_down(self) -> bytes:
        """Kill the child and return what it printed; waits until nobody holds the ends of its pipes any more."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            for reader in self._readers:
                reader.join()
            assert self._connection is not None
            self._connection.close()
            self.child = None
        return b"".join(self.printed)

    def _ask(self, request: limnode.Request, should_abort: Callable[[], bool] | None = None) -> Any:
        if self.child is None or self.child.poll() is not None:
            self.shut_down()
            self._start()
        assert self._connection is not None and self.child is not None
        self._connection.send(request)
        while not self._connection.poll(0.1):
            if should_abort is not None and should_abort():
                self.child.kill()
                return None
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _start(self) -> None:
        self._connection, end = Pipe()
        home = str(self._executable.parent)
        variables = {**os.environ, **self._variables, "PYTHONHOME": home}
        variables.pop("PYTHONPATH", None)
        variables["PATH"] = f"{home}{os.pathsep}{variables['PATH']}"
        self.child = subprocess.Popen(
            [self._executable, "-", str(end.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            pass_fds=[end.fileno()],
        )
        end.close()
        assert self.child.stdin is not None
        self.child.stdin.write(self.script.encode())
        self.child.stdin.close()
        self._readers = [
            threading.Thread(target=self._read, args=[stream], daemon=True)
            for stream in (self.child.stdout, self.child.stderr)
        ]
        for reader in self._readers:
            reader.start()
        try:
            greeting = self._connection.recv()
        except EOFError:
            raise RuntimeError(f"the script did not start:\n{self.shut_down().decode()}") from None
        assert greeting == "CHILD PROCESS READY"

    def _read(self, stream: Any) -> None:
        with stream:
            for line in stream:
                self.printed.append(line)
