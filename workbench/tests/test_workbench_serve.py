"""`workbench serve` as a process: what it prints, what it refuses, how it ends, and a kill in the middle of jobs."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workbench_test_server import Bench, Served, add_dataset, add_worker, is_alive

from workbench.command_line import main
from workbench.command_line.client import Client
from workbench.errors import WorkbenchError
from workbench.store.jobs import JobStatus

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and file modes")

Start = Callable[..., Served]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers on `data` in the test's folder; what is left of them is killed."""
    servers: list[Served] = []

    def start_one(*options: str, **environment: str) -> Served:
        servers.append(Served(tmp_path, *options, **environment))
        return servers[-1]

    yield start_one
    for server in servers:
        server.kill()


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what `workbench serve` complains about."""
    assert main(["serve", *arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_says_where_it_is_and_ends_by_a_signal(tmp_path: Path, start: Start, number: signal.Signals) -> None:
    server = start()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=[\w-]{32}", server.address)
    assert server.client.get("user/me")["login"] == "user"
    described = tmp_path / "data" / "server.json"
    assert json.loads(described.read_text()) == {
        "url": server.url,
        "token": server.token,
        "pid": server.process.pid,
    }
    assert stat.S_IMODE(described.stat().st_mode) == 0o600
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))):  # an idle client
        code, seconds, stdout, stderr = server.end(number)
    assert (code, stdout, stderr) == (0, "", "Stopping; jobs get ten seconds to end.\n") and seconds < 5
    assert str(tmp_path / "data") in server.about
    assert not described.exists()
    with pytest.raises(WorkbenchError, match="does not answer"):
        server.client.get("user/me")


def test_the_token_may_be_given_and_is_new_otherwise(start: Start) -> None:
    server = start(WORKBENCH_TOKEN="mine-and-long-enough")
    assert server.token == "mine-and-long-enough"
    assert Client(server.url, "other").get("user/me") is None
    server.end(signal.SIGTERM)
    first, second = start(), None
    first.end(signal.SIGTERM)
    second = start()
    assert first.token != second.token


def test_what_it_refuses(
    tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    data = ("--data", str(tmp_path / "data"))
    assert "already serving" in complaint(capsys, *data, "--port", "0")
    port = server.url.rpartition(":")[2]
    other = ("--data", str(tmp_path / "other"))
    assert f"Port {port} is taken by another program. Choose another one with --port." in complaint(
        capsys, *other, "--port", port
    )
    assert "--allow-other-machines" in complaint(capsys, *other, "--host", "0.0.0.0")
    assert "--allow-other-machines" in complaint(capsys, *other, "--host", "example.org")
    for bad in ("-1", "65536", "700000"):
        assert f"There is no port {bad}." in complaint(capsys, *other, f"--port={bad}")
    assert "Cannot listen at no.such.host.invalid" in complaint(
        capsys, *other, "--host", "no.such.host.invalid", "--allow-other-machines"
    )
    with monkeypatch.context() as patch:
        for token in ("short", "with a space in the middle"):
            patch.setenv("WORKBENCH_TOKEN", token)
            assert "$WORKBENCH_TOKEN must be at least 16 letters" in complaint(capsys, *other)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "workers.yaml").write_text("a/b:c: {command: x}")
    assert "a/b:c: give either labels or a dockerfile" in complaint(capsys, *other, "--workers", str(tmp_path / "bad"))
    (tmp_path / "file").write_text("in the way")
    assert "file" in complaint(capsys, "--data", str(tmp_path / "file"))
    assert server.client.get("user/me")["login"] == "user"
    assert json.loads((tmp_path / "data" / "server.json").read_text())["pid"] == server.process.pid


def test_other_machines_when_that_is_wanted(start: Start) -> None:
    server = start("--host", "0.0.0.0", "--allow-other-machines")
    assert server.url.startswith("http://127.0.0.1:")
    assert server.client.get("user/me")["login"] == "user"


@pytest.mark.skipif(sys.platform == "darwin", reason="only 127.0.0.1 is set up")
def test_it_answers_to_the_address_that_it_listens_at(start: Start) -> None:
    server = start("--host", "127.0.0.2")
    assert server.url.startswith("http://127.0.0.2:")
    assert server.client.get("user/me")["login"] == "user"


def test_workers_of_the_current_folder(tmp_path: Path, start: Start) -> None:
    image = add_worker(tmp_path / "workers", "here", "")
    assert list(start().client.get("worker_interface/available")) == [image]


def test_containers_only(tmp_path: Path, start: Start) -> None:
    add_worker(tmp_path / "workers", "here", "")
    assert start("--containers-only").client.get("worker_interface/available") == {}


def test_a_kill_in_the_middle_of_jobs(tmp_path: Path, start: Start) -> None:
    code = """
import pathlib, urllib.request
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"], start_new_session=True, stdout=subprocess.DEVNULL)
pathlib.Path("rest").write_text("x")
pathlib.Path(parameters["out"]).write_text(json.dumps([os.getpid(), child.pid, token]))
time.sleep(60)
"""
    long = add_worker(tmp_path / "workers", "long", code, queue="gpu")
    quick = add_worker(tmp_path / "workers", "quick", "print('done')", queue="gpu")
    busy = add_worker(tmp_path / "workers", "busy", "time.sleep(60)")
    dataset_id = add_dataset(tmp_path / "data")
    server = start()
    bench = Bench(server.client, tmp_path / "data", dataset_id)
    running = bench.submit(long, out=str(tmp_path / "out"))
    waiting = [bench.submit(quick, name=str(number)) for number in range(3)]
    for _ in range(2):
        bench.submit(busy)
    (interface,) = bench.client.post("worker_interface/request", image=quick)
    while not (tmp_path / "out").exists() or not (tmp_path / "out").read_text():
        time.sleep(0.02)
    pid, child, token = json.loads((tmp_path / "out").read_text())
    server.end(signal.SIGKILL)
    assert is_alive(pid) and is_alive(child)
    assert (tmp_path / "data" / "server.json").exists()

    server = start()
    assert not is_alive(pid) and not is_alive(child)
    bench = Bench(server.client, tmp_path / "data", dataset_id)
    for job_id in (running, interface["_id"]):
        job = bench.job(job_id)
        assert job["status"] == JobStatus.ERROR
        assert job["log"] == ["workbench: The workbench ended while this job was unfinished. Run it again.\n"]
    done = [bench.wait(job_id) for job_id in waiting]
    assert [(job["status"], job["log"]) for job in done] == [(JobStatus.SUCCESS, ["done\n"])] * 3
    assert [job["updated"] for job in done] == sorted(job["updated"] for job in done)
    assert Client(server.url, token).get("user/me") is None
    with pytest.raises(WorkbenchError, match="logged in"):
        Client(server.url, token).post("upenn_annotation", {})
    assert not list((tmp_path / "data" / "jobs").glob("*/tmp"))
    assert json.loads((tmp_path / "data" / "server.json").read_text())["pid"] == server.process.pid
