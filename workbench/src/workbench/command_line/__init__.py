"""The command `workbench`: one verb per task, one module per verb."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from workbench.command_line import export, files, import_, run_tool, serve
from workbench.errors import WorkbenchError

_INTERRUPTED = 130  # what a shell shows for a program that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code.

    0: done. 1: something is not as it must be; the message says what to do. 2: the arguments cannot be understood.
    130 and 143: stopped by Ctrl-C or by the system (SIGTERM). `run-tool` also returns the exit code of its tool.

    Args:
        argv: the arguments after the program's name; those of this process by default.
    """
    arguments = _build_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except WorkbenchError as error:
        print(f"workbench: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("workbench: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return code


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="A NimbusImage-compatible server for one machine: datasets, annotations, tools and their jobs.",
        epilog="Each verb explains itself: workbench serve --help",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in (import_, serve, run_tool, export, files):
        module.add_parser(verbs)
    return parser
