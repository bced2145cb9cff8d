"""A module that a host calls: its environment, its workers and its log."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from external_modules.calls.connection import AbortQuestion, ProgressCallback, WorkerProgram
from external_modules.calls.kept_call import KeptCall
from external_modules.calls.server_worker import ServerWorker
from external_modules.calls.worker_log import LogFile
from external_modules.child_environment import scrubbed_environment
from external_modules.environments.store import Environment, EnvironmentStore
from external_modules.errors import CallAbortedError, ExternalModuleError, InvalidModuleError
from external_modules.home import default_home
from external_modules.module_folder import ModuleFolder

Mode = Literal["server", "one-shot"]


class Environments(Protocol):
    """Where a module's environment comes from; `EnvironmentStore` is one."""

    def ensure(self, folder: ModuleFolder, report: Callable[[float | None, str], object] | None = None) -> Environment:
        """Return the environment of a module, made if need be."""


class ExternalModule:
    """Calls the worker scripts of a module. May be used from any thread, and as a context manager.

    Its workers end with `close`, when nobody has it any more, or with this process.
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
        self._lock = threading.RLock()  # a batch that is collected as garbage meanwhile needs it too
        self._environment: Environment | None = None
        self._servers: dict[Path, ServerWorker] = {}
        self._one_shots: set[ServerWorker] = set()
        self._closing = threading.Event()
        weakref.finalize(self, _end_workers, self._servers).atexit = False  # there each worker ends by itself

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
                their turn, and after a change of a script in its folder a new one starts. "one-shot" starts a worker
                for this call alone.
            timeout: seconds that the call may take, with a start of the worker but without the making of the
                environment and without waiting for one's turn; None for no limit.
            progress: is called in this thread with a fraction (0 to 1) and a text.
            should_abort: is asked in this thread, about 20 times a second, whether to give the call up. The worker is
                asked to stop then; two seconds later it is ended with all that it started.
            keep_folder: where the files of a one-shot call stay, with a README.txt that says how to compute it again; a
                call that was kept there before is replaced.
            arguments: numpy arrays (of numbers, truth values or texts, of any shape, order and byte order), JSON
                values, paths (which arrive as absolute texts), and lists and dicts of them. `call_with` takes those
                that are named like something above.

        Returns:
            What the function returned. Arrays have their exact type and shape; tuples come as lists.

        Raises:
            ModuleEnvironmentError: the environment cannot be made.
            WorkerError: the function raised an error (`worker_traceback` says where), or the worker ended.
            WorkerTimeoutError: it took too long.
            CallAbortedError: `should_abort` said so, or the module was closed meanwhile.
            ExternalModuleError: an argument cannot go to another process; names it.
        """
        return self.call_with(
            worker_script,
            arguments,
            mode=mode,
            timeout=timeout,
            progress=progress,
            should_abort=should_abort,
            keep_folder=keep_folder,
        )

    def call_with(
        self,
        worker_script: str | os.PathLike[str],
        arguments: Mapping[str, Any],
        *,
        mode: Mode = "server",
        timeout: float | None = 300.0,
        progress: ProgressCallback | None = None,
        should_abort: AbortQuestion | None = None,
        keep_folder: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Do what `call` does, with the arguments as a map, so that they may have any name."""
        if keep_folder is not None and mode != "one-shot":
            raise ExternalModuleError('Only the files of a call with mode="one-shot" can be kept')
        program = self._program(worker_script, mode, timeout, progress, should_abort)
        kept = None if keep_folder is None else KeptCall(Path(keep_folder))
        with self._worker(program, mode, kept) as worker:
            return worker.call(arguments, timeout=timeout, progress=progress, should_abort=should_abort)

    def call_batch(
        self,
        worker_script: str | os.PathLike[str],
        batch: Iterable[Mapping[str, Any]],
        *,
        mode: Mode = "server",
        timeout: float | None = 300.0,
        progress: ProgressCallback | None = None,
        should_abort: AbortQuestion | None = None,
    ) -> Iterator[Any]:
        """Call a worker's function for one thing after another, such as the planes of a stack or the files of a folder.

        In one-shot mode, too, one worker computes them all. Each is taken from `batch` when its turn comes and each
        result is handed out before the next is computed, so that only one of them need be in memory. What raises an
        error ends the batch; the results before it have been handed out.

        Args:
            worker_script: as for `call`.
            batch: the arguments of each call.
            mode: as for `call`.
            timeout: seconds that each call may take.
            progress: gets the fraction of the whole batch if that has a length, and else of each call.
            should_abort: as for `call`.

        Yields:
            What the function returned for each of them, in their order.

        Raises:
            ExternalModuleError: the kinds of it that `call` raises.
        """
        program = self._program(worker_script, mode, timeout, progress, should_abort)
        count = len(batch) if isinstance(batch, Sized) else 1
        with self._worker(program, mode) as worker:
            for number, arguments in enumerate(batch):
                if not isinstance(arguments, Mapping):
                    raise ExternalModuleError(
                        "A batch holds the arguments of each call by name, such as {'input_image': image}; its number "
                        f"{number} is a {type(arguments).__name__}"
                    )

                def report(fraction: float, text: str, done: int = number if count > 1 else 0) -> None:
                    if progress is not None:
                        progress((done + fraction) / count, text)

                yield worker.call(arguments, timeout=timeout, progress=report, should_abort=should_abort)

    def ensure_environment(self, progress: Callable[[float | None, str], object] | None = None) -> Environment:
        """Make the environment if need be, which can take minutes.

        Args:
            progress: is called with a fraction (0 to 1, or None: as before) and a text; what it raises stops the
                making.

        Raises:
            ModuleEnvironmentError: it cannot be made; says why and what to do.
        """
        return self._ensure(progress)

    def validate_environment(self, report: Callable[[str], object] = print, **arguments: Any) -> bool:
        """Check whether the module works on this machine: its environment, its packages, the GPU, and its worker on a
        test image, whose result is looked at. What is found is told line by line.

        Args:
            report: gets each line.
            arguments: for the worker's function beside `input_image`, such as the model that is to be tried.

        Returns:
            Whether all is well.
        """
        from external_modules.validation import validate  # most hosts never need it

        report(f"Module {self.name} {self.folder.version} ({self.folder.path})")
        works = True
        for finding in validate(self, arguments, lambda text: report(f"        {text}")):
            works = works and not finding.is_failure
            report(str(finding))
        report("Everything works." if works else f"Not everything works. The log is {self.log_file}")
        return works

    def close(self) -> None:
        """End the workers; calls that are being computed are aborted. A later call starts anew."""
        with self._lock:
            workers = [*self._servers.values(), *self._one_shots]
            closing, self._closing = self._closing, threading.Event()
            closing.set()
        for worker in workers:
            worker.close()

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

    def _program(
        self,
        worker_script: str | os.PathLike[str],
        mode: Mode,
        timeout: float | None,
        progress: ProgressCallback | None,
        should_abort: AbortQuestion | None,
    ) -> WorkerProgram:
        """Return what a worker is started from; all is checked before the environment is made, which takes long."""
        if mode not in ("server", "one-shot"):
            raise ExternalModuleError(f'mode is {mode!r}; it must be "server" or "one-shot"')
        if timeout is not None and not timeout > 0:
            raise ExternalModuleError(f"timeout is {timeout!r}; it must be a number of seconds over 0, or None")
        script = Path(os.path.abspath(self.folder.path / worker_script))
        if not script.is_file():
            raise InvalidModuleError(f"The module {self.name} has no worker script {script}; check WORKER_SCRIPT")
        reached = 0.0
        closing = self._closing

        def report(fraction: float | None, text: str) -> None:
            nonlocal reached
            reached = reached if fraction is None else fraction
            if closing.is_set() or (should_abort is not None and should_abort()):
                raise CallAbortedError("The call was aborted while the environment was being made")
            if progress is not None:
                progress(reached, text)

        python = self._ensure(report).python
        return WorkerProgram(self.name, python, script, scrubbed_environment(), _state_of_scripts(script.parent))

    @contextmanager
    def _worker(self, program: WorkerProgram, mode: Mode, kept: KeptCall | None = None) -> Iterator[ServerWorker]:
        """Give the worker for calls: the one that stays, or one that ends with the calls."""
        if mode == "server":
            yield self._server(program)
            return
        worker = ServerWorker(program, self._log, shared_memory=False, kept=kept)
        with self._lock:
            self._one_shots.add(worker)
        try:
            yield worker
        finally:
            with self._lock:
                self._one_shots.discard(worker)
            worker.close()

    def _server(self, program: WorkerProgram) -> ServerWorker:
        with self._lock:
            server = self._servers.get(program.script)
            if server is not None and server.program.is_as(program):
                return server
            replaced = server
            server = ServerWorker(
                program, self._log, idle_timeout=self._idle_timeout, shared_memory=self._shared_memory
            )
            self._servers[program.script] = server
        if replaced is not None:  # its environment has been made anew, or its script was changed
            replaced.close()
        return server


def try_module(folder: str | os.PathLike[str], **arguments: Any) -> int:
    """Print what works of a module on this machine; see `ExternalModule.validate_environment`.

    Returns:
        The exit code of a program that does this: 0 if all works, or else 1.
    """
    try:
        with ExternalModule(folder) as module:
            return 0 if module.validate_environment(**arguments) else 1
    except ExternalModuleError as error:
        print(f"FAILED: {error}")
        return 1


def _state_of_scripts(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what tells whether a Python file in a folder has been changed."""
    with os.scandir(folder) as entries:
        scripts = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(".py")]
    return tuple(sorted((name, status.st_mtime_ns, status.st_size) for name, status in scripts))


def _end_workers(servers: Mapping[Path, ServerWorker]) -> None:
    """End the workers of a module that nobody has any more, as that of a node script that its host loaded anew."""
    for server in servers.values():  # in threads: garbage is collected in any thread, also in one that reads from them
        threading.Thread(target=server.close, name="end", daemon=True).start()
