"""The web page in a real browser: running tools, which are small programs here, and following their jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import workbench_browser
from workbench_browser import (
    CHANNELS,
    Bench,
    Browser,
    serve,
    skip_without_browser,
    until,
)

skip_without_browser()

browser = workbench_browser.shared_browser
FIELDS: dict[str, dict[str, Any]] = {
    "Threshold": {"type": "number", "min": 0, "max": 1, "step": 0.01, "default": 0.15, "displayOrder": 2, "unit": "px"},
    "Notes": {
        "type": "notes",
        "value": "<b>Bold</b> <a href='javascript:alert(1)'>link</a><img src=x onerror=alert(1)>"
        "<script>alert(1)</script>",
        "displayOrder": 1,
    },
    "Min Size": {"type": "number", "default": 15, "displayOrder": 3},
    "New Model Name": {"type": "text", "default": "model", "displayOrder": 4, "tooltip": "Give it a <i>name</i>."},
    "Model": {"type": "select", "items": ["pretrained", "mine"], "default": "pretrained", "noCache": True},
    "Empty Select": {"type": "select", "items": ["one"]},
    "Smooth": {"type": "checkbox", "displayOrder": 5},
    "Image Channel": {"type": "channel", "displayOrder": 6},
    "Other Channel": {"type": "channel", "displayOrder": 7, "default": -1},
    "Channels": {"type": "channelCheckboxes", "displayOrder": 8},
    "Annotation Tag": {"type": "tags", "displayOrder": 9},
    "Layer": {"type": "layer", "displayOrder": 10},
}
WORKER = """
import json, os, sys, time, urllib.request
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
parameters = json.loads(given["--parameters"])
folder = os.environ["NOTES_FOLDER"]
def send(path, body):
    headers = {"Girder-Token": given["--token"], "Content-Type": "application/json"}
    request = urllib.request.Request(f"{given['--apiUrl']}/{path}", json.dumps(body).encode(), headers)
    urllib.request.urlopen(request).close()
def wait_for(name):
    while not os.path.exists(os.path.join(folder, name)):
        time.sleep(0.02)
def say(**message):
    print(json.dumps(message), flush=True)
if given["--request"] == "interface":
    count = len(os.listdir(folder))
    open(os.path.join(folder, f"interface {count}"), "w").close()
    with open(os.path.join(folder, "fields.json")) as file:
        fields = json.load(file)
    send(f"worker_interface?image={parameters['image']}", fields)
    sys.exit()
with open(os.path.join(folder, "body.json.new"), "w") as file:
    json.dump(parameters, file)
os.replace(os.path.join(folder, "body.json.new"), os.path.join(folder, "body.json"))
say(progress=0.25, title="Finding things", info="tile 1 of 4, 3 s left")
wait_for("go on")
kind = parameters["image"].partition("/")[2].partition(":")[0]
if kind == "failing":
    say(warning="3 outlines were <b>skipped</b>.", title="Left out", info="They were too small.", type="warning")
    say(error="There is no usable region.", title="Error", info=None, type="error")
    sys.exit(3)
corners = [{"x": x, "y": y} for x, y in ((100, 50), (120, 50), (120, 70))]
outline = {"shape": "polygon", "coordinates": corners, "tags": parameters["tags"], "channel": parameters["channel"]}
send("upenn_annotation", {**outline, "location": parameters["tile"], "datasetId": parameters["datasetId"]})
say(progress=1, title="Done", info="1 outline found")
"""


class Tools:
    """The folder in which the test's tools talk with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "notes"
        self.workers = folder / "workers"
        self.folder.mkdir()
        self.workers.mkdir()
        self.set_fields(FIELDS)
        (self.workers / "worker.py").write_text(WORKER, encoding="utf-8")
        entries = {
            "test/fields:latest": {"interfaceName": "Nine fields", "description": "Has <b>all</b> fields"},
            "test/plain:latest": {
                "interfaceName": "Plain",
                "annotationConfigurationPanel": "False",
                "advancedOptionsPanel": "False",
            },
            "test/failing:latest": {"interfaceName": "Failing", "interfaceCategory": "Broken"},
        }
        yaml = {
            image: {
                "command": ["{python}", "worker.py"],
                "environment": {"NOTES_FOLDER": str(self.folder)},
                "labels": {"isUPennContrastWorker": "", "isAnnotationWorker": "", "isGPUWorker": "true", **labels},
            }
            for image, labels in entries.items()
        }
        (self.workers / "workers.yaml").write_text(json.dumps(yaml), encoding="utf-8")  # JSON is YAML

    def set_fields(self, fields: dict[str, Any]) -> None:
        """Say which fields the tools have."""
        (self.folder / "fields.json").write_text(json.dumps(fields), encoding="utf-8")

    def count_interfaces(self) -> int:
        """Return how often a tool was asked for its fields."""
        return len(list(self.folder.glob("interface *")))

    def hold(self) -> None:
        """Let tools wait."""
        (self.folder / "go on").unlink(missing_ok=True)
        (self.folder / "body.json").unlink(missing_ok=True)

    def go_on(self) -> None:
        """Let tools end."""
        (self.folder / "go on").touch()

    def body(self) -> dict[str, Any]:
        """Return what a tool was given."""
        until((self.folder / "body.json").exists)
        body: dict[str, Any] = json.loads((self.folder / "body.json").read_text(encoding="utf-8"))
        return body


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return Tools(tmp_path_factory.mktemp("tools"))


@pytest.fixture(scope="module")
def bench(tools: Tools) -> Iterator[Bench]:
    with serve(tools.folder.parent / "data", workers=[tools.workers]) as served:
        yield served


@pytest.fixture(scope="module")
def dataset_id(bench: Bench) -> str:
    return bench.import_test_images("cells")


@pytest.fixture
def page(browser: Browser, bench: Bench, dataset_id: str, tools: Tools) -> Iterator[Browser]:
    """The list of tools; the browser must not complain, and nothing is remembered for the next test."""
    tools.set_fields(FIELDS)
    tools.hold()
    bench.delete_all(dataset_id)
    browser.problems()
    browser.open_dataset(bench, dataset_id)
    browser.click("#tab-tools")
    browser.one(".tools")
    yield browser
    tools.go_on()
    until(lambda: all(job["status"] in (3, 4, 5) for job in bench.ask("GET", "job", limit=0)), seconds=20)
    browser.driver.execute_script("sessionStorage.clear()")
    assert browser.problems() == []


def open_tool(page: Browser, name: str) -> None:
    page.click(f"[data-image='test/{name}:latest']")
    until(lambda: page.one("form.tool").is_displayed())


def field(page: Browser, label: str) -> str:
    """Give the selector of the field that has a label."""
    (found,) = [one for one in page.all("form.tool label[for]") if one.text == label]
    return f"[id='{found.get_attribute('for')}']"


def test_every_field_arrives_as_the_platform_sends_it(page: Browser, tools: Tools, dataset_id: str) -> None:
    assert [row.text for row in page.all("#tools h2")] == ["Broken", "Other tools"]
    page.slide("#position-XY", 2)
    page.slide("#position-Z", 2)
    open_tool(page, "fields")
    labels = [one.text for one in page.all("form.tool .fields label[for], form.tool .fields legend")]
    assert labels == [
        *("Threshold", "Min Size", "New Model Name", "Image Channel", "Other Channel", "Channels"),
        *("Annotation Tag", "Layer", "Empty Select", "Model"),
    ]
    notes = page.one(".notes")
    assert notes.get_attribute("innerHTML") == "<b>Bold</b> link"
    assert "Give it a <i>name</i>." in page.text("form.tool")
    assert "from 0 to 1 px" in page.text("form.tool")

    page.type(field(page, "Threshold"), "0.5")
    page.type(field(page, "Min Size"), "\ue017")
    page.type(field(page, "New Model Name"), "my model")
    page.choose(field(page, "Model"), "mine")
    (smooth,) = [one for one in page.all("form.tool .fields .check") if one.text == "Smooth"]
    smooth.click()
    page.choose(field(page, "Image Channel"), CHANNELS[1])
    page.all("form.tool fieldset .check")[1].click()
    page.one(field(page, "Annotation Tag")).send_keys("corrected\nother,last")
    page.choose(field(page, "Layer"), CHANNELS[1])
    page.choose(field(page, "Channel to work on"), CHANNELS[1])
    page.click("[aria-label='Remove the tag Nine fields']")
    page.one(field(page, "Tags of the new outlines")).send_keys("condensate")
    page.click("form.tool .primary")

    body = tools.body()
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", body.pop("id"))
    pixel_size = body["scales"]["pixelSize"].pop("value")
    assert pixel_size == pytest.approx(0.0001)
    position = {"XY": 1, "Z": 1, "Time": 0}
    assert body == {
        "datasetId": dataset_id,
        "type": "segmentation",
        "name": "Nine fields",
        "image": "test/fields:latest",
        "channel": 1,
        "assignment": position,
        "tile": position,
        "tags": ["condensate"],
        "connectTo": {"tags": [], "layer": None, "channel": None},
        "workerInterface": {
            "Notes": "",
            "Threshold": 0.5,
            "Min Size": "",
            "New Model Name": "my model",
            "Model": "mine",
            "Empty Select": "",
            "Smooth": True,
            "Image Channel": 1,
            "Other Channel": -1,
            "Channels": {"0": False, "1": True},
            "Annotation Tag": ["corrected", "other", "last"],
            "Layer": "channel-1",
        },
        "scales": {
            "pixelSize": {"unit": "mm"},
            "zStep": {"value": 1, "unit": "µm"},
            "tStep": {"value": 1, "unit": "s"},
        },
    }
    tools.go_on()
    # The new outline is shown without being asked for.
    until(lambda: page.text("#outline-state") == "1 outline")
    assert page.has_line(110, 50) or page.has_line(110, 49.8) or page.has_line(110, 50.2)


def test_defaults_arrive_when_nothing_is_changed(page: Browser, tools: Tools) -> None:
    page.choose("#channel", CHANNELS[1])
    open_tool(page, "plain")
    assert "Tags of the new outlines" not in page.text("form.tool")
    page.click("form.tool .primary")
    body = tools.body()
    assert (body["channel"], body["tags"], body["connectTo"]) == (0, [], {"tags": [], "channel": None})
    assert body["tile"] == {"XY": 0, "Z": 0, "Time": 0}
    assert body["workerInterface"] == {
        "Notes": "",
        "Threshold": 0.15,
        "Min Size": 15,
        "New Model Name": "model",
        "Model": "pretrained",
        "Empty Select": "",
        "Smooth": False,
        "Image Channel": 0,
        "Other Channel": -1,
        "Channels": {"0": False, "1": False},
        "Annotation Tag": [],
        "Layer": "channel-0",
    }


def test_wrong_numbers_are_told_and_not_sent(page: Browser, bench: Bench) -> None:
    jobs = len(bench.ask("GET", "job", limit=0))
    open_tool(page, "plain")
    page.type(field(page, "Threshold"), "1.5")
    page.click("form.tool .primary")
    assert page.text(".tool-state") == "Threshold must be a number from 0 to 1."
    assert page.driver.switch_to.active_element.get_attribute("value") == "1.5"
    assert len(bench.ask("GET", "job", limit=0)) == jobs + 1  # that of the fields


def test_values_are_remembered_unless_they_are_no_longer_offered(page: Browser, tools: Tools) -> None:
    open_tool(page, "fields")
    page.choose(field(page, "Model"), "mine")
    page.type(field(page, "Min Size"), "20\t")
    page.click(".back")
    open_tool(page, "fields")
    assert page.one(field(page, "Min Size")).get_attribute("value") == "20"
    changed = {**FIELDS, "Model": {**FIELDS["Model"], "items": ["pretrained", "new"]}}
    tools.set_fields({**changed, "New Model Name": {"type": "text", "default": "fresh"}})
    count = tools.count_interfaces()
    page.click(".reload")
    until(lambda: page.one("form.tool").is_displayed() and tools.count_interfaces() > count)
    until(lambda: page.one(field(page, "New Model Name")).get_attribute("value") == "fresh")
    assert page.one(field(page, "Min Size")).get_attribute("value") == "20"
    assert page.one(field(page, "Model")).text.split() == ["(none)", "pretrained", "new"]
    page.click("form.tool .primary")
    values = tools.body()["workerInterface"]
    assert (values["Model"], values["Min Size"], values["New Model Name"]) == ("pretrained", 20, "fresh")


def test_a_tool_is_asked_again_only_if_its_fields_may_change(page: Browser, tools: Tools) -> None:
    fields: dict[str, dict[str, Any]] = {"Min Size": {"type": "number", "default": 1}}
    tools.set_fields(fields)
    open_tool(page, "plain")  # what is stored may have a field that must not be kept
    for is_fixed in (True, False):
        tools.set_fields(fields if is_fixed else {"Min Size": {**fields["Min Size"], "noCache": True}})
        page.click(".reload")
        count = until(tools.count_interfaces)
        until(lambda: page.one("form.tool").is_displayed())
        count = tools.count_interfaces()
        page.click(".back")
        open_tool(page, "plain")
        assert (tools.count_interfaces() == count) is is_fixed


def job_card(page: Browser, number: int = 1) -> str:
    return f".jobs > li:nth-child({number})"


def test_jobs_wait_run_and_are_cancelled(page: Browser, tools: Tools, bench: Bench) -> None:
    for _ in range(2):
        page.click("#tab-tools")
        if page.all(".tools"):
            open_tool(page, "plain")
        page.click("form.tool .primary")
    until(lambda: page.text(f"{job_card(page, 2)} .status") == "running")
    until(lambda: "tile 1 of 4, 3 s left" in page.text(job_card(page, 2)))
    assert "Finding things" in page.text(job_card(page, 2))
    assert page.one(f"{job_card(page, 2)} progress").get_attribute("value") == "0.25"
    assert page.text(f"{job_card(page)} .status") == "waiting" and "1 job before it" in page.text(job_card(page))
    assert page.text("#job-chip") == "2 jobs · 25 %"
    page.click(f"{job_card(page)} .cancel")
    until(lambda: page.text(f"{job_card(page)} .status") == "cancelled")
    page.click(f"{job_card(page, 2)} .cancel")
    until(lambda: page.text(f"{job_card(page, 2)} .status") == "cancelled")
    until(lambda: not page.one("#job-chip").is_displayed())
    assert [job["status"] for job in bench.ask("GET", "job", limit=2)] == [5, 5]

    count = "return performance.getEntriesByType('resource').filter(({name}) => name.includes('/api/v1/job')).length"
    before = page.driver.execute_script(count)
    page.driver.execute_async_script("setTimeout(arguments[0], 1600)")
    assert page.driver.execute_script(count) == before  # nobody asks while nothing runs


def test_errors_and_warnings_are_shown_whole(page: Browser, tools: Tools) -> None:
    tools.go_on()
    open_tool(page, "failing")
    page.click("form.tool .primary")
    until(lambda: page.text(f"{job_card(page)} .status") == "failed")
    messages = [message.text for message in page.all(f"{job_card(page)} .job-message")]
    assert messages == [
        "Left out\n3 outlines were <b>skipped</b>.\nThey were too small.",
        "Error\nThere is no usable region.",
    ]
    assert "Failing failed" in page.text("#problems")
    page.click(f"{job_card(page)} summary")
    until(lambda: "exit code 3" in page.text(f"{job_card(page)} pre"))


def test_a_tool_that_cannot_tell_its_fields(page: Browser, tools: Tools) -> None:
    (tools.folder / "fields.json").write_text("no json", encoding="utf-8")
    page.click("[data-image='test/failing:latest']")
    page.click(".reload")
    until(lambda: "JSONDecodeError" in page.text(".tool-state"))
    assert not page.one("form.tool").is_displayed()
    tools.set_fields(FIELDS)
    page.click(".reload")
    until(lambda: page.one("form.tool").is_displayed())
