"""Which environment this host asks for: the one definition by which it is found, named, and made."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from external_modules.environments.failures import program_failure
from external_modules.environments.interpreter import (
    PYTHON_VARIABLE,
    Interpreter,
    describe,
    host_python,
    is_complete,
    named_python,
)
from external_modules.environments.ready_record import ReadyRecord, this_platform
from external_modules.environments.torch_build import torch_backend
from external_modules.environments.uv_program import Report, UvProgram
from external_modules.errors import ModuleEnvironmentError
from external_modules.module_folder import ModuleFolder


@dataclass(frozen=True)
class WantedEnvironment:
    """What a module's environment must be, with the settings and the Python of this host.

    Attributes:
        folder: the module.
        torch_backend: the build of torch; None without torch.
        named: the Python program that must be its base, if $EXTERNAL_MODULES_PYTHON names one.
        host: else this host's Python, if environments can be made with it and the module allows it. Else any other that
            the module allows will do.
    """

    folder: ModuleFolder
    torch_backend: str | None
    named: Path | None
    host: Interpreter | None

    @classmethod
    def of(cls, folder: ModuleFolder) -> WantedEnvironment:
        """Return what is asked for now."""
        host = host_python()
        return cls(
            folder,
            torch_backend() if folder.torch else None,
            named_python(),
            host if host and is_complete(host) and folder.allows_python(host.version) else None,
        )

    def is_served_by(self, record: ReadyRecord) -> bool:
        """Return whether an environment is as it must be. Which uv made it makes no difference."""
        if (record.module, record.digest, record.torch_backend, record.platform) != (
            self.folder.name,
            self.folder.digest,
            self.torch_backend,
            this_platform(),
        ):
            return False
        if self.named:
            return record.made_with == os.fspath(self.named)
        if self.host:
            return record.abi == self.host.abi
        return self.folder.allows_python(tuple(record.python))

    def name(self, interpreter: Interpreter, uv: UvProgram) -> str:
        """Return the name of the environment's folder: one that does not serve has another.

        Args:
            interpreter: what it is made with.
            uv: makes it.
        """
        python = [interpreter.implementation, interpreter.version, interpreter.abi]
        named = os.fspath(self.named) if self.named else None
        identity = [self.folder.digest, self.torch_backend, python, named, this_platform(), uv.version]
        return f"{self.folder.name}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}"

    def interpreter(self, uv: UvProgram, report: Report) -> Interpreter:
        """Return the Python to make it with; uv finds or downloads one if neither a named nor the host's will do.

        Raises:
            ModuleEnvironmentError: there is none; says what to do.
        """
        if not self.named:
            return self.host or self._python_of_uv(uv, report)
        interpreter = describe(self.named)
        if not self.folder.allows_python(interpreter.version):
            version = ".".join(str(number) for number in interpreter.version)
            raise ModuleEnvironmentError(
                f"{PYTHON_VARIABLE} names {self.named}, a Python {version}, but {self.folder.name} needs "
                f"{self.folder.python}. Let it name another Python, or unset it."
            )
        return interpreter

    def _python_of_uv(self, uv: UvProgram, report: Report) -> Interpreter:
        name, clauses = self.folder.name, self.folder.python
        find = ["python", "find", "--no-project", "--system", "--no-python-downloads", clauses]
        text = f"looking for a Python {clauses} for {name}"
        found = uv.run(find, lambda line: report(None, text))
        if found.code != 0:
            text = f"downloading a Python {clauses} (first use of {name}; about a minute)"
            report(0.02, text)
            installed = uv.run(["python", "install", clauses], lambda line: report(None, text))
            if installed.code != 0:
                raise program_failure(f"Downloading a Python {clauses}", installed, uv.home)
            found = uv.run(find, lambda line: report(None, text))
        paths = [line.strip() for line in found.output.splitlines() if os.path.isfile(line.strip())]
        if found.code != 0 or not paths:
            raise program_failure(f"Looking for a Python {clauses}", found, uv.home)
        return describe(Path(paths[-1]))
