"""Downloads from a real HTTP server on this machine that answers like the hub, and fails like the internet."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from condensatenet.errors import DownloadError, InvalidOptionError
from condensatenet.files import download, fetch
from condensatenet.files.download import download_model

REPO = "rajlab/condensatenet"
COMMIT = "8b2b98c00a6b4d291155e4890773ca8f769aee53"


def safetensors(seed: int, size: int = 3_000_000) -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "U8", "shape": [size - 8], "data_offsets": [8, size]},
        "a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + np.random.default_rng(seed).bytes(size)


class Hub(ThreadingHTTPServer):
    """`127.0.0.1` is the hub and `localhost` the storage that it redirects to for large files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = {"config.json": b'{"model_type": "condensatenet"}\n', "model.safetensors": safetensors(1)}
        self.requests: list[tuple[str, str | None]] = []  # the file's name and the Range of each, at its last address
        self.statuses: list[int] = []  # answered at the first address, one after the other, before all else
        self.cuts: list[int] = []  # bytes after which the storage closes the connection, one after the other
        self.ignores_range = False
        self.shifts: list[
            int
        ] = []  # by which the parts of the storage start elsewhere than asked for, one after the other
        self.says_checksums = True
        self.altered: dict[str, bytes] = {}  # sent in place of the announced file
        self.commits: dict[str, str] = {}

    def count(self, name: str) -> int:
        return sum(requested == name for requested, _ in self.requests)


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        assert "Authorization" not in self.headers
        name = self.path.split("/")[-1]
        content = self.server.files.get(name)
        is_large = name == "model.safetensors"
        if self.path == f"/{REPO}/resolve/main/{name}":
            if self.server.statuses:
                return self.reply(self.server.statuses.pop(0), {})
            if content is None:
                return self.reply(404, {})
            headers = {"X-Repo-Commit": self.server.commits.get(name, COMMIT), "X-Linked-Size": str(len(content))}
            if is_large and self.server.says_checksums:
                headers["X-Linked-ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            place = f"http://localhost:{self.server.server_port}/storage" if is_large else "/api/resolve-cache"
            return self.reply(302 if is_large else 307, {**headers, "Location": f"{place}/{name}"})
        assert self.path == (f"/storage/{name}" if is_large else f"/api/resolve-cache/{name}")
        assert content is not None
        self.server.requests.append((name, self.headers.get("Range")))
        etag = '"0123456789abcdef0123456789abcdef01234567"'  # what a storage says here is no checksum of the file
        if not is_large and self.server.says_checksums:
            etag = 'W/"' + hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() + '"'
        headers = {"ETag": etag} if is_large or self.server.says_checksums else {}
        body = self.server.altered.get(name, content)
        asked = self.headers.get("Range")
        if asked is None or self.server.ignores_range:
            return self.reply(200, headers, body)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            return self.reply(416, {**headers, "Content-Range": f"bytes */{len(body)}"})
        start += self.server.shifts.pop(0) if self.server.shifts else 0
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return self.reply(206, headers, body[start:])

    def reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.path.startswith("/storage") and body and self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setattr(fetch, "RETRY_DELAYS_S", (0.01, 0.01, 0.01))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(download, "MODELS_DIR", tmp_path / "home" / "models")
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "mine"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_is_its_two_files_in_the_default_folder(hub: Hub, tmp_path: Path) -> None:
    reports: list[tuple[float, str]] = []
    folder = download_model(progress_callback=lambda fraction, message: reports.append((fraction, message)))
    assert folder == tmp_path / "home" / "models" / "condensatenet"
    assert content(folder) == hub.files
    assert hub.requests == [("config.json", None), ("model.safetensors", None)]
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0 and fractions[-1] == 1.0
    assert any(0 < fraction < 1 for fraction in fractions)
    assert "Downloading model.safetensors: 1.0 of 3.0 MB" in {message for _, message in reports}
    assert str(folder) in reports[-1][1]


def test_a_complete_model_is_not_downloaded_again(hub: Hub, folder: Path) -> None:
    download_model(folder, REPO)
    hub.files["model.safetensors"] = safetensors(2)
    reports: list[float] = []
    assert download_model(str(folder), REPO, progress_callback=lambda fraction, _: reports.append(fraction)) == folder
    assert len(hub.requests) == 2 and reports == [1.0]
    assert content(folder)["model.safetensors"] == safetensors(1)
    download_model(folder, REPO, force=True)
    assert content(folder) == hub.files


@pytest.mark.parametrize("damage", ["config", "short", "long", "empty", "missing"])
def test_a_damaged_model_is_downloaded_again(hub: Hub, folder: Path, damage: str) -> None:
    download_model(folder, REPO)
    weights = folder / "model.safetensors"
    if damage == "config":
        (folder / "config.json").write_text("[]")
    elif damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(
            {"short": weights.read_bytes()[:-1], "long": weights.read_bytes() + b"x", "empty": b""}[damage]
        )
    download_model(folder, REPO)
    assert content(folder) == hub.files


def test_a_cut_connection_is_resumed_where_it_broke(hub: Hub, folder: Path) -> None:
    hub.cuts = [1_000_001, 700_000]
    messages: list[str] = []
    download_model(folder, REPO, progress_callback=lambda _, message: messages.append(message))
    ranges = [asked for name, asked in hub.requests if name == "model.safetensors"]
    assert ranges == [None, "bytes=1000001-", "bytes=1700001-"]
    assert content(folder) == hub.files
    assert any("1000001 of" in message and "Trying again" in message for message in messages)


def test_the_next_call_resumes_what_the_last_left(hub: Hub, folder: Path) -> None:
    hub.cuts = [500_000, 500_000, 500_000, 500_000]
    with pytest.raises(DownloadError, match=r"4 attempts.*2\.0 MB are kept"):
        download_model(folder, REPO)
    assert "model.safetensors" not in content(folder) and "config.json" not in content(folder)
    assert content(folder)["model.safetensors.incomplete"] == hub.files["model.safetensors"][:2_000_000]
    download_model(folder, REPO)
    assert hub.requests[-1] == ("model.safetensors", "bytes=2000000-")
    assert content(folder) == hub.files


def test_a_server_without_ranges_sends_all_again(hub: Hub, folder: Path) -> None:
    hub.cuts, hub.ignores_range = [1_000_000], True
    download_model(folder, REPO)
    assert hub.requests[-1] == ("model.safetensors", "bytes=1000000-")
    assert content(folder) == hub.files


@pytest.mark.parametrize("shift", [-1, 1])
def test_another_part_than_asked_for_is_not_taken(hub: Hub, folder: Path, shift: int) -> None:
    hub.cuts, hub.shifts, hub.says_checksums = [1_000_000], [shift], False
    download_model(folder, REPO)
    assert [asked for _, asked in hub.requests[-3:]] == [None, "bytes=1000000-", None]
    assert content(folder) == hub.files


@pytest.mark.parametrize("rest", [safetensors(2)[:1_000_000], safetensors(2), safetensors(2) + b"more", b""])
def test_the_rest_of_another_version_is_given_up(hub: Hub, folder: Path, rest: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "model.safetensors.incomplete").write_bytes(rest)
    download_model(folder, REPO)
    assert content(folder) == hub.files


def test_a_rest_that_is_the_whole_file_is_enough(hub: Hub, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model.safetensors.incomplete").write_bytes(hub.files["model.safetensors"])
    download_model(folder, REPO)
    assert hub.requests[-1] == ("model.safetensors", f"bytes={len(hub.files['model.safetensors'])}-")
    assert hub.count("model.safetensors") == 1
    assert content(folder) == hub.files


def test_a_rest_of_the_configuration_is_not_used(hub: Hub, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json.incomplete").write_bytes(b'{"model')
    download_model(folder, REPO)
    assert hub.requests[0] == ("config.json", None)
    assert content(folder) == hub.files


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_wrong_checksum_keeps_the_old_model(hub: Hub, folder: Path, name: str) -> None:
    download_model(folder, REPO)
    before = dict(hub.files)
    hub.files["config.json"] = b'{"model_type": "condensatenet", "v": 2}'
    hub.files["model.safetensors"] = safetensors(2)
    changed = bytearray(hub.files[name])
    changed[-5] ^= 1
    hub.altered[name] = bytes(changed)
    before_now = hub.count(name)
    with pytest.raises(DownloadError, match=rf"{name}.*checksum differs"):
        download_model(folder, REPO, force=True)
    assert hub.count(name) == before_now + 1
    left = content(folder)
    assert {name: left[name] for name in before} == before
    hub.altered.clear()
    download_model(folder, REPO, force=True)
    assert content(folder) == hub.files


def test_a_forced_download_that_fails_keeps_the_old_model(hub: Hub, folder: Path) -> None:
    download_model(folder, REPO)
    before = dict(hub.files)
    hub.files["config.json"] = b'{"v": 2}'
    hub.files["model.safetensors"] = safetensors(2)
    hub.cuts = [1000] * 4
    with pytest.raises(DownloadError, match="attempts"):
        download_model(folder, REPO, force=True)
    assert {name: content(folder)[name] for name in before} == before


def test_a_size_other_than_announced_is_refused_without_checksums(hub: Hub, folder: Path) -> None:
    hub.says_checksums = False
    download_model(folder, REPO)  # a mirror may say nothing
    assert content(folder) == hub.files
    hub.altered["model.safetensors"] = safetensors(2, 3_000_100)
    with pytest.raises(DownloadError, match=r"of \d+ bytes arrived"):
        download_model(folder, REPO, force=True)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("config.json", b"<html>Please log in to the guest network</html>"),
        ("config.json", b"[1, 2]"),
        ("config.json", b"[" * 100_000),
        ("config.json", b"\xff\xfe\x00"),
        ("model.safetensors", b"<html>Please log in to the guest network</html>"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n"),
        ("model.safetensors", b"PK\x03\x04" + bytes(100)),
        ("model.safetensors", struct.pack("<Q", 2**62) + b"{}"),
        ("model.safetensors", struct.pack("<Q", 2) + b"{}"),
        ("model.safetensors", struct.pack("<Q", 2) + b"[]"),
        ("model.safetensors", struct.pack("<Q", 13) + b'{"a": {"b":1}}'),
        ("model.safetensors", b"short"),
        ("model.safetensors", safetensors(1)[:-1]),
    ],
)
def test_content_that_is_no_model_is_refused(hub: Hub, folder: Path, name: str, sent: bytes) -> None:
    hub.files[name] = sent
    with pytest.raises(DownloadError, match=rf"sent as {name} is none"):
        download_model(folder, REPO)
    assert f"{name}.incomplete" not in content(folder)
    assert name not in content(folder)
    assert hub.count(name) == 1


def test_a_model_that_changes_meanwhile_is_noticed(hub: Hub, folder: Path) -> None:
    hub.commits["model.safetensors"] = "0" * 40
    with pytest.raises(DownloadError, match="changed on the server"):
        download_model(folder, REPO)
    hub.commits.clear()
    download_model(folder, REPO)
    assert content(folder) == hub.files


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "404.*Check the name"), (401, "401.*private"), (403, "403.*browser")]
)
def test_a_refusal_is_final_and_explained(hub: Hub, folder: Path, status: int, reason: str) -> None:
    hub.statuses = [status] * 9
    with pytest.raises(DownloadError, match=reason):
        download_model(folder, REPO)
    assert len(hub.statuses) == 8
    assert content(folder) == {}


def test_a_busy_server_is_asked_again(hub: Hub, folder: Path) -> None:
    hub.statuses = [503, 429, 500]
    download_model(folder, REPO)
    assert content(folder) == hub.files
    hub.statuses = [503] * 4
    with pytest.raises(DownloadError, match=r"4 attempts \(the server answered 503"):
        download_model(folder, REPO, force=True)


def test_no_server(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    messages: list[str] = []
    with pytest.raises(DownloadError, match=r"refused.*HF_ENDPOINT.*model that comes with this package"):
        download_model(folder, REPO, progress_callback=lambda _, message: messages.append(message))
    assert sum("Trying again" in message for message in messages) == 3


def test_a_server_that_falls_silent(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DownloadError, match="timed out"):
            download_model(folder, REPO)


def test_a_callback_that_raises_stops_the_download_and_the_next_call_goes_on(hub: Hub, folder: Path) -> None:
    def cancel(fraction: float, message: str) -> None:
        if fraction > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_model(folder, REPO, progress_callback=cancel)
    arrived = len(content(folder)["model.safetensors.incomplete"])
    assert "model.safetensors" not in content(folder) and 0 < arrived < 3_000_000
    download_model(folder, REPO)
    assert hub.requests[-1] == ("model.safetensors", f"bytes={arrived}-")
    assert content(folder) == hub.files


def test_two_downloads_at_once_are_one(hub: Hub, folder: Path) -> None:
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(download_model(folder, REPO))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [folder] * 4
    assert hub.count("model.safetensors") == 1
    assert content(folder) == hub.files


def test_a_folder_that_cannot_be_written(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=r"Cannot write to .*file.*another output directory"):
        download_model(tmp_path / "file" / "model", REPO)


@pytest.mark.parametrize(
    "repo_id", ["", "condensatenet", "a/b/c", "../b", "a/..", "a/b?x=1", "a/b\n", "a /b", "/b", "a/"]
)
def test_malformed_names_are_refused(hub: Hub, folder: Path, repo_id: str) -> None:
    with pytest.raises(InvalidOptionError, match="owner/name"):
        download_model(folder, repo_id)
    assert not os.path.exists(folder) and hub.requests == []


@pytest.mark.parametrize("endpoint", ["file:///etc", "huggingface.co", "http://", "ftp://a.b"])
def test_malformed_endpoints_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(InvalidOptionError, match="HF_ENDPOINT"):
        download_model(folder, REPO)
