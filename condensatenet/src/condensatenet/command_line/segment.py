"""`condensatenet segment`: find the condensates in image files."""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from condensatenet.command_line.common import (
    Verbs,
    absolute_path,
    add_device_option,
    add_segmentation_options,
    add_verb,
    check_output_folder,
    complain,
    count_noun,
    load_pipeline,
    progress_bar,
    read_segmentation_options,
    report,
    say,
)
from condensatenet.errors import CondensateNetError, InvalidOptionError
from condensatenet.files.images import Frame, file_stem, find_images, read_frames, write_labels
from condensatenet.files.outlines import write_geojson, write_properties_csv
from condensatenet.files.pretrained import PRETRAINED
from condensatenet.inference.pipeline import CondensateNetPipeline

ProgressCallback = Callable[[float, str], None]

_LABELS_ENDING = "_labels.tif"
_KINDS = {
    "labels": "NAME_labels.tif, the number of its instance in every pixel (ImageJ, napari, Cellpose)",
    "csv": "NAME.csv, area, position, shape and brightness of every instance (Excel, R)",
    "geojson": "NAME.geojson, the outlines as polygons (QuPath, NimbusImage)",
    "overlay": "overlays/NAME_overlay.png, a picture to look at",
}


def add_parsers(verbs: Verbs) -> None:
    """Add the verb."""
    written = "\n".join(f"  {kind:8} {text}" for kind, text in _KINDS.items())
    parser = add_verb(
        verbs,
        "segment",
        run,
        summary="find the condensates in images",
        description="Find the condensates in images. Every plane (time, z, channel) of every file is segmented by\n"
        f"itself and written as:\n\n{written}\n\n"
        "Label masks that are there already are kept unless you give --overwrite: they may hold your\n"
        "corrections. A file that cannot be read is named and the others are processed; the exit code is then 1.",
        examples="""  condensatenet segment cells.tif --output results
  condensatenet segment experiment1 experiment2 --output results --model my_model
  condensatenet segment 'plates/*/GFP_*.tif' --output results --only labels,csv --device cuda
  condensatenet segment movie.ome.tif --output results --prob-threshold 0.3 --min-size 30 --max-size 2000""",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="image files, folders, or wildcards in quotes")
    parser.add_argument("--output", type=absolute_path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--model",
        default=PRETRAINED,
        help="directory, name of a downloaded model, or OWNER/NAME on the Hugging Face hub (default: %(default)s)",
    )
    parser.add_argument("--only", metavar="KINDS", help=f"write only some of {','.join(_KINDS)} (default: all)")
    parser.add_argument("--overwrite", action="store_true", help="replace label masks that are in the output folder")
    add_device_option(parser)
    add_segmentation_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Segment; 1 if any file could not be segmented completely."""
    kinds = _read_kinds(arguments.only)
    options = read_segmentation_options(arguments)
    check_output_folder(arguments.output)
    paths = _without_own_results(find_images(arguments.inputs), arguments.output)
    prefixes = name_prefixes(paths)
    if "labels" in kinds and not arguments.overwrite:
        _check_nothing_is_lost(
            [prefix + file_stem(path) for path, prefix in zip(paths, prefixes, strict=True)], arguments.output
        )
    work = _Work(load_pipeline(arguments.model, arguments.device, options), arguments.output, kinds)
    failed = []
    with progress_bar(len(paths), "file") as bar:
        for path, prefix in zip(paths, prefixes, strict=True):
            bar.set_description_str(path.name)
            if not work.segment_file(path, prefix, lambda fraction, message: bar.set_postfix_str(message)):
                failed.append(path)
            bar.update()
    say(f"Results are in {arguments.output}")
    if failed:
        names = ", ".join(map(str, failed))
        complain(f"{len(failed)} of {count_noun(len(paths), 'file')} could not be segmented completely: {names}")
    return 1 if failed else 0


@dataclass
class _Work:
    pipeline: CondensateNetPipeline
    output: Path
    kinds: frozenset[str]
    written: set[str] = field(default_factory=set)

    def segment_file(self, path: Path, prefix: str, progress_callback: ProgressCallback) -> bool:
        """Segment every plane of a file and name what goes wrong; return whether nothing did."""
        complete = True
        try:
            for frame in read_frames(path):
                try:
                    self._segment_frame(frame, prefix + frame.name, progress_callback)
                except CondensateNetError as error:
                    complain(f"{path} ({frame.name}): {error}")
                    complete = False
        except CondensateNetError as error:
            complain(str(error))
            complete = False
        return complete

    def _segment_frame(self, frame: Frame, name: str, progress_callback: ProgressCallback) -> None:
        # Not all file systems tell upper case from lower case.
        if name.casefold() in self.written:
            raise InvalidOptionError(f"other results are called {name}; segment this file with another --output")
        labels = self.pipeline.segment(frame.image, progress_callback=progress_callback)
        self.written.add(name.casefold())
        if "labels" in self.kinds:
            write_labels(self.output / f"{name}{_LABELS_ENDING}", labels)
        if "csv" in self.kinds:
            write_properties_csv(self.output / f"{name}.csv", labels, frame.image)
        if "geojson" in self.kinds:
            write_geojson(self.output / f"{name}.geojson", labels)
        if "overlay" in self.kinds:
            from condensatenet.figures import draw_overlay

            # In a folder of its own, so that the label masks can be given to train and evaluate as they lie.
            (self.output / "overlays").mkdir(parents=True, exist_ok=True)
            draw_overlay(frame.image, None, labels, self.output / "overlays" / f"{name}_overlay.png")
        report(f"{name}: {count_noun(int(labels.max(initial=0)), 'instance')}")


def name_prefixes(paths: Sequence[Path]) -> list[str]:
    """Return what goes before each file's name in the names of its results, so that no two files get the same.

    That is nothing for most files. Files of equal names get the folders in which they differ (`a/x.tif` and `b/x.tif`:
    `a_` and `b_`), or, in one folder, their types (`x.tif` and `x.png`: `tif_` and `png_`).

    Raises:
        InvalidOptionError: that does not tell them apart.
    """
    groups = defaultdict(list)
    for path in paths:
        groups[file_stem(path).casefold()].append(path)
    prefixes = dict.fromkeys(paths, "")
    for group in groups.values():
        if len(group) > 1:
            folders = [absolute_path(path).parent.parts for path in group]
            shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False)))
            own = ["".join(f"{part}_" for part in parts[shared:]) for parts in folders]
            for path, prefix in zip(group, own, strict=True):
                prefixes[path] = prefix if own.count(prefix) == 1 else f"{prefix}{path.suffix[1:].lower()}_"
    named: dict[str, Path] = {}
    for path, prefix in prefixes.items():
        other = named.setdefault(f"{prefix}{file_stem(path)}".casefold(), path)
        if other != path:
            raise InvalidOptionError(
                f"the results of {other} and {path} would have equal names; segment one of them with another --output"
            )
    return list(prefixes.values())


def _read_kinds(only: str | None) -> frozenset[str]:
    kinds = frozenset(only.split(",") if only is not None else _KINDS)
    if unknown := sorted(kinds - _KINDS.keys()):
        raise InvalidOptionError(f"--only does not know {unknown[0]!r}; choose from {','.join(_KINDS)}")
    return kinds


def _check_nothing_is_lost(names: Sequence[str], output: Path) -> None:
    """Refuse to replace label masks, which may have been corrected by hand since."""
    wanted = {name.casefold() for name in names}
    for path in sorted(output.glob(f"*{_LABELS_ENDING}")):
        name, shorter = "", path.name.removesuffix(_LABELS_ENDING).casefold()
        while name != shorter:
            name = shorter
            if name in wanted:
                raise InvalidOptionError(
                    f"{path} exists and may hold your corrections; give --overwrite to replace it, or another --output"
                )
            shorter = re.sub(r"_[a-z]+[0-9]+$", "", name)  # planes of a file end in their place, as in `cells_t0_c1`


def _without_own_results(paths: list[Path], output: Path) -> list[Path]:
    """Leave out the label masks that an earlier run wrote among the images."""
    written = {path for path in paths if path.name.endswith(_LABELS_ENDING) and absolute_path(path).parent == output}
    images = [path for path in paths if path not in written]
    if not images:
        raise InvalidOptionError(f"all inputs are label masks that were written to {output} before; give the images")
    if written:
        say(f"Left out {count_noun(len(written), 'label mask')} of an earlier run in {output}")
    return images
