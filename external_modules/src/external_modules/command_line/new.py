"""`external-modules new`: writes a module to begin with."""

from __future__ import annotations

import argparse

from external_modules.command_line.common import Verbs, add_modules_option, add_verb
from external_modules.module_places import place_for_new_modules
from external_modules.new_module import write_new_module


def add_parsers(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "new",
        run_new,
        summary="write a new module to begin with",
        description="Write a complete module that works at once: it finds bright objects by a threshold, until you\n"
        "put your own work into its worker.py. Its README.md says how. Without --modules it is written to the\n"
        "folder 'modules' beside this program, or of your own data where the program is installed.",
        examples="  external-modules new stardist\n  external-modules new stardist --modules my_modules",
    )
    parser.add_argument("name", metavar="NAME", help="such as stardist; the module is called stardist_module")
    add_modules_option(parser)


def run_new(arguments: argparse.Namespace) -> int:
    """Write the module and print what to do with it."""
    folder = arguments.modules
    if folder is None:
        folder = place_for_new_modules()
        folder.mkdir(parents=True, exist_ok=True)
    path = write_new_module(arguments.name, folder)
    print(f"{path} is written. Next:")
    print(f'  python "{path / f"test_{path.name}.py"}"   shows that it works, before you change anything')
    print(f'  "{path / "README.md"}"   says what to change, and how to use it in NIS-Elements')
    return 0
