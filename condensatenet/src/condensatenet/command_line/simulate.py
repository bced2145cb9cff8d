"""`condensatenet simulate`: make frames with known instances, to try things on."""

from __future__ import annotations

import argparse
from pathlib import Path

from condensatenet.command_line.common import (
    Verbs,
    absolute_path,
    add_verb,
    check_output_folder,
    count_noun,
    progress_bar,
)
from condensatenet.errors import InvalidOptionError
from condensatenet.files.atomic import atomic_write
from condensatenet.files.images import write_labels
from condensatenet.simulation import simulate_dataset


def add_parsers(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "simulate",
        run,
        summary="make simulated images with exact label masks",
        description="Make simulated microscopy images of condensates with exact label masks, as TIFF files in the\n"
        "folders images and labels. The same numbers give the same files.",
        examples="""  condensatenet simulate --output simulated --count 20
  condensatenet simulate --output large --count 1 --size 4096 4096 --seed 7
  condensatenet train --images simulated/images --labels simulated/labels --output my_model""",
    )
    parser.add_argument("--output", type=absolute_path, required=True, metavar="DIR", help="new folder")
    parser.add_argument("--count", type=int, default=10, metavar="N", help="number of images (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(256, 256), metavar=("HEIGHT", "WIDTH"), help="pixels (default: 256 256)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="start of the random numbers (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Simulate and write the pairs."""
    import tifffile

    if arguments.count < 1:
        raise InvalidOptionError(f"--count must be at least 1, not {arguments.count}")
    images, labels = arguments.output / "images", arguments.output / "labels"
    for place in (images, labels):
        check_output_folder(place)
        _check_is_empty(place)
    digits = len(str(arguments.count))
    frames = simulate_dataset(arguments.count, tuple(arguments.size), seed=arguments.seed)
    instances = 0
    with progress_bar(arguments.count, "image") as bar:
        for number, (image, mask) in enumerate(frames, start=1):
            name = f"frame_{number:0{digits}}.tif"
            with atomic_write(images / name) as handle:
                tifffile.imwrite(handle, image, compression="zlib", photometric="minisblack")
            write_labels(labels / name, mask)
            instances += int(mask.max(initial=0))
            bar.update()
    print(f"{count_noun(arguments.count, 'image')} with {count_noun(instances, 'instance')} in {images} and {labels}")
    return 0


def _check_is_empty(place: Path) -> None:
    if place.is_dir() and any(place.iterdir()):
        raise InvalidOptionError(f"{place} holds files, which would mix with the new ones; choose another --output")
