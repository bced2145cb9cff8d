"""Makes an environment: a venv, the locked packages, torch, and the proof that what is needed can be imported."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from external_modules.child_environment import scrubbed_environment
from external_modules.environments.failures import program_failure
from external_modules.environments.file_lock import HeldLock
from external_modules.environments.folder_removal import remove_folder, system_path
from external_modules.environments.interpreter import Interpreter
from external_modules.environments.local_packages import copy_package, installation
from external_modules.environments.ready_record import ReadyRecord, python_of, this_platform, write_record
from external_modules.environments.running_program import Finished, run_program
from external_modules.environments.torch_build import BACKEND_VARIABLE, torch_backend, torch_requests
from external_modules.environments.unlocked_packages import unlocked_packages
from external_modules.environments.uv_program import Report, UvProgram
from external_modules.errors import ModuleEnvironmentError
from external_modules.module_folder import ModuleFolder

Command = list["str | os.PathLike[str]"]

SUSPICION = ".suspect"  # ending of a file beside an environment whose packages could not be imported

_PROBE = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"
_PROBE_TIMEOUT_S = 600.0
_TELLING = ("Downloading ", "Downloaded ", "Building ", "Built ")  # beginnings of uv's lines that tell of progress


class EnvironmentMaking:
    """One attempt to make an environment.

    Args:
        path: its folder, which must not exist.
        folder: the module.
        uv: the program that does it.
        report: as `EnvironmentStore.ensure`.
        lock: stays held as long as a program that this starts runs.
    """

    def __init__(self, path: Path, folder: ModuleFolder, *, uv: UvProgram, report: Report, lock: HeldLock) -> None:
        self._path = path
        self._folder = folder
        self._uv = uv
        self._report = report
        self._lock = lock
        self._python = python_of(path)
        self._text = ""
        self._suspicion = path.with_name(path.name + SUSPICION)

    def make(self, interpreter: Interpreter) -> None:
        """Make it, from nothing to its ready.json.

        Raises:
            ModuleEnvironmentError: a step failed; says why and what to do.
            OSError: a file cannot be written, or a program not started.
        """
        name, lock = self._folder.name, self._folder.lock
        self._say(0.05, f"making an environment (first use of {name})")
        venv: Command = ["venv", "--no-project", "--no-python-downloads", "--python", interpreter.path, self._path]
        self._must(self._run_uv(venv), f"Making the environment of {name}")

        duration = "several minutes" if self._folder.torch else "about a minute"
        self._say(0.1, f"installing {len(self._folder.locked_names)} packages (first use of {name}; {duration})")
        sync: Command = [
            "pip",
            "sync",
            "--python",
            self._python,
            "--require-hashes",
            "--no-build",  # which would run a program of the package, with tools that no hash is known of
            "--allow-empty-requirements",
            lock,
        ]
        self._must(self._install(sync), f"Installing the packages of {name}")

        if self._folder.torch:
            self._say(0.4, f"installing torch {self._folder.torch} (first use of {name}; several minutes)")
            self._install_torch(self._folder.torch)

        for package in self._folder.local_packages:
            self._say(0.9, f"installing {package.name} (first use of {name}; a few seconds)")
            copy = copy_package(package, self._path / "local_packages")
            self._must(self._run_uv(installation(copy, self._python)), f"Installing {package.name} for {name}")
            remove_folder(copy.parent)

        self._say(0.95, f"trying the packages of {name}")
        self._probe()
        write_record(self._path, self._record(interpreter))
        self._suspicion.unlink(missing_ok=True)

    def _install(self, arguments: Command) -> Finished:
        # An environment shares its files with uv's cache. If those were damaged (a power failure, a virus scanner) it
        # would fail for ever: so packages that could not be imported are fetched anew next time, if that is possible.
        if self._suspicion.exists():
            finished = self._run_uv([*arguments, "--no-cache"])
            if finished.code == 0:
                return finished
        return self._run_uv(arguments)

    def _install_torch(self, version: str) -> None:
        # The build fits the machine, so that no lock has its hash; ready.json tells exactly what was installed. What
        # torch needs beside its libraries for a GPU is locked with the other packages: uv is to leave that as it is.
        locked = self._path / "locked_names.txt"
        locked.write_text("".join(f"{name}\n" for name in self._folder.locked_names), encoding="utf-8")
        install: Command = ["pip", "install", "--python", self._python, "--no-build", "--excludes", locked]
        requests = torch_requests(version, backend=torch_backend(), from_folders=self._uv.finds_folders)
        for request in requests:
            finished = self._install([*install, *request])
            if finished.code == 0:
                return
        doing = f"Installing torch {version} for {self._folder.name}, build {torch_backend()} ({BACKEND_VARIABLE}),"
        self._must(finished, doing)

    def _probe(self) -> None:
        name, names = self._folder.name, self._folder.import_probe
        finished = run_program(
            [self._python, "-I", "-c", _PROBE, *names],
            environment=scrubbed_environment(),
            folder=self._path,
            on_tick=lambda line: self._report(None, self._text),
            lock=self._lock,
            timeout=_PROBE_TIMEOUT_S,
        )
        if finished.code != 0:
            self._suspicion.touch()
            raise ModuleEnvironmentError(
                f"The packages of {name} are installed, but cannot be imported ({', '.join(names)}; exit code "
                f"{finished.code}). The lock of the module may not fit this computer: ask whoever made {name}, and "
                f"show this:\n{finished.tail()}"
            )

    def _record(self, interpreter: Interpreter) -> ReadyRecord:
        settings = (self._path / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
        (base,) = [line.partition("=")[2].strip() for line in settings if line.partition("=")[0].strip() == "home"]
        major, minor = interpreter.version[:2]
        packages = (
            Path("Lib/site-packages") if sys.platform == "win32" else Path(f"lib/python{major}.{minor}/site-packages")
        )
        return ReadyRecord(
            module=self._folder.name,
            module_folder=os.fspath(self._folder.path),
            digest=self._folder.digest,
            torch_backend=torch_backend() if self._folder.torch else None,
            platform=this_platform(),
            python=list(interpreter.version),
            abi=interpreter.abi,
            made_with=os.fspath(interpreter.path),
            base_folder=base,
            uv=".".join(str(number) for number in self._uv.version),
            made=time.time(),
            packages_folder=packages.as_posix(),
            packages=sorted(set(os.listdir(system_path(self._path / packages))) - {"__pycache__"}),
            unlocked=unlocked_packages(self._path / packages, self._folder.locked_names),
        )

    def _say(self, fraction: float, text: str) -> None:
        self._text = text
        self._report(fraction, text)

    def _run_uv(self, arguments: Command) -> Finished:
        text = self._text

        def on_tick(line: str | None) -> None:
            nonlocal text
            if line and line.startswith(_TELLING):
                text = f"{self._text}: {line[0].lower()}{line[1:]}"
            self._report(None, text)

        return self._uv.run(arguments, on_tick, lock=self._lock)

    def _must(self, finished: Finished, doing: str) -> None:
        if finished.code != 0:
            raise program_failure(doing, finished, self._uv.home)
