"""Workers that are Docker images, with a real engine and an image made of one static program."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workbench_test_server import Bench, serve

from workbench.jobs import process
from workbench.jobs.containers import DockerEngine
from workbench.store.jobs import JobStatus

IMAGE = "workbench-tests/worker:latest"
SCRIPT = """
case "$*" in
  *'"mode":"show"'*) echo "$@"; echo error >&2; exit 3;;
  *'"mode":"ask"'*) wget -q -O - "$2/user/me?token=$4"; exit 0;;
  *'"mode":"willing"'*) trap 'echo cleaning; exit 143' TERM;;
  *'"mode":"stubborn"'*) trap '' TERM;;
esac
echo '{"progress": 0.5, "title": "ready", "info": ""}'
while true; do sleep 0.1; done
"""


def docker(*arguments: str, content: bytes | None = None) -> str:
    answer = subprocess.run(["docker", *arguments], input=content, capture_output=True, timeout=60, check=True)
    return answer.stdout.decode()


def why_not() -> str | None:
    """Return why there cannot be containers here."""
    try:
        subprocess.run(["docker", "info"], capture_output=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"no Docker engine answers: {error}"
    busybox = shutil.which("busybox")
    if busybox is None or b"not a dynamic" not in subprocess.run(["ldd", busybox], capture_output=True).stderr:
        return "there is no static busybox to make an image of"
    return None


@pytest.fixture(scope="module", autouse=True)
def without_container_images() -> None:
    """Here they are what is tested."""


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    reason = why_not()
    if reason:
        print(reason)
        pytest.skip(reason)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("busybox", Path(str(shutil.which("busybox"))).read_bytes()), ("sh", SCRIPT.encode())):
            member = tarfile.TarInfo(f"{name}.sh" if name == "sh" else name)
            member.mode, member.size = 0o755, len(content)
            archive.addfile(member, io.BytesIO(content))
    label = {
        "isUPennContrastWorker": "",
        "isAnnotationWorker": "",
        "isGPUWorker": "false",
        "interfaceName": "Container",
    }
    changes = [f"LABEL {name}={json.dumps(value)}" for name, value in label.items()]
    changes += ["ENV PATH=/", 'ENTRYPOINT ["/busybox", "sh", "/sh.sh"]']
    docker("import", *(part for change in changes for part in ("-c", change)), "-", IMAGE, content=buffer.getvalue())
    yield IMAGE
    docker("rmi", "-f", IMAGE)


@pytest.fixture
def bench(image: str, tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "workers.yaml").write_text(
        'test/local:latest: {command: [true], labels: {isUPennContrastWorker: ""}}'.replace("[true]", '["true"]')
    )
    with serve(tmp_path) as bench:
        yield bench


def containers() -> list[str]:
    return docker("ps", "--all", "--quiet", "--filter", f"ancestor={IMAGE}").split()


def has_begun(job: dict[str, object]) -> bool:
    return job["progress"] is not None


def test_images_are_listed_and_run_as_on_the_platform(bench: Bench) -> None:
    available = bench.client.get("worker_interface/available")
    assert available[IMAGE]["interfaceName"] == "Container" and "test/local:latest" in available
    job = bench.run(IMAGE, mode="show")
    assert (job["status"], job["exitCode"]) == (JobStatus.ERROR, 3)
    *printed, last = job["log"][0].splitlines()
    parameters = json.dumps({"image": IMAGE, "mode": "show"}, separators=(",", ":"))
    url = f"{bench.client._url}/api/v1"
    arguments = f"--apiUrl {url} --token *** --request compute --parameters {parameters} --datasetId {bench.dataset_id}"
    assert sorted(printed) == [arguments, "error"]  # Docker does not promise an order between its two streams
    assert last == "workbench: The worker ended with exit code 3."
    assert bench.run(IMAGE, mode="ask")["log"][0].startswith('{"_id":')
    assert containers() == []


@pytest.mark.parametrize(("mode", "code", "least", "most"), [("willing", 143, 0, 5), ("stubborn", 137, 9.9, 13)])
def test_a_container_is_stopped(bench: Bench, mode: str, code: int, least: float, most: float) -> None:
    job_id = bench.submit(IMAGE, mode=mode)
    bench.wait_until(job_id, has_begun)
    start = time.monotonic()
    assert bench.client.put(f"job/{job_id}/cancel")["status"] == JobStatus.CANCELLING
    job = bench.wait(job_id)
    assert least <= time.monotonic() - start < most
    assert (job["status"], job["exitCode"]) == (JobStatus.CANCELLED, code)
    assert ("cleaning" in job["log"][0]) == (mode == "willing")
    assert containers() == []


@pytest.mark.parametrize("delay", [0, 0.1, 0.15, 0.2])
def test_a_cancel_while_the_container_starts(bench: Bench, monkeypatch: pytest.MonkeyPatch, delay: float) -> None:
    monkeypatch.setattr(process, "KILL_AFTER_S", 1.0)  # a shell that has not come to its trap yet ignores SIGTERM
    job_id = bench.submit(IMAGE, mode="willing")
    bench.wait_until(job_id, lambda job: job["status"] == JobStatus.RUNNING)
    time.sleep(delay)
    bench.client.put(f"job/{job_id}/cancel")
    assert bench.wait(job_id)["status"] == JobStatus.CANCELLED
    assert containers() == []


def test_containers_that_a_killed_workbench_left_are_removed(image: str) -> None:
    job_id = "0123456789abcdef01234567"
    docker("run", "--detach", "--rm", "--name", f"workbench-{job_id}", image)
    assert len(containers()) == 1
    DockerEngine().remove([job_id, "f" * 24])
    assert containers() == []
