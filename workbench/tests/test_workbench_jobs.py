"""Jobs through HTTP, with real programs as workers: arguments, output, exit codes, queues and what is left behind."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from workbench_test_server import Bench, add_worker, is_alive, serve

from workbench.errors import WorkbenchError
from workbench.jobs import log as log_module
from workbench.jobs import runner as runner_module
from workbench.jobs.log import JobLog, read_log
from workbench.store.jobs import JobStatus

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and modes")


@pytest.fixture
def workers(tmp_path: Path) -> Path:
    return tmp_path / "workers"


def test_a_worker_gets_the_platforms_arguments(tmp_path: Path, workers: Path) -> None:
    image = add_worker(workers, "show", "print(json.dumps(sys.argv[1:]))")
    with serve(tmp_path) as bench:
        parameters = {"name": "My µ tool", "tags": ['"a b"', "$HOME `ls`"], "workerInterface": {"Min Size": 15}}
        job = bench.run(image, **parameters)
        assert (job["status"], job["exitCode"], job["title"], job["datasetId"]) == (3, 0, "My µ tool", bench.dataset_id)
        arguments = json.loads(job["log"][0])
        assert arguments[::2] == ["--apiUrl", "--token", "--request", "--parameters", "--datasetId"]
        assert arguments[1::2][0] == f"{bench.client._url}/api/v1"
        assert arguments[1::2][1:3] == ["***", "compute"]
        assert json.loads(arguments[7]) == {"image": image, **parameters}
        assert arguments[9] == bench.dataset_id
        assert job["command"][-10:] == arguments

        (asked,) = bench.client.post("worker_interface/request", image=image)
        job = bench.wait(asked["_id"])
        assert (job["title"], job["queue"]) == (f"Pulled worker interface for {image}", "cpu")
        arguments = json.loads(job["log"][0])
        asked_for = json.dumps({"image": image}, separators=(",", ":"))
        assert arguments[2:] == ["--token", "***", "--request", "interface", "--parameters", asked_for]
        assert [bench.run(image, name=name)["title"] for name in ("", "  ", 5)] == ["compute"] * 3


def test_stdout_and_stderr_are_one_log_in_order(tmp_path: Path, workers: Path) -> None:
    code = "for n in range(200):\n    print(n, file=(sys.stdout, sys.stderr)[n % 2])\nprint('µ', end='')"
    image = add_worker(workers, "both", code)
    with serve(tmp_path) as bench:
        assert bench.run(image)["log"] == ["".join(f"{n}\n" for n in range(200)) + "µ"]


@pytest.mark.parametrize(
    ("code", "status", "exit_code", "log"),
    [
        ("print(json.dumps({'error': 'no', 'title': 'Error', 'info': None, 'type': 'error'}))", 3, 0, None),
        ("sys.exit(3)", 4, 3, "workbench: The worker ended with exit code 3.\n"),
        ("print('so', end=''); sys.exit('far')", 4, 1, "sofar\nworkbench: The worker ended with exit code 1.\n"),
        pytest.param(
            "os.kill(os.getpid(), 9)", 4, 137, "workbench: The worker ended with exit code 137.\n", marks=posix
        ),
    ],
)
def test_the_exit_code_alone_decides(
    tmp_path: Path, workers: Path, code: str, status: int, exit_code: int, log: str | None
) -> None:
    image = add_worker(workers, "end", code)
    with serve(tmp_path) as bench:
        job = bench.run(image)
        assert (job["status"], job["exitCode"]) == (status, exit_code)
        if log is None:
            assert job["messages"] == [{"error": "no", "title": "Error", "info": None, "type": "error"}]
        else:
            assert job["log"] == [log]


def test_progress_and_messages_are_read_from_whole_lines(tmp_path: Path, workers: Path) -> None:
    code = r"""
def say(text):
    os.write(1, text.encode())
say('noise\r 10%|#  | {"progress": 0.9}\n')
say('{"progress": 0.1, "ti'); time.sleep(0.1); say('tle": "a", "info": "1/2"}\n')
say('{"warning": "careful", "title": "Warning", "info": null, "type": "warning"}\n')
say('{"error": "bad", "title": "Error", "info": "x", "type": "error", "progress": 0.8}\n')
for text in ('"text"', 'null', '5', '[1]', '{', '{"progress": "0.5"}', '{"progress": true}', '{"progress": NaN}',
             '{"progress": 1e999}', '{"error": "\\ud800"}', '{"error": ""}', '{"a":' * 5000,
             '{"progress": 0.7, "x": "' + 'y' * 70000 + '"}'):
    say(text + '\n')
open(parameters["ready"], "w").close()
while not os.path.exists(parameters["go"]):
    time.sleep(0.02)
say('  {"progress": 1, "title": "", "info": ""}  \nand {"progress": 0}\n{"progress": 0.5')
"""
    image = add_worker(workers, "talk", code)
    with serve(tmp_path) as bench:
        job_id = bench.submit(image, ready=str(tmp_path / "ready"), go=str(tmp_path / "go"))
        job = bench.wait_until(job_id, lambda job: job["progress"] is not None and len(job["messages"]) == 2)
        assert job["status"] == JobStatus.RUNNING
        assert job["progress"] == {"progress": 0.1, "title": "a", "info": "1/2"}
        assert job["messages"] == [
            {"warning": "careful", "title": "Warning", "info": None, "type": "warning"},
            {"error": "bad", "title": "Error", "info": "x", "type": "error", "progress": 0.8},
        ]
        (tmp_path / "go").touch()
        job = bench.wait(job_id)
        assert job["progress"] == {"progress": 1, "title": "", "info": ""} and len(job["messages"]) == 2


def test_a_jobs_token_opens_the_server_while_it_runs(tmp_path: Path, workers: Path) -> None:
    code = """
import urllib.request
open(parameters["out"], "w").write(token)
print(urllib.request.urlopen(f"{url}/user/me?token={token}").read().decode())
"""
    image = add_worker(workers, "ask", code)
    with serve(tmp_path) as bench:
        job = bench.run(image, out=str(tmp_path / "token"))
        assert json.loads(job["log"][0])["login"] == "user"
        first = (tmp_path / "token").read_text()
        assert json.loads(ask(bench, "user/me", first)) is None
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(bench, f"job/{job['_id']}", first)
        bench.run(image, out=str(tmp_path / "token"))
        assert first != (tmp_path / "token").read_text()


def ask(bench: Bench, path: str, token: str) -> str:
    request = urllib.request.Request(f"{bench.client._url}/api/v1/{path}", headers={"Girder-Token": token})
    try:
        with urllib.request.urlopen(request) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        error.close()
        raise


def test_the_token_is_nowhere_on_the_disk(tmp_path: Path, workers: Path) -> None:
    code = """
open(parameters["out"], "w").write(token)
for piece in ("a", token[:5], token[5:], token + token, token[:-1] + "\\n"):
    os.write(1, piece.encode()); time.sleep(0.03)
print(json.dumps({"warning": "token " + token, "title": token}))
os.write(2, token[:20].encode())
"""
    image = add_worker(workers, "leak", code)
    with serve(tmp_path) as bench:
        job = bench.run(image, out=str(tmp_path / "token"))
        token = (tmp_path / "token").read_text()
        assert job["log"][0].splitlines()[0] == f"a*********{token[:-1]}"
        assert job["log"][0].endswith(token[:20])
        assert job["messages"] == [{"warning": "token ***", "title": "***"}]
        assert "***" in job["command"]
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert files and not [path for path in files if token.encode() in path.read_bytes()]


def test_a_worker_has_a_clean_environment_and_a_temporary_folder(
    tmp_path: Path, workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORKBENCH_TOKEN", "GIRDER_API_KEY", "MY_PASSWORD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    code = """
import pathlib, tempfile
print(json.dumps([dict(os.environ), os.getcwd(), tempfile.mkdtemp(), sys.stdin.read(), os.getpgid(0) == os.getpid()]))
made = pathlib.Path("deep/er")
made.mkdir(parents=True); (made / "file").write_text("x"); made.chmod(0); made.parent.chmod(0)
"""
    image = add_worker(workers, "look", code, EXTRA="1")
    with serve(tmp_path) as bench:
        job = bench.run(image)
        environment, folder, temporary, stdin, leads_group = json.loads(job["log"][0])
        job_folder = bench.data / "jobs" / job["_id"]
        assert folder == environment["TMPDIR"] == os.path.dirname(temporary) == str(job_folder / "tmp")
        assert not {"WORKBENCH_TOKEN", "GIRDER_API_KEY", "MY_PASSWORD"} & set(environment)
        wanted = {"EXTRA": "1", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
        assert wanted.items() <= environment.items()
        assert stdin == "" and leads_group
        assert [path.name for path in job_folder.iterdir()] == ["log.txt"]


@posix
def test_nothing_of_a_worker_outlives_it(tmp_path: Path, workers: Path) -> None:
    code = """
children = [subprocess.Popen(["sleep", "60"], start_new_session=own) for own in (False, True)]
children.append(subprocess.Popen(["/bin/sleep", "60"], env={}))
print(*[child.pid for child in children])
"""
    image = add_worker(workers, "parent", code)
    with serve(tmp_path) as bench:
        job = bench.run(image)
        assert job["status"] == JobStatus.SUCCESS
        assert not [pid for pid in map(int, job["log"][0].split()) if is_alive(pid)]


def test_one_gpu_job_at_a_time_and_two_others(tmp_path: Path, workers: Path) -> None:
    code = """
begun = time.time(); time.sleep(0.4)
print(json.dumps([begun, time.time()]))
"""
    gpu, cpu = add_worker(workers, "gpu", code, queue="gpu"), add_worker(workers, "cpu", code)
    with serve(tmp_path) as bench:
        gpu_jobs = [bench.submit(gpu) for _ in range(3)]
        interface = bench.client.post("worker_interface/request", image=gpu)[0]
        cpu_jobs = [bench.submit(cpu) for _ in range(3)]
        assert interface["queue"] == "cpu"
        times = {
            job_id: json.loads(bench.wait(job_id)["log"][0]) for job_id in [*gpu_jobs, interface["_id"], *cpu_jobs]
        }
    for before, after in itertools.pairwise(gpu_jobs):
        assert times[before][1] <= times[after][0]
    assert times[interface["_id"]][0] < times[gpu_jobs[1]][0]
    others = sorted(times[job_id] for job_id in [interface["_id"], *cpu_jobs])
    # The last two may begin in the same moment, when the first two end.
    assert times[cpu_jobs[0]][0] < min(times[job_id][0] for job_id in cpu_jobs[1:])
    assert others[1][0] < others[0][1], "two at a time"
    assert others[2][0] >= min(others[0][1], others[1][1]), "not three"


def test_a_long_log_loses_its_beginning_and_no_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "LIMIT", 1000)
    path = tmp_path / "log.txt"
    log = JobLog(path)
    assert read_log(path, 0) == (0, b"")
    log.note("first")
    whole = b"workbench: first\n"
    for number in range(1000):
        line = b"x" * (number % 50) + b"\n"
        log.append(line)
        whole += line
        assert path.stat().st_size <= 2 * 1000 + 60
        position, content = read_log(path, len(whole) - 100)
        assert (position, content) == (max(0, len(whole) - 100), whole[-100:])
    position, content = read_log(path, 0)
    assert content == whole[position:] and whole[position - 1 : position] == b"\n"
    log.append(b"y" * 5000)
    log.note("end")
    log.finish()
    position, content = read_log(path, 0)
    assert content == (b"y" * 5000 + b"\nworkbench: end\n")[-1000:]
    assert position + len(content) == len(whole) + 5000 + len(b"\nworkbench: end\n")


def test_the_log_keeps_its_end_and_can_be_followed(
    tmp_path: Path, workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "LIMIT", 10_000)
    code = """
for n in range(5000):
    sys.stdout.write(f"line {n:05}\\n")
sys.stdout.flush()
open(parameters["ready"], "w").close()
while not os.path.exists(parameters["go"]):
    time.sleep(0.02)
os.write(1, "µ".encode()[:1]); time.sleep(0.3); os.write(1, "µ".encode()[1:])
"""
    image = add_worker(workers, "long", code)
    with serve(tmp_path) as bench:
        job_id = bench.submit(image, ready=str(tmp_path / "ready"), go=str(tmp_path / "go"))
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
        (tmp_path / "go").touch()
        text, offset, ended = "", 0, False
        while not ended:
            ended = bench.job(job_id)["status"] not in (JobStatus.QUEUED, JobStatus.RUNNING)
            with urllib.request.urlopen(
                urllib.request.Request(
                    f"{bench.client._url}/api/v1/job/{job_id}/log?offset={offset}",
                    headers={"Girder-Token": bench.client._token},
                )
            ) as answer:
                assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
                text += answer.read().decode()
                offset = int(answer.headers["Log-Next-Offset"])
        total = 5000 * len("line 00000\n") + len("µ".encode())
        assert offset == total
        assert text.endswith("line 04999\nµ") and "\ufffd" not in text
        assert (bench.data / "jobs" / job_id / "log.txt").stat().st_size < 10_100
        kept = bench.log(job_id)
        assert kept.startswith("line 0") and kept.endswith("line 04999\nµ") and 9_900 < len(kept) <= 10_000


def test_jobs_are_listed_from_the_newest(tmp_path: Path, workers: Path) -> None:
    image = add_worker(workers, "quick", "")
    with serve(tmp_path) as bench:
        jobs = [bench.submit(image, name=str(number)) for number in range(4)]
        for job_id in jobs:
            bench.wait(job_id)
        assert [job["_id"] for job in bench.client.get("job")] == jobs[::-1]
        assert [job["_id"] for job in bench.client.get("job/all", limit=2, offset=1)] == [jobs[2], jobs[1]]
        assert [job["_id"] for job in bench.client.get("job", sort="created", sortdir=1)] == jobs
        assert "log" not in bench.client.get("job")[0]
        assert "log" not in bench.client.get(f"job/{jobs[0]}", log="false")
        assert bench.client.put(f"job/{jobs[0]}/cancel")["status"] == JobStatus.SUCCESS


def test_what_cannot_be_run_is_refused(tmp_path: Path, workers: Path) -> None:
    image = add_worker(workers, "known", "")
    with serve(tmp_path) as bench:
        assert list(bench.client.get("worker_interface/available")) == [image]
        post, dataset = bench.client.post, {"datasetId": bench.dataset_id}
        for message, path, body, query in (
            (f"no worker 'x'. The known ones are: {image}", "upenn_annotation/compute", {"image": "x"}, dataset),
            ("no worker 'x'", "worker_interface/request", None, {"image": "x"}),
            ('"image" is required', "worker_interface/request", None, {}),
            ('"datasetId" is required', "upenn_annotation/compute", {"image": image}, {}),
            ("No such folder", "upenn_annotation/compute", {"image": image}, {"datasetId": "0" * 24}),
            ("must be a JSON object", "upenn_annotation/compute", [image], dataset),
            ("'image' is missing", "upenn_annotation/compute", {"name": "a"}, dataset),
            ("'image' is missing", "upenn_annotation/compute", {"image": 5}, dataset),
        ):
            with pytest.raises(WorkbenchError, match=message):
                post(path, body, **query)
        public = bench.client.get("folder", parentType="user", parentId=bench.client.get("user/me")["_id"])[0]
        with pytest.raises(WorkbenchError, match="is not a dataset"):
            post("upenn_annotation/compute", {"image": image}, datasetId=public["_id"])
        with pytest.raises(WorkbenchError, match="Invalid job id"):
            bench.client.get(f"job/{'0' * 24}")
        with pytest.raises(WorkbenchError, match="Invalid job id"):
            bench.client.put(f"job/{'0' * 24}/cancel")
        assert bench.client.get("job") == []


def test_a_worker_that_cannot_be_started_fails_its_job_only(tmp_path: Path, workers: Path) -> None:
    good = add_worker(workers, "good", "")
    (workers / "more").mkdir()
    (workers / "more" / "workers.yaml").write_text(
        'test/absent:latest: {command: [no-such-program], labels: {isUPennContrastWorker: "", isGPUWorker: "no"}}'
    )
    with serve(tmp_path) as bench:
        job = bench.run("test/absent:latest")
        assert job["status"] == JobStatus.ERROR and job["exitCode"] is None
        assert "workbench: The worker cannot be run: " in job["log"][0] and "no-such-program" in job["log"][0]
        if sys.platform == "linux":
            job = bench.run(good, tags=["x" * 200_000])
            assert job["status"] == JobStatus.ERROR and "too long for a command line" in job["log"][0]
        assert bench.run(good)["status"] == JobStatus.SUCCESS
        assert not list((bench.data / "jobs").glob("*/tmp"))


def test_a_job_has_a_day(tmp_path: Path, workers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runner_module.TIME_LIMIT_S == 86400
    monkeypatch.setattr(runner_module, "TIME_LIMIT_S", 0.5)
    image = add_worker(workers, "endless", "time.sleep(60)")
    with serve(tmp_path) as bench:
        job = bench.run(image)
        assert job["status"] == JobStatus.ERROR and job["exitCode"] == 143
        assert "It ran for 24 hours" in job["log"][0]
