"""Progress lines: few enough, never without the first and the last, with an honest time left."""

from __future__ import annotations

import json
import time

import pytest

from worker_client import Progress, update_progress
from worker_client.progress import _duration_text


def sent(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """The lines since the last call."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_at_most_two_lines_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("Working")
    began = time.monotonic()
    steps = 0
    while time.monotonic() - began < 1.3:
        progress(steps / 1e6, f"step {steps}")
        steps += 1
        time.sleep(0.001)
    progress(1, "done")
    lines = sent(capsys)
    assert lines[0] == {"progress": 0, "title": "Working", "info": "step 0"}
    assert lines[-1] == {"progress": 1, "title": "Working", "info": "done"}
    assert len(lines) == 4
    assert steps > 300


def test_a_new_title_and_the_end_are_never_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("Loading")
    progress(0)
    progress(0.1)
    progress(0.1, title="Training")
    progress(0.2, "epoch 1", title="Training")
    progress(1, "uploading")
    progress(1, "done")
    assert sent(capsys) == [
        {"progress": 0, "title": "Loading", "info": ""},
        {"progress": 0.1, "title": "Training", "info": ""},
        {"progress": 1, "title": "Training", "info": "uploading"},
        {"progress": 1, "title": "Training", "info": "done"},
    ]


@pytest.mark.parametrize(("fraction", "shown"), [(-1, 0), (2, 1), (float("nan"), 0), (float("inf"), 1)])
def test_fractions_stay_in_their_range(fraction: float, shown: float, capsys: pytest.CaptureFixture[str]) -> None:
    Progress("Working")(fraction)
    assert sent(capsys)[0]["progress"] == shown


def test_time_left_is_estimated_from_the_current_phase(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("Loading")
    progress(0)
    time.sleep(0.3)
    progress(0.5, title="Training")
    time.sleep(0.6)
    progress(0.51, "early")
    time.sleep(2.6)
    progress(0.55, "later")
    lines = sent(capsys)
    assert [line["info"] for line in lines[:-1]] == ["", "", "early"]
    # A twentieth of the whole in 3.2 s leaves nine twentieths for 29 s.
    assert lines[-1]["info"] == "later, about 30 s left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "5 s"),
        (12.6, "15 s"),
        (54, "55 s"),
        (56, "1 min"),
        (150, "2 min"),
        (3560, "59 min"),
        (3590, "1 h 0 min"),
        (8000, "2 h 13 min"),
    ],
)
def test_durations_are_rounded(seconds: float, text: str) -> None:
    assert _duration_text(seconds) == text


@pytest.mark.parametrize(("total", "lines"), [(1, 1), (7, 7), (100, 100), (250, 125), (12345, 101), (0, 1)])
def test_a_loop_sends_about_a_hundred_lines(total: int, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    for step in range(1, max(total, 1) + 1):
        update_progress(step if total else 0, total, "Looping")
    messages = sent(capsys)
    assert len(messages) == lines
    assert messages[-1] == {"progress": 1, "title": "Looping", "info": f"{total}/{total}"}
