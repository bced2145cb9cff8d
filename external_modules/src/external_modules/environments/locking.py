"""Writes the lock of a module: exact versions, and the hashes of their files for every system."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from external_modules.environments.failures import program_failure, system_failure
from external_modules.environments.uv_program import Report, UvProgram
from external_modules.errors import InvalidModuleError
from external_modules.module_folder import LOCK_FILE, PROJECT_FILE, read_description

# Of one index, which has the files of every system: one beside it with some of them would hide the others' hashes.
_ONE_INDEX = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_OLDEST_PYTHON = "3.10"


def write_lock(module: Path, uv: UvProgram, report: Report, *, upgrade: bool = False) -> int:
    """Write requirements.txt of a module anew from its pyproject.toml; where this fails it stays as it was.

    torch is left out if module.json names its version: its build depends on the machine.

    Args:
        module: the folder; requirements.txt need not be there.
        uv: does it.
        report: as `EnvironmentStore.ensure`.
        upgrade: to the newest versions; else those that are locked stay where they fit.

    Returns:
        How many packages are locked.

    Raises:
        InvalidModuleError: there is no pyproject.toml, or module.json is no description of a module.
        ModuleEnvironmentError: no set of versions fits, or the index cannot be reached.
    """
    description = read_description(module)
    if not (module / PROJECT_FILE).is_file():
        raise InvalidModuleError(f"{module} has no {PROJECT_FILE}, which says what the module needs.")
    lowest = re.search(r">=\s*(\d+\.\d+)", str(description.get("python")))
    doing = f"Locking what {module.name} needs"
    try:
        with tempfile.TemporaryDirectory(dir=uv.home) as folder:
            lock, excluded = Path(folder, LOCK_FILE), Path(folder, "excluded.txt")
            if (module / LOCK_FILE).is_file():
                shutil.copyfile(module / LOCK_FILE, lock)  # whose versions uv keeps
            excluded.write_text("torch\n", encoding="utf-8")
            command: list[str | os.PathLike[str]] = ["pip", "compile", module / PROJECT_FILE, "--output-file", lock]
            command += ["--universal", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
            command += ["--no-header", "--no-annotate", "--python-version", lowest[1] if lowest else _OLDEST_PYTHON]
            command += ["--excludes", excluded] if description.get("torch") else []
            command += ["--upgrade"] if upgrade else []
            finished = uv.run(command, lambda line: report(None, "looking for versions that fit"), without=_ONE_INDEX)
            if finished.code != 0:
                raise program_failure(doing, finished, uv.home)
            text = lock.read_text(encoding="utf-8")
        new = module / f".{LOCK_FILE}.new"
        new.write_text(text, encoding="utf-8", newline="\n")
        os.replace(new, module / LOCK_FILE)
    except OSError as error:
        raise system_failure(doing, error, uv.home) from error
    return len(re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE))
