"""The data folder: transactions, identifiers, contents, locks, and what is left after a kill."""

from __future__ import annotations

import multiprocessing
import re
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import DataFolderError, InvalidDocumentError
from workbench.store import documents
from workbench.store.contents import Contents
from workbench.store.database import Database, new_id, new_ids
from workbench.store.documents import Paging, check_storable, json_text, merge_metadata
from workbench.store.store import Store
from workbench.store.tokens import Tokens

TABLE = "CREATE TABLE IF NOT EXISTS numbers (id INTEGER PRIMARY KEY, text TEXT)"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "test.sqlite", [TABLE])) as opened:
        yield opened


def count(database: Database) -> int:
    return database.read("SELECT COUNT(*) FROM numbers")[0][0]


def add(database: Database, number: int) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (?, 'a')", (number,))


def test_failed_transaction_leaves_nothing_and_frees_the_database(database: Database) -> None:
    done: list[str] = []
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (1, 'a')")
        database.after_commit(lambda: done.append("never"))
        assert count(database) == 1  # its own writes are seen
        raise ZeroDivisionError
    assert count(database) == 0
    add(database, 1)
    assert count(database) == 1
    assert done == []


def test_inner_transaction_joins_the_outer_one(database: Database) -> None:
    done: list[int] = []
    with pytest.raises(ZeroDivisionError), database.write():
        add(database, 1)
        raise ZeroDivisionError
    assert count(database) == 0
    with database.write():
        with database.write():
            database.after_commit(lambda: done.append(count(database)))
        add(database, 1)
        assert done == []
    assert done == [1]


def test_many_threads_write_without_losing_or_failing(database: Database) -> None:
    def increase(_: int) -> None:
        with database.write() as connection:
            (value,) = connection.execute("SELECT COALESCE(MAX(id), 0) FROM numbers").fetchone()
            connection.execute("INSERT INTO numbers VALUES (?, 'a')", (value + 1,))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increase, range(200)))
    assert count(database) == 200


def test_two_databases_on_one_file_wait_for_each_other(tmp_path: Path, database: Database) -> None:
    with closing(Database(tmp_path / "test.sqlite", [TABLE])) as other, ThreadPoolExecutor(1) as pool:
        with database.write() as connection:
            connection.execute("INSERT INTO numbers VALUES (1, 'a')")
            writing = pool.submit(add, other, 2)
            assert count(database) == 1
        writing.result(timeout=20)
        assert count(database) == 2


def test_two_databases_on_one_file_build_on_what_the_other_wrote(tmp_path: Path, database: Database) -> None:
    def increase(which: Database) -> None:
        for _ in range(40):
            with which.write() as connection:
                (value,) = connection.execute("SELECT COALESCE(MAX(id), 0) FROM numbers").fetchone()
                connection.execute("INSERT INTO numbers VALUES (?, 'a')", (value + 1,))

    with closing(Database(tmp_path / "test.sqlite", [TABLE])) as other, ThreadPoolExecutor(2) as pool:
        list(pool.map(increase, (database, other)))
    assert count(database) == 80


def test_stream_shows_one_moment(database: Database) -> None:
    for number in range(10):
        add(database, number)
    stream = database.stream("SELECT id FROM numbers ORDER BY id", rows=4)
    got = [row["id"] for row in next(stream)]
    with database.write() as connection:
        connection.execute("DELETE FROM numbers WHERE id > 5")
    got += [row["id"] for piece in stream for row in piece]
    assert got == list(range(10))
    assert count(database) == 6


def test_connections_end_with_their_threads(database: Database) -> None:
    for _ in range(20):
        thread = threading.Thread(target=count, args=[database])
        thread.start()
        thread.join()
    assert len(database._handles) == 1


def test_a_newer_or_foreign_file_is_refused(tmp_path: Path) -> None:
    newer = tmp_path / "newer.sqlite"
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DataFolderError, match="newer workbench"):
        Database(newer, [TABLE])
    foreign = tmp_path / "foreign.sqlite"
    foreign.write_bytes(b"no database at all" * 100)
    with pytest.raises(DataFolderError, match="cannot be used"):
        Database(foreign, [TABLE])
    assert foreign.read_bytes() == b"no database at all" * 100


def test_identifiers_grow_and_never_repeat() -> None:
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: [*new_ids(50), new_id()], range(40)))
    for part in parts:
        assert part == sorted(part)
        assert all(re.fullmatch("[0-9a-f]{24}", identifier) for identifier in part)
    assert len({identifier for part in parts for identifier in part}) == 40 * 51
    assert new_id() > max(identifier for part in parts for identifier in part)


@given(st.integers(0, 6), st.integers(0, 6), st.booleans())
def test_pages_never_overlap(limit: int, offset: int, descending: bool) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (id INTEGER, name TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(number, "same") for number in (3, 1, 4, 2)])
        clause = Paging(limit, offset, "name", descending).clause({"_id": "id", "name": "name"})
        got = [row[0] for row in connection.execute(f"SELECT id FROM t{clause}")]
    everything = sorted([1, 2, 3, 4], reverse=descending)
    assert got == everything[offset:][: limit or None]


def test_metadata_merges_and_null_removes() -> None:
    assert merge_metadata({"a": 1, "b": None}, {"a": None, "c": {"d": 2}}) == {"b": None, "c": {"d": 2}}
    assert merge_metadata({"a": 1}, {"a": None}, allow_null=True) == {"a": None}
    for key in ("", "a.b", "$a", "a\0"):
        with pytest.raises(InvalidDocumentError, match=r"[Kk]ey"):
            merge_metadata({}, {key: 1})


def test_what_json_cannot_hold_is_refused() -> None:
    deep: list[object] = []
    for _ in range(documents.MAX_DEPTH - 1):
        deep = [deep]
    check_storable(deep)
    with pytest.raises(InvalidDocumentError, match="deep"):
        check_storable({"a": deep})
    check_storable([documents.MAX_INTEGER, -documents.MAX_INTEGER])
    with pytest.raises(InvalidDocumentError, match="64 bits"):
        check_storable({"a": [documents.MAX_INTEGER + 1]})
    with pytest.raises(InvalidDocumentError, match="finite"):
        json_text({"a": [float("inf")]})
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidDocumentError, match="deep"):
        json_text(deep)


def test_contents_are_kept_whole_and_cleaned(tmp_path: Path) -> None:
    contents = Contents(tmp_path / "files")
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    kept, other = contents.copy_in(source), contents.copy_in(source)
    assert source.read_bytes() == contents.path(kept).read_bytes() == b"abc"
    assert contents.path(kept).parent.parent == tmp_path / "files"
    with pytest.raises(FileNotFoundError):
        contents.copy_in(tmp_path / "missing")
    assert list((tmp_path / "files" / ".partial").iterdir()) == []
    contents.new_partial().write_bytes(b"half")
    contents.clean({kept})
    assert sorted(path for path in (tmp_path / "files").rglob("*") if path.is_file()) == [contents.path(kept)]
    contents.remove([kept, other])
    assert not contents.path(kept).exists()


def test_opening_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "data")) as store:
        folder = store.folders.children(store.users.user["_id"], parent_type="user", name="Private")[0]["_id"]
        upload = store.uploads.start(parent_type="folder", parent_id=folder, name="a", size=3)
        file = store.uploads.write(upload["_id"], 0, [b"abc"])
        half = store.uploads.start(parent_type="folder", parent_id=folder, name="b", size=3)
        store.uploads.write(half["_id"], 0, [b"ab"])
        orphan = store.contents.keep(store.contents.new_partial())
        assert len(list((tmp_path / "data" / "files" / ".partial").iterdir())) == 1
    with closing(Store(tmp_path / "data")) as store:
        assert list((tmp_path / "data" / "files" / ".partial").iterdir()) == []
        assert not store.contents.path(orphan).exists()
        assert store.files.path(file["_id"]).read_bytes() == b"abc"
        assert store.uploads.find(half["_id"]) is None


def test_a_second_process_beside_the_first_cleans_nothing(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "data")) as store:
        partial = store.contents.new_partial()
        with closing(Store(tmp_path / "data")):
            assert partial.exists()


def test_only_one_process_serves_a_data_folder(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "data", serve=True)):
        with pytest.raises(DataFolderError, match="already serving"):
            Store(tmp_path / "data", serve=True)
        Store(tmp_path / "data").close()
    Store(tmp_path / "data", serve=True).close()


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=[tmp_path / "data", ready])
    process.start()
    assert ready.wait(30)
    with pytest.raises(DataFolderError, match="already serving"):
        Store(tmp_path / "data", serve=True)
    process.kill()
    process.join()
    Store(tmp_path / "data", serve=True).close()


def _hold(folder: Path, ready: threading.Event) -> None:
    store = Store(folder, serve=True)
    ready.set()
    threading.Event().wait(60)
    store.close()


def test_unusable_data_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError, match=r"file.*cannot be used"):
        Store(tmp_path / "file")


def test_user_and_folders_stay_the_same(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with closing(Store(tmp_path / "data")) as store:
            user = store.users.user
            names = [folder["name"] for folder in store.folders.children(user["_id"], parent_type="user")]
            seen.append((user["_id"], sorted(names)))
    assert seen[0] == seen[1]
    assert seen[0][1] == ["Private", "Public"]


def test_deleting_a_folder_deletes_everything_below(store: Store, tmp_path: Path) -> None:
    parent = store.folders.create(store.users.user["_id"], "parent", parent_type="user")["_id"]
    below = parent
    for name in "abc":
        below = store.folders.create(below, name, meta={"subtype": "contrastDataset"})["_id"]
    item = store.items.create(below, "item")["_id"]
    (tmp_path / "source").write_bytes(b"abc")
    content = store.contents.copy_in(tmp_path / "source")
    file = store.files.create(item, "file", content)["_id"]
    store.annotations.create([_point(below), _point(below)])
    assert [folder["_id"] for folder in store.folders.datasets()][-1] == below
    store.folders.delete(parent)
    assert store.folders.find(below) is None
    assert store.items.find(item) is None
    assert store.files.find(file) is None
    assert not store.contents.path(content).exists()
    assert store.database.read("SELECT * FROM annotations") == []
    assert store.folders.datasets() == []


def _point(dataset_id: str) -> dict[str, object]:
    return {
        "coordinates": [{"x": 1, "y": 2}],
        "tags": [],
        "channel": 0,
        "location": {},
        "shape": "point",
        "datasetId": dataset_id,
    }


def test_an_idle_upload_is_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.folders.create(store.users.user["_id"], "f", parent_type="user")["_id"]
    first = store.uploads.start(parent_type="folder", parent_id=folder, name="a", size=3)
    monkeypatch.setattr("workbench.store.uploads._IDLE_SECONDS", -1.0)
    second = store.uploads.start(parent_type="folder", parent_id=folder, name="b", size=3)
    assert store.uploads.find(first["_id"]) is None
    assert store.uploads.find(second["_id"]) is not None
    assert len(list((store.files_folder / ".partial").iterdir())) == 1


def test_a_folder_can_take_the_next_free_name(store: Store) -> None:
    user = store.users.user["_id"]
    names = [store.folders.create(user, "f", parent_type="user", rename=True)["name"] for _ in range(3)]
    assert names == ["f", "f (1)", "f (2)"]


def test_tokens() -> None:
    tokens = Tokens()
    assert not tokens.accept("")
    tokens.add("one")
    tokens.add("two")
    assert tokens.accept("one")
    assert tokens.accept("two")
    assert not tokens.accept("three")
    assert not tokens.accept("\ud800")
    tokens.discard("one")
    assert not tokens.accept("one")
    assert tokens.accept("two")
