"""`workbench import`: image files become a dataset."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import Any

from workbench.command_line.options import Verbs, absolute_path, add_data_option
from workbench.command_line.progress import ProgressLines


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "import",
        help="make a dataset of image files",
        description="Make a dataset of TIFF (also ImageJ hyperstacks and OME-TIFF), PNG and JPEG files. The images\n"
        "are copied: the files are not needed any more. The server may be up meanwhile.\n\n"
        "Several files, or those of a folder, are positions of one dataset, unless all their names say on which\n"
        "axes they lie: words such as xy1, s1 or pos1 (position), t1 (time), z1, c1, ch1 or w1 (channel), also\n"
        "joined as in T001XY01, and names of dyes such as DAPI or GFP (channel).",
        epilog="examples:\n  workbench import cells.ome.tif\n  workbench import experiment1 --name 'Stress granules'\n"
        "  workbench import well_*_DAPI.tif well_*_GFP.tif --pixel-size 0.108",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", type=absolute_path, metavar="PATH", help="image file, or folder of some")
    parser.add_argument("--name", help="of the dataset (default: that of the file or folder)")
    parser.add_argument(
        "--pixel-size", type=float, metavar="µM", help="width of a pixel in µm (default: as the files say)"
    )
    add_data_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Import and say what became of the files."""
    from workbench.images.importing import import_dataset
    from workbench.images.source import sources_of
    from workbench.store.store import Store

    with closing(Store(arguments.data)) as store:
        folder = import_dataset(
            store,
            arguments.paths,
            name=arguments.name,
            pixel_size=arguments.pixel_size,
            progress=ProgressLines("planes"),
        )
        item = store.items.load(folder["meta"]["selectedLargeImageId"])
        with sources_of(store).open(item) as source:
            tiles = source.getMetadata()
        sources_of(store).close()
    print(f"{folder['_id']}\t{folder['name']}\t{_describe(tiles)}")
    return 0


def _describe(tiles: dict[str, Any]) -> str:
    """Say what axes a dataset has, so that a wrong reading of file names is seen at once."""
    axes = tiles.get("IndexRange", {})
    counts = [
        f"{axes[key]} {noun}"
        for key, noun in (("IndexXY", "positions"), ("IndexT", "times"), ("IndexZ", "Z"), ("IndexC", "channels"))
        if key in axes
    ]
    if tiles.get("channels"):
        counts[-1] += f" ({', '.join(tiles['channels'])})"
    return ", ".join([f"{tiles['sizeX']} x {tiles['sizeY']} pixels, {tiles['dtype']}", *counts])
