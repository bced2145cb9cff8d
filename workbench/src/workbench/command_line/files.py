"""`workbench files`: what lies in the user's folders, such as the models that a tool trained, and copies of it."""

from __future__ import annotations

import argparse
import shutil
from contextlib import closing, suppress
from pathlib import Path

from workbench.command_line.options import Verbs, absolute_path, add_data_option, open_store
from workbench.errors import WorkbenchError
from workbench.store.documents import Document
from workbench.store.store import Store


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "files",
        help="list the files in your folders, such as trained models, or copy one",
        description="List a folder of yours, or copy a file of it, such as a model that a tool trained. The server\n"
        "may be up meanwhile.",
        epilog="examples:\n  workbench files\n  workbench files Private/.condensatenet/models\n"
        '  workbench files "Private/.condensatenet/models/my model.tar.gz" --output models',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "path", metavar="PATH", nargs="?", default="", help="of a folder or file (default: your folders)"
    )
    parser.add_argument("--output", type=absolute_path, metavar="FOLDER", help="copy the file into this folder")
    add_data_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List or copy."""
    with closing(open_store(arguments)) as store:
        folder, item = find(store, arguments.path)
        if item is not None:
            for file in store.files.children(item["_id"]):
                if arguments.output is None:
                    print(_line(file))
                else:
                    print(copy(store, file, arguments.output))
            return 0
        folders, items = _content(store, folder)
        if arguments.output is not None:
            names = ", ".join(repr(entry["name"]) for entry in items) or "none"
            raise WorkbenchError(f"{arguments.path or 'That'} is a folder. Name a file in it; there are: {names}")
        for entry in folders:
            print(f"{'':19}  {'':16}  {entry['name']}/")
        for entry in items:
            print(_line(entry))
    return 0


def find(store: Store, path: str) -> tuple[Document | None, Document | None]:
    """Give the folder and the item of a path such as "Private/.condensatenet/models/mine.tar.gz".

    Returns:
        The folder, None for what holds all folders; and the item, None if the path is that of a folder.

    Raises:
        WorkbenchError: there is nothing of that name; the message lists what there is.
    """
    folder: Document | None = None
    parts = [part for part in path.split("/") if part]
    for number, part in enumerate(parts):
        folders, items = _content(store, folder)
        inner = [entry for entry in folders if entry["name"] == part]
        found = [entry for entry in items if entry["name"] == part]
        if inner:
            folder = inner[0]
        elif found and number == len(parts) - 1:
            return folder, found[0]
        else:
            place = "/".join(parts[:number])
            names = ", ".join(repr(entry["name"]) for entry in [*folders, *items]) or "nothing"
            raise WorkbenchError(f"There is no {part!r} in {place or 'your folders'}. There are: {names}")
    return folder, None


def copy(store: Store, file: Document, folder: Path) -> Path:
    """Copy a file into a folder, which is made if need be, and give the path of the copy.

    Raises:
        WorkbenchError: a file of that name is there already, or cannot be written.
    """
    target = folder / Path(file["name"]).name
    partial = target.with_name(f".{target.name}.partial")
    if target.exists():
        raise WorkbenchError(f"{target} is there already. Remove it or name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store.files.path(file["_id"]), partial)
        partial.replace(target)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise WorkbenchError(f"{target} cannot be written: {error}") from error
    return target


def _line(document: Document) -> str:
    return f"{document['size']:>13,} bytes  {document['created'][:16].replace('T', ' ')}  {document['name']}"


def _content(store: Store, folder: Document | None) -> tuple[list[Document], list[Document]]:
    if folder is None:
        return store.folders.children(store.users.user["_id"], parent_type="user"), []
    return store.folders.children(folder["_id"]), store.items.children(folder["_id"])
