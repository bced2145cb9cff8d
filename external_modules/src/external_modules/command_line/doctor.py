"""`external-modules doctor`: what works on this machine, and what to do about what does not."""

from __future__ import annotations

import argparse
import errno
import os
import platform
import shutil
import tempfile

import numpy as np

from external_modules.catalogue import CatalogueEntry, read_catalogue, size_of
from external_modules.command_line.common import (
    ProgressDisplay,
    Verbs,
    add_modules_option,
    add_verb,
    find_entry,
    folders_of_modules,
    in_bytes,
    one_line,
)
from external_modules.environments.interpreter import host_python
from external_modules.environments.store import EnvironmentStore
from external_modules.environments.uv_program import UvProgram, find_uv
from external_modules.errors import ExternalModuleError, ModuleEnvironmentError
from external_modules.external_module import ExternalModule
from external_modules.home import HOME_VARIABLE, make_home
from external_modules.module_folder import ModuleFolder
from external_modules.validation import Finding, validate


def add_parsers(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "doctor",
        run_doctor,
        summary="what works and what does not",
        description="Check what modules need on this machine, line by line. Nothing is installed, but a worker may\n"
        "download its model. The exit code is 1 if something is broken; an environment that is not made yet is not.",
        examples="  external-modules doctor\n  external-modules doctor threshold_module",
    )
    parser.add_argument("module", nargs="?", metavar="MODULE", help="name or path of a module (default: all)")
    add_modules_option(parser)


def run_doctor(arguments: argparse.Namespace) -> int:
    """Print what works and what does not."""
    store = EnvironmentStore()
    if arguments.module:
        entries = [find_entry(arguments.module, arguments, store)]
    else:
        entries = read_catalogue(folders_of_modules(arguments), store)
    findings = _Findings()
    findings.ok(f"Python {platform.python_version()}, numpy {np.__version__}")
    if _check_home(store, findings):
        is_needed = any(entry.folder and not entry.environment for entry in entries)
        uv = _check_uv(store, findings, is_needed=is_needed)
        for entry in entries:
            print(f"{entry.name}:", flush=True)
            _check_module(entry, store, uv, findings)
    print(f"{findings.failures} broken" if findings.failures else "Nothing is broken.")
    return 1 if findings.failures else 0


class _Findings:
    """Prints lines, and counts those that tell of something broken."""

    def __init__(self) -> None:
        self.failures = 0

    def add(self, finding: Finding) -> None:
        self.failures += finding.is_failure
        print(f"  {one_line(ExternalModuleError(str(finding)))}", flush=True)

    def ok(self, text: str) -> None:
        self.add(Finding("ok", text))

    def note(self, text: str) -> None:
        self.add(Finding("note", text))

    def failed(self, text: str) -> None:
        self.add(Finding("FAILED", text))


class _NotInstalledError(Exception):
    """There is no uv yet, and pip can install it."""


def _check_home(store: EnvironmentStore, findings: _Findings) -> bool:
    """Return whether it is worth looking further."""
    try:
        make_home(store.home)
        with tempfile.TemporaryFile(dir=store.home) as file:
            file.write(b"test")
        free = shutil.disk_usage(store.home).free
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and store.home.is_dir():
            findings.note(
                f"data folder {store.home} cannot be written to: what is ready there can be used, but nothing be made"
            )
            return True
        findings.failed(
            f"data folder {store.home} cannot be written to ({error.strerror}): see that you may write there, or set "
            f"{HOME_VARIABLE} to another folder on a disk of this computer"
        )
        return False
    findings.ok(f"data folder {store.home} ({in_bytes(free)} free)")
    return True


def _check_uv(store: EnvironmentStore, findings: _Findings, *, is_needed: bool) -> UvProgram | None:
    def stop(fraction: float | None, text: str) -> None:
        raise _NotInstalledError

    try:
        uv = find_uv(store.home, stop)
    except _NotInstalledError:
        findings.note("uv is not there yet: the first `external-modules sync` installs it")
        return None
    except ModuleEnvironmentError as error:
        if is_needed:
            findings.failed(f"uv: {one_line(error)}")
        else:
            findings.note(f"uv is not needed: all environments are ready ({one_line(error)})")
        return None
    findings.ok(f"uv {'.'.join(map(str, uv.version))} ({uv.path})")
    return uv


def _check_module(entry: CatalogueEntry, store: EnvironmentStore, uv: UvProgram | None, findings: _Findings) -> None:
    folder = entry.folder
    if folder is None:
        findings.failed(f"module folder: {one_line(ExternalModuleError(entry.problem))}")
        return
    findings.ok(f"module folder {folder.path}, version {folder.version}")
    if folder.unlocked_names:
        findings.failed(
            f'lock: {", ".join(folder.unlocked_names)} not in {folder.lock}: `external-modules lock "{folder.path}"` '
            "writes it anew"
        )
        return
    if entry.environment is None:
        if uv:
            _check_index(folder, uv, findings)
        findings.note(f"environment is not made yet: `external-modules sync {folder.name}` makes it, as does a call")
        return
    findings.ok("index is not needed: the environment is there")
    findings.ok(f"environment ready, {in_bytes(size_of(entry.environment))} ({entry.environment})")
    with ExternalModule(folder.path, store.home) as module, ProgressDisplay(folder.name) as progress:
        works = True
        for finding in validate(module, {}, lambda text: progress(None, text)):
            progress.clear()
            findings.add(finding)
            works = works and not finding.is_failure
        if not works:
            findings.note(
                f"the log is {module.log_file}; to make the environment anew remove {entry.environment}, then "
                "`external-modules sync`"
            )


def _check_index(folder: ModuleFolder, uv: UvProgram, findings: _Findings) -> None:
    """Let uv find all that the lock names, without installing anything."""
    python = host_python()
    command: list[str | os.PathLike[str]] = ["pip", "sync", "--dry-run", "--require-hashes", "--quiet"]
    command += ["--allow-empty-requirements", folder.lock]
    if python:
        command += ["--python", python.path]
    try:
        with tempfile.TemporaryDirectory(dir=uv.home) as target, ProgressDisplay(folder.name) as progress:
            finished = uv.run(
                [*command, "--target", target], lambda line: progress(None, "asking where the packages are")
            )
    except OSError as error:
        findings.failed(f"index: uv cannot be started ({error}); install uv anew")
        return
    if finished.code == 0:
        apart = ", torch apart" if folder.torch else ""
        findings.ok(f"index: all {len(folder.locked_names)} packages of the lock can be had{apart}")
    else:
        findings.failed(
            "index: not all packages of the lock can be had. Connect this computer to the internet; behind a proxy "
            "set HTTPS_PROXY; mirrors and folders of wheels are taken from pip's settings. uv says: "
            + one_line(ExternalModuleError(finished.tail()))
        )
