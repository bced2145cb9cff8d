"""A real browser on a real server: what the tests of the page share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import tifffile

from workbench.server_process import import_files

TOKEN = "token-of-the-page-tests"
WIDTH, HEIGHT = 160, 120  # of the test image
SQUARE = 12  # side of the bright square that tells frames apart
MARGIN = 0.96  # of the view that a fitting image fills
SIZES = {"XY": 2, "Z": 2, "Channel": 2}
CHANNELS = ("DAPI", "G3BP1 <b>GFP</b>")

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
T = TypeVar("T")


def skip_without_browser() -> None:
    """Skip the tests of a module where they cannot be run."""
    pytest.importorskip("selenium", reason="the package selenium is not installed")
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(
                f"there is no {program} (Debian: apt-get install chromium chromium-driver)", allow_module_level=True
            )


def square(xy: int, z: int, channel: int) -> tuple[int, int]:
    """Give the centre (x, y) of the bright square of a frame."""
    return 16 + 36 * (2 * xy + z), 30 + 60 * channel


def write_images(folder: Path) -> None:
    """Write two positions with two channels and two Z planes, 16 bit; each frame has its square in its own place."""
    folder.mkdir()
    for xy in range(2):
        stack = np.full((2, 2, HEIGHT, WIDTH), 300, np.uint16)
        stack += np.random.default_rng(xy).integers(0, 40, stack.shape, np.uint16)
        for z, channel in np.ndindex(2, 2):
            x, y = square(xy, z, channel)
            half = SQUARE // 2
            stack[z, channel, y - half : y + half, x - half : x + half] = 5000
        metadata = {
            "axes": "ZCYX",
            "Channel": {"Name": list(CHANNELS)},
            "PhysicalSizeX": 0.1,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 0.1,
            "PhysicalSizeYUnit": "µm",
        }
        name = folder / f"cells_xy{xy + 1}.ome.tif"
        tifffile.imwrite(name, stack, ome=True, photometric="minisblack", metadata=metadata)


class Bench:
    """A served workbench, asked as a program would."""

    def __init__(self, url: str, data: Path) -> None:
        self.url = url
        self.data = data

    def ask(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """Send a request and return the JSON of its answer."""
        request = urllib.request.Request(
            f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Girder-Token": TOKEN, "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def import_images(self, path: Path, name: str) -> str:
        """Import with the command line, and return the dataset's identifier."""
        return import_files(self.data, [path], name=name)

    def import_test_images(self, name: str) -> str:
        """Write the test images and import them."""
        images = self.data.parent / "images"
        write_images(images)
        return self.import_images(images, name)

    def annotations(self, dataset_id: str) -> list[dict[str, Any]]:
        """Return all annotations of a dataset, in the order of their making."""
        found: list[dict[str, Any]] = self.ask("GET", "upenn_annotation", datasetId=dataset_id, limit=0, sort="_id")
        return found

    def delete_all(self, dataset_id: str) -> None:
        """Delete all annotations of a dataset."""
        ids = [annotation["_id"] for annotation in self.annotations(dataset_id)]
        self.ask("DELETE", "upenn_annotation/multiple", ids)

    def add_box(self, dataset_id: str, left: float, top: float, size: float, *tags: str, **location: int) -> None:
        """Add a square outline."""
        right, bottom = left + size, top + size
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        annotation = {
            "datasetId": dataset_id,
            "shape": "polygon",
            "coordinates": [{"x": x, "y": y} for x, y in corners],
            "tags": list(tags),
            "channel": 0,
            "location": location,
        }
        self.ask("POST", "upenn_annotation", annotation)


@contextmanager
def serve(data: Path, *, workers: Sequence[Path] = ()) -> Iterator[Bench]:
    """Run `workbench serve` while the block runs."""
    command = [sys.executable, "-m", "workbench", "serve", "--data", str(data), "--port", "0"]
    command += [argument for folder in workers for argument in ("--workers", str(folder))]
    environment = {**os.environ, "WORKBENCH_TOKEN": TOKEN}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=data.parent) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address.endswith(f"/#token={TOKEN}"), address
            yield Bench(address.partition("/#")[0], data)
        finally:
            process.terminate()
            process.communicate(timeout=30)


def until(find: Callable[[], T], *, seconds: float = 10) -> T:
    """Wait until something is true, and return it; elements that are replaced meanwhile count as false."""
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

    end = time.monotonic() + seconds
    while True:
        try:
            found = find()
        except (NoSuchElementException, StaleElementReferenceException):
            found = None
        if found:
            return found
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.03)


class Browser:
    """A browser with the page in it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        """Open an address in a fresh page, also if only its fragment differs."""
        self.driver.get("about:blank")
        self.driver.get(address)

    def open_dataset(self, bench: Bench, dataset_id: str) -> Browser:
        """Open a dataset, wait for its image and outlines, and return this browser."""
        self.open(f"{bench.url}/#/dataset/{dataset_id}&token={TOKEN}")
        self.wait_for_image()
        until(lambda: "outline" in self.text("#outline-state").replace("Loading outlines", ""))
        return self

    def wait_for_image(self) -> None:
        """Wait until the image of what was chosen last is shown."""
        until(lambda: self.all(".picture-state.ready"))
        self.frame()

    def frame(self) -> None:
        """Wait until what changed is drawn."""
        self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")

    def all(self, selector: str) -> list[Any]:
        """Return the elements of a selector."""
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        """Return the element of a selector, as soon as it is there."""
        return until(lambda: self.all(selector))[0]

    def text(self, selector: str) -> str:
        """Return the text that an element shows."""
        return str(self.one(selector).text)

    def click(self, selector: str) -> None:
        """Click an element as soon as it can be clicked."""
        until(lambda: self.one(selector).is_displayed() and self.one(selector).is_enabled())
        self.one(selector).click()

    def type(self, selector: str, text: str) -> None:
        """Replace the text of a field."""
        self.one(selector).send_keys("\ue009a\ue000", text)  # Ctrl+A

    def press(self, *keys: str) -> None:
        """Press keys together, the last one being no modifier."""
        chain = self.actions()
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in keys[:-1]:
            chain.key_up(key)
        chain.perform()

    def actions(self) -> Any:
        """Begin a chain of what the mouse and the keyboard do."""
        from selenium.webdriver.common.action_chains import ActionChains

        return ActionChains(self.driver, duration=10)

    def choose(self, selector: str, text: str) -> None:
        """Choose an entry of a menu."""
        from selenium.webdriver.support.ui import Select

        Select(self.one(selector)).select_by_visible_text(text)

    def slide(self, selector: str, value: int) -> None:
        """Move a slider."""
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
        self.driver.execute_script(script, self.one(selector), value)

    # The image, shown whole: how it fits is known.

    def size(self) -> tuple[float, float]:
        """Return width and height of the canvas."""
        box = self.one("canvas.overlay").rect
        return box["width"], box["height"]

    def scale(self) -> float:
        """Return the pixels of the screen per pixel of the image that fits."""
        width, height = self.size()
        return MARGIN * min(width / WIDTH, height / HEIGHT)

    def screen(self, x: float, y: float) -> tuple[int, int]:
        """Return where a point of the image is, from the middle of the canvas."""
        return round((x - WIDTH / 2) * self.scale()), round((y - HEIGHT / 2) * self.scale())

    def click_at(self, x: float, y: float, *, shift: bool = False) -> None:
        """Click at a point of the image."""
        chain = self.actions().move_to_element_with_offset(self.one("canvas.overlay"), *self.screen(x, y))
        if shift:
            chain.key_down("\ue008")
        chain.click()
        if shift:
            chain.key_up("\ue008")
        chain.perform()

    def drag(self, points: Sequence[tuple[float, float]]) -> None:
        """Press the mouse button at a point of the image, go along the others, and let it go."""
        canvas = self.one("canvas.overlay")
        chain = self.actions().move_to_element_with_offset(canvas, *self.screen(*points[0])).click_and_hold()
        for point in points[1:]:
            chain.move_to_element_with_offset(canvas, *self.screen(*point))
        chain.release().perform()

    def pixel(self, layer: str, x: float, y: float) -> tuple[int, int, int, int]:
        """Return red, green, blue and alpha that a layer has at a point of the image."""
        width, height = self.size()
        dx, dy = self.screen(x, y)
        return self.pixel_of_screen(layer, width / 2 + dx, height / 2 + dy)

    def pixel_of_screen(self, layer: str, x: float, y: float) -> tuple[int, int, int, int]:
        """Return the colour that a layer has at a point of the canvas."""
        script = (
            "const [layer, x, y] = arguments; const canvas = document.querySelector(`canvas.${layer}`);"
            "return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data]"
        )
        red, green, blue, alpha = self.driver.execute_script(script, layer, int(x), int(y))
        return red, green, blue, alpha

    def has_line(self, x: float, y: float) -> bool:
        """Say whether an outline goes through a point of the image."""
        self.frame()
        return any(self.pixel("outlines", x + dx, y)[3] for dx in (-0.4, -0.2, 0, 0.2, 0.4))

    def problems(self) -> list[str]:
        """Return what the browser complained about since the last call; not that tests read pixels."""
        entries = [entry for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        return [entry["message"] for entry in entries if "willReadFrequently" not in entry["message"]]


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Run a browser while the block runs.

    Args:
        profile: an empty folder for what it keeps.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_script_timeout(10)
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for a file's tests."""
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser
