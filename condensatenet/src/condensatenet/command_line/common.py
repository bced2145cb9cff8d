"""What several verbs share: options, messages and progress."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tqdm import tqdm

from condensatenet.errors import InvalidOptionError
from condensatenet.inference.pipeline import CondensateNetPipeline, SegmentationSettings

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_SECONDS_BETWEEN_LINES = 30.0
_DEFAULTS = SegmentationSettings()


def add_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int], *, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a verb whose help ends with examples; `run` gets the parsed arguments and returns the exit code."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument("--device", help="cuda, mps or cpu (default: a GPU if there is one)")


def add_segmentation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that become `SegmentationSettings`; they are None where the user gave none."""
    group = parser.add_argument_group("how instances are found")
    learnt = "default: what a trained model brings, else"
    for name, kind, text in (
        ("prob_threshold", float, f"lowest probability of pixels in instances (default: {_DEFAULTS.prob_threshold})"),
        ("min_size", int, f"smallest area in pixels of an instance ({learnt} {_DEFAULTS.min_size})"),
        ("max_size", int, f"largest area in pixels of an instance ({learnt} {_DEFAULTS.max_size})"),
        ("tile_size", int, f"side of the tiles of large images; 0 for no tiles (default: {_DEFAULTS.tile_size})"),
        ("overlap", float, f"part of a tile that the next one shares, at least 64 px (default: {_DEFAULTS.overlap})"),
        ("low_percentile", float, f"percentile of intensities that is black (default: {_DEFAULTS.low_percentile})"),
        ("high_percentile", float, f"percentile of intensities that is white (default: {_DEFAULTS.high_percentile})"),
    ):  # fmt: skip
        metavar = "PIXELS" if kind is int else "NUMBER"
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    group.add_argument(
        "--grouping",
        choices=("merged", "exact"),
        help=f"merged splits fewer instances; exact repeats the original CondensateNet (default: {_DEFAULTS.grouping})",
    )


def read_segmentation_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the segmentation options that were given, checked as far as is possible without the model.

    Raises:
        InvalidOptionError: a value is out of range.
    """
    given = {name: getattr(arguments, name) for name in vars(_DEFAULTS) if getattr(arguments, name, None) is not None}
    if given.get("tile_size") == 0:
        given["tile_size"] = None
    # A size that was not given comes from the model, so that it must not be in the way here.
    SegmentationSettings(min_size=0, max_size=sys.maxsize).with_options(given)
    return given


def load_pipeline(model: str, device: str | None, options: dict[str, Any]) -> CondensateNetPipeline:
    """Load a model by directory or name (torch comes with it) and say which one it is.

    Raises:
        CondensateNetError: see `CondensateNetPipeline.from_pretrained`.
    """
    say(f"Loading model {model}")
    pipeline = CondensateNetPipeline.from_pretrained(model, device, **options)
    say(f"Model {model} on {pipeline.device}")
    return pipeline


def absolute_path(text: str | Path) -> Path:
    """Argument type: a path that is independent of the current folder."""
    return Path(os.path.abspath(os.path.expanduser(text)))


def check_output_folder(path: Path) -> None:
    """Refuse a path at which no folder can be.

    Raises:
        InvalidOptionError: the path, or one above it, is a file.
    """
    for place in (path, *path.parents):
        if place.is_dir():
            return
        if place.exists():
            raise InvalidOptionError(f"{place} is a file where a folder is needed; write the results elsewhere")


def report(text: str) -> None:
    """Print a result, past any progress bar."""
    tqdm.write(text)


def say(text: str) -> None:
    """Print a note beside the results, past any progress bar."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def complain(text: str) -> None:
    """Print an error."""
    say(f"condensatenet: error: {text}")


def count_noun(count: int, noun: str) -> str:
    """Return "1 image" or "2,000 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def progress_bar(total: int, unit: str) -> tqdm[Any]:
    """Return a bar on stderr that is silent when stderr is not a terminal."""
    return tqdm(total=total, unit=unit, disable=None, leave=False, dynamic_ncols=True)


class ProgressDisplay:
    """A `progress_callback` that moves a bar in a terminal, and elsewhere prints a line now and then."""

    def __init__(self) -> None:
        self._bar = tqdm(total=1.0, bar_format="{percentage:3.0f}%|{bar:24}| {desc}", disable=None, dynamic_ncols=True)
        self._printed = float("-inf")

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def __call__(self, fraction: float, message: str) -> None:
        now = time.monotonic()
        if not self._bar.disable:
            self._bar.n = fraction
            self._bar.set_description_str(message)
        elif now - self._printed >= _SECONDS_BETWEEN_LINES:
            self._printed = now
            say(f"{fraction:4.0%}  {message}")
