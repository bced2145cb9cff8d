"""The command `condensatenet`: one verb per task, one module per verb."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from condensatenet import __version__
from condensatenet.command_line import evaluate, models, segment, simulate, train
from condensatenet.command_line.common import complain
from condensatenet.errors import CondensateNetError

_INTERRUPTED = 130  # what a shell shows for a program that Ctrl-C ended
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code.

    0: done. 1: done in part, or something outside failed (network, disk, memory). 2: an option or input is not usable.
    130 and 143: stopped by Ctrl-C or by the system (SIGTERM). A traceback means a defect of this program.

    Args:
        argv: the arguments after the program's name; those of this process by default.
    """
    arguments = _build_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except CondensateNetError as error:
        complain(str(error))
        return 2 if isinstance(error, (ValueError, FileNotFoundError)) else 1
    except BrokenPipeError:  # the reader went away, as `head` does
        _drop_unwritten_output()
        return _BROKEN_PIPE
    except OSError as error:
        complain(f"{error}. Check that there is space on the disk and that you may read and write there.")
        _drop_unwritten_output()
        return 1
    except KeyboardInterrupt:
        complain("interrupted")
        return _INTERRUPTED
    return code


def _drop_unwritten_output() -> None:
    """Let go of what stdout cannot take: Python would complain once more when it closes it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="condensatenet",
        description="Finds biomolecular condensates in microscopy images, and learns from outlines that you corrected.",
        epilog="Each verb explains itself: condensatenet segment --help",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"condensatenet {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in (segment, train, evaluate, simulate, models):
        module.add_parsers(verbs)
    return parser
