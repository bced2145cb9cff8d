"""A module that a host calls: its environment, its workers and its log."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from external_modules.calls.connection import AbortQuestion, ProgressCallback, WorkerProgram
from external_modules.calls.one_shot import OneShotCall
from external_modules.calls.server_worker import ServerWorker
from external_modules.calls.worker_log import LogFile
from external_modules.child_environment import scrubbed_environment
from external_modules.environments.store import Environment, EnvironmentStore
from external_modules.errors import CallAbortedError, ExternalModuleError, InvalidModuleError
from external_modules.home import default_home
from external_modules.module_folder import ModuleFolder
from external_modules.process_tree import NO_WINDOW

Mode = Literal["server", "one-shot"]

_PROBE_TIMEOUT_S = 300.0
_USUAL_WORKER = "worker.py"


class Environments(Protocol):
    """Where a module's environment comes from; `EnvironmentStore` is one."""

    def ensure(self, folder: ModuleFolder, report: Callable[[float | None, str], object] | None = None) -> Environment:
        """Return the environment of a module, made if need be."""


class ExternalModule:
    """Calls the worker scripts of a module. May be used from any thread, and as a context manager.

    Nothing of this process is changed: neither its modules' path, its environment, its working folder nor its signals.

    Args:
        folder: the module's folder.
        home: where environments and logs are kept; None for the usual place.
        environments: where its environment comes from; None for those below `home`.
        idle_timeout: seconds without a call after which a worker is ended. The next call starts it anew.
        shared_memory: whether arrays go to workers through shared memory, or else through files.

    Raises:
        InvalidModuleError: the folder holds no module.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        home: str | os.PathLike[str] | None = None,
        *,
        environments: Environments | None = None,
        idle_timeout: float = 600.0,
        shared_memory: bool = True,
    ) -> None:
        self.folder = ModuleFolder(folder)
        home_folder = default_home() if home is None else Path(home).absolute()
        self._environments: Environments = environments or EnvironmentStore(home_folder)
        self._log = LogFile(home_folder / "logs" / f"{self.folder.name}.log")
        self._idle_timeout = idle_timeout
        self._shared_memory = shared_memory
        self._lock = threading.Lock()
        self._environment: Environment | None = None
        self._servers: dict[Path, ServerWorker] = {}
        self._one_shots: dict[Path, OneShotCall] = {}

    @property
    def name(self) -> str:
        """The module's name."""
        return self.folder.name

    @property
    def log_file(self) -> Path:
        """What its workers print, with the begin and end of each call; older parts are beside it (.1, .2)."""
        return self._log.path

    def call(
        self,
        worker_script: str | os.PathLike[str],
        /,
        *,
        mode: Mode = "server",
        timeout: float | None = 300.0,
        progress: ProgressCallback | None = None,
        should_abort: AbortQuestion | None = None,
        keep_folder: str | os.PathLike[str] | None = None,
        **arguments: Any,
    ) -> Any:
        """Call the function that a worker script serves, in the module's environment, which is made if need be.

        Args:
            worker_script: its file name in the module's folder, or a path.
            mode: "server" keeps the worker for the next call, with what it has loaded; others that call it wait for
                their turn. "one-shot" starts a worker for this call alone.
            timeout: seconds that the call may take, with a start of the worker but without the making of the
                environment and without waiting for one's turn; None for no limit.
            progress: is called in this thread with a fraction (0 to 1) and a text.
            should_abort: is asked in this thread, about 20 times a second, whether to give the call up. The worker is
                asked to stop then; two seconds later it is ended with all that it started.
            keep_folder: where the files of a one-shot call stay, with a README.txt that says how to compute it again.
            arguments: numpy arrays (of numbers, truth values or texts, of any shape, order and byte order), JSON
                values, paths (which arrive as absolute texts), and lists and dicts of them.

        Returns:
            What the function returned. Arrays have their exact type and shape; tuples come as lists.

        Raises:
            ModuleEnvironmentError: the environment cannot be made.
            WorkerError: the function raised an error (`worker_traceback` says where), or the worker ended.
            WorkerTimeoutError: it took too long.
            CallAbortedError: `should_abort` said so, or the module was closed meanwhile.
            ExternalModuleError: an argument cannot go to another process; names it.
        """
        if mode not in ("server", "one-shot"):
            raise ExternalModuleError(f'mode is {mode!r}; it must be "server" or "one-shot"')
        if keep_folder is not None and mode != "one-shot":
            raise ExternalModuleError('Only the files of a call with mode="one-shot" can be kept')
        script = self._script(worker_script)
        reached = 0.0

        def report(fraction: float | None, text: str) -> None:
            nonlocal reached
            reached = reached if fraction is None else fraction
            if should_abort is not None and should_abort():
                raise CallAbortedError("The call was aborted while the environment was being made")
            if progress is not None:
                progress(reached, text)

        program = self._program(script, self._ensure(report))
        if mode == "server":
            server = self._server(program)
            return server.call(arguments, timeout=timeout, progress=progress, should_abort=should_abort)
        return self._one_shot(program).call(
            arguments,
            timeout=timeout,
            progress=progress,
            should_abort=should_abort,
            keep_folder=None if keep_folder is None else Path(keep_folder),
        )

    def ensure_environment(self, progress: Callable[[float | None, str], object] | None = None) -> Environment:
        """Make the environment if need be, which can take minutes.

        Args:
            progress: is called with a fraction (0 to 1, or None: as before) and a text; what it raises stops the
                making.

        Raises:
            ModuleEnvironmentError: it cannot be made; says why and what to do.
        """
        return self._ensure(progress)

    def validate_environment(self, report: Callable[[str], object] = print) -> bool:
        """Check whether the module works on this machine, and tell what was found, line by line.

        Args:
            report: gets each line.

        Returns:
            Whether all is well.
        """
        report(f"Module {self.name} {self.folder.version} ({self.folder.path})")
        begin = time.monotonic()
        told = ""

        def tell(fraction: float | None, text: str) -> None:
            nonlocal told
            if text != told:  # it comes again and again, so that a host can stop the making
                told = text
                report(f"  {text}")

        try:
            environment = self._ensure(tell)
            report(f"Environment: ready after {time.monotonic() - begin:.1f} s ({environment.path})")
            found = self._probe(environment)
            report(
                f"Python {found['python']}: "
                + ", ".join(f"{name} {version}".strip() for name, version in found["found"])
            )
            for name, problem in found["failed"]:
                report(f"FAILED: {name} cannot be imported: {problem}")
            report(f"GPU: {found['gpu']}")
            if (self.folder.path / _USUAL_WORKER).is_file():
                begin = time.monotonic()
                program = self._program(self._script(_USUAL_WORKER), environment)
                self._server(program).start(timeout=_PROBE_TIMEOUT_S)
                report(f"Worker: ready after {time.monotonic() - begin:.1f} s (its log: {self.log_file})")
        except ExternalModuleError as error:
            report(f"FAILED: {error}")
            return False
        return not found["failed"]

    def close(self) -> None:
        """End the workers; calls that are being computed are aborted. A later call starts anew."""
        with self._lock:
            servers, one_shots = [*self._servers.values()], [*self._one_shots.values()]
        for server in servers:
            server.close()
        for one_shot in one_shots:
            one_shot.close()

    def __enter__(self) -> ExternalModule:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ensure(self, report: Callable[[float | None, str], object] | None) -> Environment:
        environment = self._environment
        if environment is None or not environment.python.exists():
            environment = self._environments.ensure(self.folder, report)
            self._environment = environment
        return environment

    def _script(self, name: str | os.PathLike[str]) -> Path:
        script = Path(os.path.abspath(self.folder.path / name))
        if not script.is_file():
            raise InvalidModuleError(f"The module {self.name} has no worker script {script}; check WORKER_SCRIPT")
        return script

    def _program(self, script: Path, environment: Environment) -> WorkerProgram:
        return WorkerProgram(self.name, environment.python, script, scrubbed_environment())

    def _server(self, program: WorkerProgram) -> ServerWorker:
        with self._lock:
            server = self._servers.get(program.script)
            if server is None or server.program.python != program.python:
                replaced, server = (
                    server,
                    ServerWorker(
                        program, self._log, idle_timeout=self._idle_timeout, shared_memory=self._shared_memory
                    ),
                )
                self._servers[program.script] = server
                if replaced is not None:
                    replaced.close()
            return server

    def _one_shot(self, program: WorkerProgram) -> OneShotCall:
        with self._lock:
            one_shot = self._one_shots.get(program.script)
            if one_shot is None or one_shot.program != program:
                one_shot = self._one_shots[program.script] = OneShotCall(program, self._log)
            return one_shot

    def _probe(self, environment: Environment) -> dict[str, Any]:
        names = json.dumps([*dict.fromkeys(["numpy", *self.folder.import_probe])])
        torch = self.folder.torch is not None or "torch" in self.folder.locked_names
        command = [str(environment.python), "-I", "-X", "utf8", "-c", _PROBE, names, "torch" if torch else ""]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=scrubbed_environment(),
                timeout=_PROBE_TIMEOUT_S,
                check=True,
                creationflags=NO_WINDOW,
            )
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
            printed = getattr(error, "stderr", None) or b""
            raise ExternalModuleError(f"{error}\n{printed.decode(errors='replace')}".strip()) from error
        return found


_PROBE = """
import importlib, json, sys
found, failed, gpu = [], [], "not used by this module"
for name in json.loads(sys.argv[1]):
    try:
        found.append((name, str(getattr(importlib.import_module(name), "__version__", ""))))
    except Exception as error:
        failed.append((name, f"{type(error).__name__}: {error}"))
if sys.argv[2]:
    import torch
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name(0)
    elif getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
        gpu = "Apple (Metal)"
    else:
        gpu = "none; torch computes on the CPU"
print(json.dumps({"python": sys.version.split()[0], "found": found, "failed": failed, "gpu": gpu}))
"""
