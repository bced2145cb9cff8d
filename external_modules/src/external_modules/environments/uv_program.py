"""The program uv: one that is there, or one of a fixed version that pip installs into a private folder."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from external_modules.child_environment import scrubbed_environment
from external_modules.environments.failures import program_failure, system_failure
from external_modules.environments.file_lock import HeldLock, file_lock
from external_modules.environments.folder_removal import remove_folder
from external_modules.environments.interpreter import host_python
from external_modules.environments.running_program import Finished, ask_program, run_program
from external_modules.environments.uv_settings import uv_environment
from external_modules.errors import ModuleEnvironmentError
from external_modules.home import make_home

UV_VARIABLE = "EXTERNAL_MODULES_UV"
OLDEST_VERSION = (0, 9, 8)  # the first whose `pip install` has --excludes

_LOCK = Path(__file__).with_name("uv.txt")
_FILE = "uv.exe" if sys.platform == "win32" else "uv"
_INSTALL = (
    *("-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"),
    *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
)

Report = Callable[["float | None", str], object]


@dataclass(frozen=True)
class UvProgram:
    """A uv that works.

    Attributes:
        path: the program.
        version: such as (0, 13, 9).
        home: the folder of this package's data, where it runs and has its cache.
    """

    path: Path
    version: tuple[int, ...]
    home: Path

    @cached_property
    def _environment(self) -> dict[str, str]:
        return uv_environment(self.home / "cache")

    @property
    def finds_folders(self) -> bool:
        """Whether there are folders of wheels that need no download."""
        return bool(self._environment.get("UV_FIND_LINKS"))

    def run(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        on_tick: Callable[[str | None], object],
        *,
        lock: HeldLock | None = None,
        without: Sequence[str] = (),
    ) -> Finished:
        """Run it to its end.

        Args:
            arguments: of the command.
            on_tick: gets each line that it prints, and None about twice a second. What it raises ends the program.
            lock: as `run_program`.
            without: names of variables that it does not get.

        Raises:
            OSError: it cannot be started.
        """
        return run_program(
            [self.path, *arguments],
            environment={name: value for name, value in self._environment.items() if name not in without},
            folder=self.home,  # has no project whose settings uv would take up
            on_tick=on_tick,
            lock=lock,
        )


def find_uv(home: Path, report: Report | None = None) -> UvProgram:
    """Return the uv that $EXTERNAL_MODULES_UV names, else one on the PATH or of the host's Python, else a private one.

    The private one is installed at first use into home/uv/<version>, by the host's pip from wherever it takes packages.

    Args:
        home: the folder of this package's data; is made.
        report: is told if an installation takes its time. What it raises ends it.

    Raises:
        ModuleEnvironmentError: there is none and none can be installed; says how to get one.
    """
    try:
        make_home(home)
    except OSError as error:
        raise system_failure("Making a folder for environments", error, home) from error
    named = os.environ.get(UV_VARIABLE)
    if named:
        path = Path(os.path.abspath(named))
        version = _version_of(path)
        if version is None or version < OLDEST_VERSION:
            is_what = "does not work" if version is None else f"is version {_text(version)}"
            raise ModuleEnvironmentError(
                f"{UV_VARIABLE} names {path}, which {is_what}. Let it name the program uv of version "
                f"{_text(OLDEST_VERSION)} or newer, or unset it."
            )
        return UvProgram(path, version, home)
    for path in _candidates(home):
        version = _version_of(path)
        if version is not None and version >= OLDEST_VERSION:
            return UvProgram(path, version, home)
    return _install(home, report or (lambda fraction, text: None))


def _candidates(home: Path) -> Iterator[Path]:
    folders = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep)]
    for folder in [*folders, Path(sysconfig.get_path("scripts"))]:
        path = folder / _FILE
        if folder.is_absolute() and path.is_file():  # never one that lies in the working folder by chance
            yield path
    private = _program_in(home / "uv" / _pinned_version())
    if private:
        yield private


def _install(home: Path, report: Report) -> UvProgram:
    doing = "Installing the program uv"
    python = host_python()
    if python is None or importlib.util.find_spec("pip") is None:
        raise ModuleEnvironmentError(
            f"Making an environment needs the program uv; it was not found, and the Python of this program "
            f"({sys.executable or 'without a file of its own'}) has no pip that could install it. Install uv as its "
            f'documentation says ("Installing uv"), so that it is on the PATH, or let {UV_VARIABLE} name it; then '
            "start again."
        )
    text = "installing the program uv (first use; a few seconds)"
    version = _pinned_version()
    folder, new = (home / "uv" / name for name in (version, f"{version}.new"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(folder.parent / f"{version}.lock", lambda: report(None, text)) as lock:
            if _program_in(folder) is None:  # nobody did it while we waited
                remove_folder(folder)
                remove_folder(new)
                report(0.0, text)
                finished = run_program(
                    [python.path, *_INSTALL, "--requirement", _LOCK, "--target", new],
                    environment=_pip_environment(),
                    folder=home,
                    on_tick=lambda line: report(None, text),
                    lock=lock,
                )
                installed = _program_in(new)
                if finished.code != 0 or installed is None or _version_of(installed) is None:
                    remove_folder(new)
                    raise program_failure(doing, finished, home)
                os.replace(new, folder)
            program = _program_in(folder)
            assert program is not None
            return UvProgram(program, _numbers(version), home)
    except OSError as error:
        raise system_failure(doing, error, home) from error


def _pip_environment() -> dict[str, str]:
    environment = scrubbed_environment()
    for name in ("PIP_PREFIX", "PIP_TARGET", "PIP_ROOT"):
        environment.pop(name, None)
    # would contradict the folder that we name
    return {**environment, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}


def _program_in(folder: Path) -> Path | None:
    for place in ("bin", "Scripts"):
        path = folder / place / _FILE
        if path.is_file():
            return path
    return None


def _pinned_version() -> str:
    match = re.search(r"^uv==([\d.]+)", _LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    assert match is not None
    return match[1]


def _version_of(path: Path) -> tuple[int, ...] | None:
    try:
        answer = ask_program([path, "--version"])
    except OSError:
        return None
    match = re.search(r"^uv (\d+(?:\.\d+)+)", answer.output, re.MULTILINE)
    return _numbers(match[1]) if match and answer.code == 0 else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _text(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
