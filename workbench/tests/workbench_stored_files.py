"""The bytes that lie in a store."""

from __future__ import annotations

from pathlib import Path

from workbench.store.store import Store


def partial_files(store: Store) -> list[Path]:
    return list((store.files_folder / ".partial").iterdir())


def content_files(store: Store) -> set[str]:
    return {path.name for path in store.files_folder.glob("??/*")}


def known_contents(store: Store) -> set[str]:
    return {row[0] for row in store.database.read("SELECT content_id FROM files")}
