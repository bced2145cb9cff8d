"""`external-modules list`, `sync`, `lock` and `prune`: modules and their environments."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from external_modules.catalogue import CatalogueEntry, read_catalogue, size_of, unshared_size_of, usual_folders
from external_modules.command_line.common import (
    ProgressDisplay,
    Verbs,
    add_modules_option,
    add_verb,
    complain,
    count_noun,
    find_entry,
    folders_of_modules,
    in_bytes,
    one_line,
    usable_folder,
)
from external_modules.environments.failures import program_failure
from external_modules.environments.locking import write_lock
from external_modules.environments.store import EnvironmentStore
from external_modules.environments.uv_program import find_uv
from external_modules.errors import ExternalModuleError, ModuleEnvironmentError
from external_modules.module_folder import LOCK_FILE

_NO_MODULES = "There are no modules. `external-modules new NAME` writes one."


def add_parsers(verbs: Verbs) -> None:
    """Add the four verbs."""
    listing = add_verb(
        verbs,
        "list",
        run_list,
        summary="the catalogue: which modules there are",
        description="Show the modules: name, version, what they segment, licence, and whether their environment is "
        "ready.",
        examples="  external-modules list\n  external-modules list --modules my_modules --json",
    )
    listing.add_argument("--json", action="store_true", help="for programs: everything that is known, as JSON")

    sync = add_verb(
        verbs,
        "sync",
        run_sync,
        summary="make environments now",
        description="Make the environments of modules now, rather than at their first use. Needs the internet, once.",
        examples="  external-modules sync\n  external-modules sync threshold_module",
    )
    sync.add_argument("module", nargs="*", metavar="MODULE", help="name or path of a module (default: all)")

    lock = add_verb(
        verbs,
        "lock",
        run_lock,
        summary="write a module's requirements.txt anew",
        description="Write requirements.txt of a module: the exact versions of what its pyproject.toml asks for and\n"
        "of what that needs, with the hashes of their files for every system. Versions that are locked already stay.",
        examples="  external-modules lock stardist_module\n  external-modules lock stardist_module --upgrade",
    )
    lock.add_argument("module", metavar="MODULE", help="name or path of a module")
    lock.add_argument("--upgrade", action="store_true", help="take the newest versions")
    prune = add_verb(
        verbs,
        "prune",
        run_prune,
        summary="remove environments that nobody uses",
        description="Remove the environments that no module asks for any more and that no running program uses,\n"
        "damaged ones, and those that a newer one replaces for everybody. Kept are one whose module cannot be read,\n"
        "since a drive may be away, and one for another Python or another build of torch.\n"
        "An environment shares most of its files with uv's cache: their space is freed only with the cache.",
        examples="  external-modules prune\n  external-modules prune --cache",
    )
    prune.add_argument(
        "--cache", action="store_true", help="empty uv's cache too; the next environment needs the internet again"
    )
    for parser in (listing, sync, lock, prune):
        add_modules_option(parser)


def run_list(arguments: argparse.Namespace) -> int:
    """Print the catalogue."""
    entries = read_catalogue(folders_of_modules(arguments), EnvironmentStore())
    if arguments.json:
        print(json.dumps({"modules": [entry.as_json() for entry in entries]}, indent=1))
        return 0
    if not entries:
        print(_NO_MODULES)
        return 0
    rows = [("module", "version", "segments", "licence", "environment"), *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]))
    return 0


def run_sync(arguments: argparse.Namespace) -> int:
    """Make environments and print where they are; go on with the next module when one fails."""
    store = EnvironmentStore()
    if arguments.module:
        entries = [find_entry(text, arguments, store) for text in arguments.module]
    else:
        entries = read_catalogue(folders_of_modules(arguments), store)
        if not entries:
            print(_NO_MODULES)
    failed = 0
    for entry in entries:
        try:
            folder = usable_folder(entry)
            with ProgressDisplay(folder.name) as progress:
                environment = store.ensure(folder, progress)
        except ExternalModuleError as error:
            failed += 1
            complain(f"{entry.name}: {one_line(error)}")
        else:
            print(f"{folder.name}: ready, {in_bytes(size_of(environment.path))}, {environment.path}", flush=True)
    return 1 if failed else 0


def run_lock(arguments: argparse.Namespace) -> int:
    """Write a lock and print how many packages are in it."""
    store = EnvironmentStore()
    entry = find_entry(arguments.module, arguments, store)
    with ProgressDisplay(entry.name) as progress:
        count = write_lock(entry.path, find_uv(store.home, progress), progress, upgrade=arguments.upgrade)
    print(f"{entry.path / LOCK_FILE}: {count_noun(count, 'package')}")
    return 0


def run_prune(arguments: argparse.Namespace) -> int:
    """Remove environments and print which, and the space that this freed."""
    store = EnvironmentStore()
    folders = [arguments.modules] if arguments.modules else usual_folders()
    wanted = [entry.folder for entry in read_catalogue(folders, store) if entry.folder]
    environments = store.home / "environments"
    there = [path for path in environments.iterdir() if path.is_dir()] if environments.is_dir() else []
    sizes = {path: (size_of(path), unshared_size_of(path)) for path in there}
    freed = 0
    removed = store.prune(wanted)
    for path in removed:
        whole, unshared = sizes.get(path, (0, 0))
        freed += unshared
        print(f"removed {path.name}: {in_bytes(whole)}, of which {in_bytes(unshared)} were its own")
    print(f"{count_noun(len(removed), 'environment')} removed, {in_bytes(freed)} freed")
    cache = store.home / "cache"
    if cache.is_dir():
        size = unshared_size_of(cache)
        if arguments.cache:
            _empty_cache(store.home)
            print(f"uv's cache emptied, {in_bytes(size)} freed")
        elif removed:
            print(f"uv's cache in {cache} holds {in_bytes(size)} that no environment uses; --cache empties it")
    return 0


def _empty_cache(home: Path) -> None:
    try:
        with ProgressDisplay("cache") as progress:
            finished = find_uv(home, progress).run(["cache", "clean"], lambda line: progress(None, "emptying"))
    except OSError as error:
        raise ModuleEnvironmentError(f"uv's cache in {home} cannot be emptied: {error}") from error
    if finished.code != 0:
        raise program_failure("Emptying uv's cache", finished, home)


def _row(entry: CatalogueEntry) -> tuple[str, str, str, str, str]:
    folder = entry.folder
    if folder is None:
        return entry.name, "?", "?", "?", f"not usable: {entry.problem}"
    ready = f"ready, {in_bytes(size_of(entry.environment))}" if entry.environment else "made at first use"
    return folder.name, folder.version, folder.segments, folder.licence, ready
