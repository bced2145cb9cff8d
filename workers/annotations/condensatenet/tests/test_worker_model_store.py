"""The models in a user's folder, on a real Girder server: listed, fetched, replaced, and never lost half-way."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cutting_proxy import CuttingProxy
from girder_client import HttpError
from model_files import REPORT, contents, make_model
from model_store_server import Server, closed_at_the_end, items_named, put_archive, stored_bytes

import utils
from annotation_client.connection import Connection, connect
from annotation_client.errors import ClientError
from annotation_client.uploads import replace_contents, upload_file
from model_archive import write_archive
from utils import ModelStoreError, download_girder_model, list_girder_models, upload_girder_model

pytestmark = pytest.mark.usefixtures("models_dir")
WORKERS = Path(__file__).resolve().parent.parent


# ---- folders


def test_a_folder_is_made_once_by_many_jobs(server: Server, gc: Connection) -> None:
    parent = utils.mkdir(gc, utils.get_condensatenet_dir(gc), f"race {uuid.uuid4().hex}")
    connections = [connect(server.api_url, server.token) for _ in range(8)]
    start = threading.Barrier(len(connections))

    def make(connection: Connection) -> str:
        with closed_at_the_end(connection):
            start.wait()
            return utils.mkdir(connection, parent, "models")

    with ThreadPoolExecutor(len(connections)) as pool:
        made = set(pool.map(make, connections))
    # Girder itself can make two folders of one name; they are still used as one (see the next test).
    folders = [folder["_id"] for folder in gc.listFolder(parent, name="models")]
    assert made <= set(folders)
    assert utils.mkdir(gc, parent, "models") in folders


def test_a_folder_that_cannot_be_made_is_named(gc: Connection, name: str) -> None:
    folder = utils.get_condensatenet_dir(gc)
    gc.createItem(folder, name)  # takes the name
    with pytest.raises(ModelStoreError, match=f"folder {name} could not be made"):
        utils.mkdir(gc, folder, name)


def test_models_in_a_second_folder_of_the_same_name_are_found(gc: Connection, tmp_path: Path, name: str) -> None:
    parent = gc.getFolder(utils.get_condensatenet_dir(gc))["parentId"]
    elsewhere = utils.mkdir(gc, parent, f"elsewhere {name}")
    second = utils.mkdir(gc, elsewhere, "models")
    gc.put(f"folder/{second}", {"parentId": parent, "parentType": "folder"})  # which Girder does not check
    if len(list(gc.listFolder(parent, name="models"))) == 1:
        pytest.skip("this server never has two folders of one name")
    try:
        write_archive(make_model(tmp_path / "old"), tmp_path / "archive", {})
        upload_file(gc, second, tmp_path / "archive", name=f"{name}.tar.gz")
        assert contents(download_girder_model(gc, name)) == contents(tmp_path / "old")
        upload_girder_model(gc, make_model(tmp_path / "new", seed=2), name)
        assert contents(download_girder_model(gc, name)) == contents(tmp_path / "new")
        assert [item["name"] for item in gc.listItem(second)] == [f"{name}.tar.gz"]
        assert not items_named(gc, name)
    finally:
        gc.put(f"folder/{second}", {"parentId": elsewhere, "parentType": "folder"})


def test_asking_for_models_makes_no_folder(server: Server, other: Connection) -> None:
    assert list_girder_models(other) == ([], None)
    (private,) = other.listFolder(other.get("user/me")["_id"], "user", name="Private")
    assert list(other.listFolder(private["_id"])) == []


def test_a_session_that_has_ended_is_called_so(server: Server) -> None:
    gc = connect(server.api_url, "0" * 64)
    with closed_at_the_end(gc), pytest.raises(ModelStoreError, match="session has ended: log in again"):
        utils.get_condensatenet_dir(gc)
    with closed_at_the_end(gc), pytest.raises(ModelStoreError, match="session has ended: log in again"):
        utils.model_names(gc)


def test_listing_models_brings_no_heavy_package() -> None:
    code = "import sys, utils; print([name for name in ('numpy', 'torch') if name in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=WORKERS).stdout
        == "[]\n"
    )


# ---- there and back


def test_a_model_comes_back_with_its_description(gc: Connection, tmp_path: Path, name: str, models_dir: Path) -> None:
    model = make_model(tmp_path / "model")
    item = upload_girder_model(gc, model, f" {name} ", base_model="pretrained")
    assert item["name"] == f"{name}.tar.gz"
    assert item["meta"]["base_model"] == "pretrained"
    assert item["meta"]["metrics"] == {key: REPORT[key] for key in REPORT if key != "history"}
    assert item["meta"]["package_version"]
    content = stored_bytes(gc, item, tmp_path / "content")
    assert item["meta"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert item["meta"]["size"] == len(content)

    directory = download_girder_model(gc, name)
    assert models_dir in directory.parents
    assert directory.name == name
    assert contents(directory) == contents(model)


def test_progress_is_reported(gc: Connection, tmp_path: Path, name: str) -> None:
    calls: list[tuple[int, int]] = []
    item = upload_girder_model(gc, make_model(tmp_path / "m"), name, progress=lambda *call: calls.append(call))
    assert calls[-1] == (item["meta"]["size"],) * 2
    calls.clear()
    download_girder_model(gc, name, progress=lambda *call: calls.append(call))
    assert calls[-1] == (item["meta"]["size"],) * 2


def test_the_user_s_models_are_listed_the_last_changed_first(gc: Connection, other: Connection, tmp_path: Path) -> None:
    names = [f"{order} {uuid.uuid4().hex[:8]}" for order in ("b", "a", "c")]
    for name in names:
        upload_girder_model(gc, make_model(tmp_path / name), name)
    upload_girder_model(gc, tmp_path / names[1], names[1])
    mine = [item["model_name"] for item in list_girder_models(gc)[0] if item["model_name"] in names]
    assert mine == [names[1], names[2], names[0]]
    assert utils.model_names(gc)[0] == "pretrained"
    assert not set(names) & set(utils.model_names(other))


def test_a_long_list_is_complete_and_holds_only_models(gc: Connection, tmp_path: Path) -> None:
    folder = utils.get_condensatenet_dir(gc)
    prefix = uuid.uuid4().hex[:8]
    for number in range(60):  # more than one page
        gc.createItem(folder, f"{prefix} {number}.tar.gz")
    for odd in (f"{prefix}.txt", f"{prefix}.tar", f"{prefix}.tar.gz.part", "pretrained.tar.gz"):
        gc.createItem(folder, odd, reuseExisting=True)
    items, models_folder = list_girder_models(gc)
    found = [item["model_name"] for item in items if item["model_name"].startswith(prefix)]
    assert sorted(found) == sorted(f"{prefix} {number}" for number in range(60))
    assert "pretrained" not in [item["model_name"] for item in items]
    assert models_folder == folder
    for item in list(gc.listItem(folder)):
        if item["name"].startswith(prefix):
            gc.delete(f"item/{item['_id']}")


def test_an_unknown_model_is_an_error_that_lists_what_exists(gc: Connection, tmp_path: Path, name: str) -> None:
    upload_girder_model(gc, make_model(tmp_path / "model"), name)
    with pytest.raises(ModelStoreError, match=f"no model 'mine'.*There are: pretrained, .*{name}"):
        utils.resolve_model(gc, "mine")


def test_an_item_without_a_file_is_an_error(gc: Connection, name: str) -> None:
    gc.createItem(utils.get_condensatenet_dir(gc), f"{name}.tar.gz")
    with pytest.raises(ModelStoreError, match="is empty"):
        download_girder_model(gc, name)


def test_what_is_no_model_is_not_stored(gc: Connection, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelStoreError, match="holds no config"):
        upload_girder_model(gc, tmp_path / "empty", name)
    assert not items_named(gc, name)


def test_pretrained_and_baked_models_need_no_server(
    gc: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from condensatenet.files.pretrained import find_pretrained

    unreachable = Connection("http://127.0.0.1:9/api/v1", "", retry_delays_s=())
    monkeypatch.setattr(utils, "BAKED_MODELS_DIR", tmp_path / "absent")
    assert utils.resolve_model(unreachable, "pretrained") == find_pretrained()
    assert utils.baked_model_names() == []

    monkeypatch.setattr(utils, "BAKED_MODELS_DIR", tmp_path / "baked")
    make_model(tmp_path / "baked" / "special")
    make_model(tmp_path / "baked" / "condensatenet")
    (tmp_path / "baked" / "incomplete").mkdir()
    assert utils.resolve_model(unreachable, "pretrained") == tmp_path / "baked" / "condensatenet"
    make_model(tmp_path / "baked" / "condensatenet-v1")
    assert utils.resolve_model(unreachable, "pretrained") == tmp_path / "baked" / "condensatenet-v1"
    assert utils.resolve_model(unreachable, "special") == tmp_path / "baked" / "special"
    assert utils.model_names(gc)[:4] == ["pretrained", "condensatenet", "condensatenet-v1", "special"]


# ---- copies on this machine


def test_a_copy_that_is_still_right_is_not_fetched_again(server: Server, tmp_path: Path, name: str) -> None:
    with CuttingProxy(server.api_url) as proxy:
        gc = connect(proxy.api_url, server.token)
        with closed_at_the_end(gc):
            upload_girder_model(gc, make_model(tmp_path / "model"), name)
            received: list[int] = []
            first = download_girder_model(gc, name, progress=lambda done, total: received.append(done))
            assert received
            received.clear()
            assert download_girder_model(gc, name, progress=lambda done, total: received.append(done)) == first
            assert not received
            (first / "model.safetensors").unlink()
            assert download_girder_model(gc, name) == first
            assert contents(first) == contents(tmp_path / "model")


def test_a_replaced_model_is_fetched_and_the_old_copy_stays_for_jobs_that_use_it(
    gc: Connection, tmp_path: Path, name: str
) -> None:
    directories = []
    for seed in (1, 2):
        upload_girder_model(gc, make_model(tmp_path / str(seed), seed=seed), name)
        directories.append(download_girder_model(gc, name))
    assert directories[0] != directories[1]
    assert [contents(directory) for directory in directories] == [contents(tmp_path / "1"), contents(tmp_path / "2")]


def test_copies_that_no_job_has_used_for_a_month_go(gc: Connection, tmp_path: Path, name: str) -> None:
    upload_girder_model(gc, make_model(tmp_path / "1", seed=1), name)
    old = download_girder_model(gc, name)
    left_by_a_killed_job = old.parent.parent / ".partial-x"
    left_by_a_killed_job.mkdir()
    month_ago = time.time() - 31 * 86400
    for folder in (old.parent, left_by_a_killed_job):
        os.utime(folder, (month_ago, month_ago))
    assert download_girder_model(gc, name) == old  # and so it is used again
    upload_girder_model(gc, make_model(tmp_path / "2", seed=2), name)
    new = download_girder_model(gc, name)
    assert sorted(old.parent.parent.iterdir()) == sorted([old.parent, new.parent])
    os.utime(old.parent, (month_ago, month_ago))
    upload_girder_model(gc, make_model(tmp_path / "3", seed=3), name)
    assert download_girder_model(gc, name).parent.parent == new.parent.parent
    assert not old.exists()
    assert new.exists()


def test_metadata_lead_to_no_other_directory(gc: Connection, tmp_path: Path, name: str, models_dir: Path) -> None:
    item = upload_girder_model(gc, make_model(tmp_path / "model"), name)
    (models_dir / "downloaded").mkdir(parents=True)
    make_model(models_dir / "outside" / name, seed=2)
    gc.addMetadataToItem(item["_id"], {"sha256": "../outside"})
    with pytest.raises(ClientError, match="did not arrive as it was stored"):
        download_girder_model(gc, name)


def test_many_jobs_fetch_one_model_at_once(server: Server, gc: Connection, tmp_path: Path, name: str) -> None:
    upload_girder_model(gc, make_model(tmp_path / "model", weights_bytes=10**6), name)

    def fetch(_: int) -> Path:
        connection = connect(server.api_url, server.token)
        with closed_at_the_end(connection):
            return download_girder_model(connection, name)

    with ThreadPoolExecutor(6) as pool:
        (directory,) = set(pool.map(fetch, range(6)))
    assert contents(directory) == contents(tmp_path / "model")
    assert [path.name for path in directory.parent.parent.iterdir()] == [directory.parent.name]


# ---- archives that are not to be trusted


@pytest.mark.parametrize("length", [0, 100, -1])
def test_a_truncated_archive_is_refused_and_leaves_nothing(
    gc: Connection, tmp_path: Path, name: str, models_dir: Path, length: int
) -> None:
    write_archive(make_model(tmp_path / "model"), tmp_path / "archive", {})
    (tmp_path / "archive").write_bytes((tmp_path / "archive").read_bytes()[:length])
    put_archive(gc, tmp_path / "archive", name)
    with pytest.raises(ModelStoreError, match=f"The model '{name}' in your folder cannot be used.*damaged"):
        download_girder_model(gc, name)
    assert list((models_dir / "downloaded").iterdir()) == []


def test_an_archive_that_was_changed_on_the_server_is_refused(gc: Connection, tmp_path: Path, name: str) -> None:
    upload_girder_model(gc, make_model(tmp_path / "model"), name)
    (item,) = items_named(gc, name)
    data = bytearray(stored_bytes(gc, item, tmp_path / "content"))
    data[len(data) // 2] ^= 16
    (tmp_path / "content").write_bytes(data)
    (file,) = gc.listFile(item["_id"])
    replace_contents(gc, file["_id"], tmp_path / "content")
    with pytest.raises(ModelStoreError, match="damaged"):
        download_girder_model(gc, name)


def test_a_checksum_that_differs_is_refused(gc: Connection, tmp_path: Path, name: str) -> None:
    import tarfile

    model = make_model(tmp_path / "model")
    with tarfile.open(tmp_path / "by_hand", "w:gz") as tar:  # without a manifest
        tar.add(model, "model")
    put_archive(gc, tmp_path / "by_hand", name)
    assert contents(download_girder_model(gc, name)) == contents(model)
    (item,) = items_named(gc, name)
    gc.addMetadataToItem(item["_id"], {"sha256": "0" * 64})
    with pytest.raises(ModelStoreError, match="checksum differs"):
        download_girder_model(gc, name)


def test_metadata_are_never_believed_more_than_the_archive(gc: Connection, tmp_path: Path, name: str) -> None:
    """What a training leaves that was killed after its last byte and before its metadata."""
    old, new = (make_model(tmp_path / seed, seed=int(seed)) for seed in "12")
    upload_girder_model(gc, old, name)
    download_girder_model(gc, name)
    (item,) = items_named(gc, name)
    (file,) = gc.listFile(item["_id"])
    write_archive(new, tmp_path / "archive", {})
    replace_contents(gc, file["_id"], tmp_path / "archive")
    assert contents(download_girder_model(gc, name)) == contents(new)


def test_another_user_s_folder_stays_closed(gc: Connection, other: Connection, tmp_path: Path, name: str) -> None:
    item = upload_girder_model(gc, make_model(tmp_path / "model"), name)
    with pytest.raises(HttpError):
        other.get(f"item/{item['_id']}")
    with pytest.raises(ClientError, match="no model"):
        download_girder_model(other, name)
