"""A model of a name that exists: replaced as a whole or not at all, whatever breaks and whoever else does the same."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import CuttingProxy
from model_files import contents, make_model
from model_store_server import (
    LARGE,
    Server,
    assert_one_whole_model,
    closed_at_the_end,
    items_named,
    put_archive,
)

from annotation_client.connection import Connection, connect
from annotation_client.errors import UploadError
from annotation_client.uploads import replace_contents
from model_archive import write_archive
from utils import download_girder_model, list_girder_models, upload_girder_model

pytestmark = pytest.mark.usefixtures("models_dir", "small_chunks")

WORKERS = Path(__file__).resolve().parent.parent


# ---- one training


def test_a_model_is_replaced_under_the_same_item(gc: Connection, tmp_path: Path, name: str) -> None:
    models = [make_model(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    first, second = (upload_girder_model(gc, model, name, base_model=model.name) for model in models)
    assert first["_id"] == second["_id"]
    assert assert_one_whole_model(gc, name, models, tmp_path) == models[1]


@pytest.mark.parametrize("tenth", range(10))
def test_a_connection_that_dies_during_the_upload_leaves_the_old_model(
    server: Server, gc: Connection, tmp_path: Path, name: str, large_models: list[Path], tenth: int
) -> None:
    old = make_model(tmp_path / "old", seed=5)
    upload_girder_model(gc, old, name, base_model="old")
    cut_after = 1000 + LARGE * tenth // 10
    with CuttingProxy(server.api_url, cut_after=cut_after, stay_dead=True) as proxy:
        broken = Connection(proxy.api_url, server.token, retry_delays_s=(0.01, 0.01))
        with closed_at_the_end(broken), pytest.raises((UploadError, OSError)):
            upload_girder_model(broken, large_models[0], name, base_model=large_models[0].name)
        assert proxy.was_cut
    assert assert_one_whole_model(gc, name, [old], tmp_path) == old


@pytest.mark.parametrize("tenth", [0, 3, 6, 9])
def test_a_connection_that_breaks_once_only_costs_time(
    server: Server, gc: Connection, tmp_path: Path, name: str, large_models: list[Path], tenth: int
) -> None:
    upload_girder_model(gc, make_model(tmp_path / "old", seed=5), name)
    with CuttingProxy(server.api_url, cut_after=4000 + LARGE * tenth // 10) as proxy:
        broken = Connection(proxy.api_url, server.token, retry_delays_s=(0.05, 0.2, 0.5))
        with closed_at_the_end(broken):
            upload_girder_model(broken, large_models[1], name, base_model=large_models[1].name)
        assert proxy.was_cut
    assert_one_whole_model(gc, name, [large_models[1]], tmp_path)


UPLOADER = """
import sys, time
from pathlib import Path
import utils
from annotation_client import uploads
from annotation_client.connection import connect

def stop_after_a_chunk(done, total):
    print(done, total, flush=True)
    time.sleep(60)

_, api_url, token, model, name, uploads.CHUNK_BYTES = *sys.argv, 2**17
utils.upload_girder_model(connect(api_url, token), Path(model), name, progress=stop_after_a_chunk)
"""


def test_an_upload_that_is_killed_leaves_the_old_model(
    server: Server, gc: Connection, tmp_path: Path, name: str, large_models: list[Path]
) -> None:
    old = make_model(tmp_path / "old")
    for existing in (False, True):
        if existing:
            upload_girder_model(gc, old, name, base_model="old")
        arguments = [server.api_url, server.token, str(large_models[0]), name]
        with subprocess.Popen(
            [sys.executable, "-c", UPLOADER, *arguments], stdout=subprocess.PIPE, text=True, cwd=WORKERS
        ) as process:
            assert process.stdout is not None
            done, total = map(int, process.stdout.readline().split())
            assert 0 < done < total
            process.kill()
        if existing:
            assert_one_whole_model(gc, name, [old], tmp_path)
        else:
            assert not items_named(gc, name)
    upload_girder_model(gc, large_models[0], name, base_model=large_models[0].name)
    assert_one_whole_model(gc, name, large_models, tmp_path)


class _Stopped(BaseException):
    pass


def test_an_upload_that_is_stopped_leaves_the_old_model_and_nothing_unfinished(
    gc: Connection, tmp_path: Path, name: str, large_models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    old = make_model(tmp_path / "old")
    upload_girder_model(gc, old, name, base_model="old")

    def stop(done: int, total: int) -> None:
        raise _Stopped

    with pytest.raises(_Stopped):
        upload_girder_model(gc, large_models[0], name, progress=stop)
    assert_one_whole_model(gc, name, [old], tmp_path)
    assert list((tmp_path / "temporary").iterdir()) == []


# ---- several trainings with one name


def upload_together(server: Server, models: list[Path], name: str, wait: Callable[[int, int], object]) -> None:
    """Upload models from a thread each; `wait` is called after every chunk of each."""

    def upload(model: Path) -> None:
        connection = connect(server.api_url, server.token)
        with closed_at_the_end(connection):
            upload_girder_model(connection, model, name, base_model=model.name, progress=wait)

    with ThreadPoolExecutor(len(models)) as pool:
        list(pool.map(upload, models))


@pytest.mark.parametrize("existing", [False, True])
def test_two_trainings_that_end_at_once_leave_one_whole_model(
    server: Server, gc: Connection, tmp_path: Path, name: str, large_models: list[Path], existing: bool
) -> None:
    if existing:
        upload_girder_model(gc, make_model(tmp_path / "old"), name, base_model="old")
    # Each has sent its first chunk before any has sent its second, so neither finds the other's item.
    both_have_begun, begun = threading.Barrier(2, timeout=30), threading.local()

    def wait(done: int, total: int) -> None:
        if not getattr(begun, "yes", False):
            begun.yes = True
            both_have_begun.wait()

    upload_together(server, large_models, name, wait)
    assert_one_whole_model(gc, name, large_models, tmp_path)


@pytest.mark.parametrize("attempt", range(3))
def test_several_small_trainings_that_end_at_once_leave_one_whole_model(
    server: Server, gc: Connection, tmp_path: Path, name: str, attempt: int
) -> None:
    models = [make_model(tmp_path / f"{attempt}{seed}", seed=seed) for seed in range(4)]
    upload_together(server, models, name, lambda done, total: None)
    assert_one_whole_model(gc, name, models, tmp_path)


def test_the_training_that_ends_last_stays_when_another_made_the_item_first(
    server: Server, gc: Connection, tmp_path: Path, name: str, large_models: list[Path]
) -> None:
    other = make_model(tmp_path / "other")
    write_archive(other, tmp_path / "archive", {})

    def end_other_training(done: int, total: int) -> None:
        if not items_named(gc, name):
            put_archive(gc, tmp_path / "archive", name)

    upload_girder_model(gc, large_models[0], name, base_model=large_models[0].name, progress=end_other_training)
    models = [other, *large_models]
    assert assert_one_whole_model(gc, name, models, tmp_path) == large_models[0]


def test_metadata_describe_the_content_when_another_training_ends_just_before_they_are_written(
    server: Server, tmp_path: Path, name: str
) -> None:
    models = [make_model(tmp_path / f"last{seed}", seed=seed) for seed in (1, 2)]
    write_archive(models[1], tmp_path / "archive", {"base_model": models[1].name, "metrics": {}})

    class Late(Connection):
        """A connection on which metadata arrive only when another training has replaced the content."""

        def addMetadataToItem(self, itemId: str, metadata: dict[str, Any]) -> Any:
            if metadata["base_model"] == models[0].name:
                (file,) = self.listFile(itemId)
                replace_contents(self, file["_id"], tmp_path / "archive")
            return super().addMetadataToItem(itemId, metadata)

    with closed_at_the_end(Late(server.api_url, server.token)) as gc:
        item = upload_girder_model(gc, models[0], name, base_model=models[0].name)
        assert item["meta"]["base_model"] == models[1].name
        assert assert_one_whole_model(gc, name, models, tmp_path) == models[1]


def test_the_item_that_a_killed_training_left_is_used_and_then_goes(gc: Connection, tmp_path: Path, name: str) -> None:
    models = [make_model(tmp_path / str(seed), seed=seed) for seed in range(3)]
    for model in models[:2]:  # the second becomes an item called "<name>.tar.gz (1)"
        write_archive(model, tmp_path / f"{model.name}.archive", {})
        put_archive(gc, tmp_path / f"{model.name}.archive", name)
    assert sorted(item["name"] for item in items_named(gc, name)) == [f"{name}.tar.gz", f"{name}.tar.gz (1)"]
    assert [item["model_name"] for item in list_girder_models(gc)[0]].count(name) == 1
    assert contents(download_girder_model(gc, name)) == contents(models[1])

    upload_girder_model(gc, models[2], name, base_model=models[2].name)
    assert_one_whole_model(gc, name, models, tmp_path)


def test_readers_find_a_whole_model_at_every_moment(server: Server, gc: Connection, tmp_path: Path, name: str) -> None:
    models = [make_model(tmp_path / f"reader{seed}", seed=seed) for seed in range(4)]
    upload_girder_model(gc, models[0], name, base_model=models[0].name)
    expected = [contents(model) for model in models]
    done = threading.Event()

    def write() -> None:
        try:
            connection = connect(server.api_url, server.token)
            with closed_at_the_end(connection):
                for model in models * 2:
                    upload_girder_model(connection, model, name, base_model=model.name)
        finally:
            done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        reads = 0
        while not done.is_set():
            assert contents(download_girder_model(gc, name)) in expected
            reads += 1
        writing.result()
    assert reads > 3
    assert assert_one_whole_model(gc, name, models, tmp_path) == models[-1]
