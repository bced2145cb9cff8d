"""The command `external-modules`: what modules there are, whether they work, and new ones."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from external_modules import __version__
from external_modules.command_line import doctor, environments, new, run, run_pipeline
from external_modules.command_line.common import complain, one_line
from external_modules.errors import ExternalModuleError

_INTERRUPTED = 130  # what a shell shows for a program that Ctrl-C ended
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code.

    0: done. 1: something failed, with a line on stderr that says what. 130: stopped by Ctrl-C. A traceback means a
    defect of this program.

    Args:
        argv: the arguments after the program's name; those of this process by default.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console need not have all letters of a path
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = _build_parser().parse_args(argv)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (ExternalModuleError, OSError) as error:
        complain(one_line(error))
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return _INTERRUPTED
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="external-modules",
        description="Heavy Python packages, each in a locked environment of its own, for a microscope's software.",
        epilog="Each verb explains itself: external-modules run --help",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"external-modules {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in (environments, doctor, run, run_pipeline, new):
        module.add_parsers(verbs)
    return parser
