"""`workbench export`: the annotations of a dataset as label masks, outlines and tables."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path

from workbench.command_line.options import Verbs, absolute_path, add_data_option, open_store
from workbench.command_line.progress import ProgressLines
from workbench.errors import WorkbenchError
from workbench.store.documents import Document
from workbench.store.store import Store

_NAMED = 10  # identifiers of left-out annotations in one message


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "export",
        help="write the annotations of a dataset as label masks, outlines and a table",
        description="Write the annotations of a dataset as label masks (TIFF), outlines (GeoJSON) and a table (CSV)\n"
        "into a new folder. The server may be up meanwhile.",
        epilog="examples:\n  workbench export cells\n  workbench export cells --output results --tag condensate\n"
        "  workbench export cells --tag condensate --region-tag done   # -1 in the masks where nobody annotated",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("dataset", metavar="DATASET", help="name or identifier of the dataset")
    parser.add_argument(
        "--output", type=absolute_path, metavar="FOLDER", help="new folder (default: DATASET_export in the current one)"
    )
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        help="only annotations with this tag; if given several times, with any of them",
    )
    parser.add_argument("--region-tag", metavar="TAG", help="of outlines around what is fully annotated")
    add_data_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Export and say what was written and what was left out."""
    from workbench.export import export_dataset
    from workbench.images.source import sources_of

    with closing(open_store(arguments)) as store:
        dataset = find_dataset(store, arguments.dataset)
        exported = export_dataset(
            store,
            dataset["_id"],
            arguments.output or Path.cwd() / f"{dataset['name'].replace('/', '_')}_export",
            tags=arguments.tag,
            region_tag=arguments.region_tag,
            progress=ProgressLines("label masks"),
        )
        sources_of(store).close()
    print(f"{exported.folder}: {exported.objects} objects, {len(exported.label_files)} label masks")
    if exported.hidden:
        _warn(f"{exported.hidden} objects have no pixel: they are too small, outside the image or under others")
    if exported.invalid:
        _warn(f"Left out {_named(exported.invalid)} whose outline encloses nothing")
    if exported.elsewhere:
        _warn(f"Left out {_named(exported.elsewhere)} at a position or channel that the image does not have")
    return 0


def find_dataset(store: Store, text: str) -> Document:
    """Give the dataset of a name or identifier.

    Raises:
        WorkbenchError: there is none, or several of that name; the message lists what exists.
    """
    datasets = store.folders.datasets()
    found = [folder for folder in datasets if text in (folder["_id"], folder["name"])]
    if len(found) == 1:
        return found[0]
    if found:
        identifiers = ", ".join(folder["_id"] for folder in found)
        raise WorkbenchError(f"Several datasets are called {text!r}. Name one by its identifier: {identifiers}")
    known = ", ".join(folder["name"] for folder in datasets) or "none; add one with `workbench import`"
    raise WorkbenchError(f"There is no dataset {text!r}. The datasets are: {known}")


def _named(identifiers: list[str]) -> str:
    shown = ", ".join(identifiers[:_NAMED]) + (", ..." if len(identifiers) > _NAMED else "")
    return f"{len(identifiers)} annotations ({shown})"


def _warn(text: str) -> None:
    print(f"Warning: {text}.", file=sys.stderr)
