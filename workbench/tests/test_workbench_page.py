"""The web page in a real browser: looking at a dataset and correcting its outlines."""

from __future__ import annotations

import math
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import workbench_browser
from workbench_browser import (
    CHANNELS,
    HEIGHT,
    TOKEN,
    WIDTH,
    Bench,
    Browser,
    serve,
    skip_without_browser,
    square,
    until,
)

skip_without_browser()

shared_browser = workbench_browser.shared_browser
CONTROL, SHIFT, DELETE, ESCAPE = "\ue009", "\ue008", "\ue017", "\ue00c"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with serve(tmp_path_factory.mktemp("page") / "data") as served:
        yield served


@pytest.fixture(scope="module")
def dataset_id(bench: Bench) -> str:
    return bench.import_test_images("Stress <i>granules</i>")


@pytest.fixture
def browser(shared_browser: Browser) -> Iterator[Browser]:
    """A browser that must not complain about anything."""
    shared_browser.problems()
    yield shared_browser
    assert shared_browser.problems() == []


@pytest.fixture
def cleared(browser: Browser, bench: Bench, dataset_id: str) -> Browser:
    """A browser beside the dataset without annotations."""
    bench.delete_all(dataset_id)
    return browser


@pytest.fixture
def page(cleared: Browser, bench: Bench, dataset_id: str) -> Browser:
    """The dataset without annotations, opened."""
    return cleared.open_dataset(bench, dataset_id)


def get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Return status, content and headers of an answer, whatever it is."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read(), {key.lower(): value for key, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), {key.lower(): value for key, value in error.headers.items()}


def test_files_need_no_token_and_bring_their_rules(bench: Bench) -> None:
    for path, kind in {"": "text/html", "page/main.js": "text/javascript", "page/base.css": "text/css"}.items():
        status, content, headers = get(f"{bench.url}/{path}")
        assert (status, headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
        assert rules["default-src"] == "'none'"
        assert {rules[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
        assert headers["x-content-type-options"] == "nosniff"
        assert TOKEN.encode() not in content
        assert get(f"{bench.url}/{path}", **{"If-None-Match": headers["etag"]})[:2] == (304, b"")
        assert get(f"{bench.url}/{path}", **{"If-None-Match": '"another"'})[0] == 200


@pytest.mark.parametrize("name", ["none.js", "page.py", "%2e%2e%2fpage.py", "..%2Ferrors.py", "py.typed", "main.js%00"])
def test_nothing_but_the_page_is_served(bench: Bench, name: str) -> None:
    assert get(f"{bench.url}/page/{name}")[0] == 404


def test_without_the_token_it_says_what_to_do(browser: Browser, bench: Bench) -> None:
    for address in (f"{bench.url}/#/dataset/{'0' * 24}", f"{bench.url}/#token=wrong", f"{bench.url}/"):
        browser.open(f"{bench.url}/#token=wrong")
        browser.driver.execute_script("sessionStorage.clear()")
        browser.open(address)
        assert "workbench serve" in browser.text(".notice")
    browser.type("#token", f"{bench.url}/#token={TOKEN}")
    browser.click(".notice button")
    until(lambda: not browser.all("#token"))


def test_the_token_is_hidden_and_kept(browser: Browser, bench: Bench, dataset_id: str) -> None:
    browser.open(f"{bench.url}/#token={TOKEN}")
    assert "Stress <i>granules</i>" in browser.text(".datasets")
    assert browser.driver.current_url == f"{bench.url}/"
    browser.driver.refresh()
    assert "Stress <i>granules</i>" in browser.text(".datasets")


def test_an_empty_workbench_says_how_to_import(browser: Browser, tmp_path: Path) -> None:
    with serve(tmp_path / "data") as empty:
        browser.open(f"{empty.url}/#token={TOKEN}")
        assert "workbench import" in browser.text(".notice")


def test_datasets_are_listed_newest_first_and_opened(browser: Browser, bench: Bench, dataset_id: str) -> None:
    newer = bench.import_images(bench.data.parent / "images" / "cells_xy1.ome.tif", "newer")
    browser.open(f"{bench.url}/#token={TOKEN}")
    assert [card.get_attribute("data-id") for card in until(lambda: browser.all(".datasets li"))] == [newer, dataset_id]
    browser.click(f"[data-id='{dataset_id}'] a")
    browser.wait_for_image()
    assert browser.text("#place") == "Stress <i>granules</i>"
    assert not browser.all("#position-Time")


def test_a_dataset_that_is_gone_is_told(browser: Browser, bench: Bench) -> None:
    browser.open(f"{bench.url}/#/dataset/{'0' * 24}&token={TOKEN}")
    assert "Invalid folder id" in browser.text(".notice")
    assert "400 (Bad Request)" in " ".join(browser.problems())


def test_position_and_channel_choose_the_frame(page: Browser) -> None:
    def shown() -> tuple[int, int, int]:
        page.wait_for_image()
        lit = [
            (xy, z, c)
            for xy in (0, 1)
            for z in (0, 1)
            for c in (0, 1)
            if page.pixel("image", *square(xy, z, c))[0] > 200
        ]
        assert len(lit) == 1, lit
        return lit[0]

    assert shown() == (0, 0, 0)
    page.slide("#position-XY", 2)
    until(lambda: shown() == (1, 0, 0))
    page.slide("#position-Z", 2)
    until(lambda: shown() == (1, 1, 0))
    page.choose("#channel", CHANNELS[1])
    until(lambda: shown() == (1, 1, 1))
    page.slide("#position-XY", 1)
    until(lambda: shown() == (0, 1, 1))
    page.one("canvas.overlay").click()
    page.press(",")
    until(lambda: shown() == (0, 0, 1))


def test_contrast_begins_by_itself_and_follows_the_sliders(page: Browser) -> None:
    assert page.text(".contrast output") == "300 to 5,000"
    assert page.pixel("image", 140, 60)[0] < 10
    grey = page.pixel("image", *square(0, 0, 0))[0]
    assert grey > 245
    page.slide(".contrast .white", 1000)
    until(lambda: page.pixel("image", *square(0, 0, 0))[0] < grey or page.text(".contrast output") == "300 to 5,000")
    page.slide(".contrast .white", 10)
    until(lambda: page.pixel("image", 140, 60)[0] > 60)
    page.click(".contrast button")
    until(lambda: page.pixel("image", 140, 60)[0] < 10)


def test_the_wheel_zooms_around_the_mouse_and_dragging_moves(page: Browser) -> None:
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    x, y = square(0, 0, 0)
    canvas = page.one("canvas.overlay")
    width, height = page.size()
    dx, dy = page.screen(x, y)
    origin = ScrollOrigin.from_element(canvas, dx, dy)
    before = page.text("#zoom")
    page.actions().scroll_from_origin(origin, 0, -600).perform()
    until(lambda: page.text("#zoom") != before)
    page.frame()
    # The square under the mouse stays there, larger: now it also covers what was beside it.
    side = page.scale() * 12
    assert page.pixel_of_screen("image", width / 2 + dx, height / 2 + dy)[0] > 200
    assert page.pixel_of_screen("image", width / 2 + dx + 0.8 * side, height / 2 + dy)[0] > 200
    page.actions().move_to_element_with_offset(canvas, 0, 0).click_and_hold().move_by_offset(
        -300, 0
    ).release().perform()
    page.frame()
    assert page.pixel_of_screen("image", width / 2 + dx + 0.8 * side, height / 2 + dy)[0] < 100
    page.press("0")
    until(lambda: page.text("#zoom") == before)


def circle(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    return [
        (x + radius * math.cos(step / 12 * math.pi), y + radius * math.sin(step / 12 * math.pi)) for step in range(24)
    ]


def test_draw_select_delete_and_undo(page: Browser, bench: Bench, dataset_id: str) -> None:
    page.slide("#position-Z", 2)
    page.choose("#channel", CHANNELS[1])
    page.wait_for_image()
    page.click("[data-mode=outline]")
    page.drag(circle(100, 60, 20))
    (drawn,) = until(lambda: bench.annotations(dataset_id))
    assert drawn["shape"] == "polygon" and drawn["tags"] == ["corrected"] and drawn["channel"] == 1
    assert drawn["location"] == {"XY": 0, "Z": 1, "Time": 0}
    corners = [(point["x"], point["y"]) for point in drawn["coordinates"]]
    assert 8 <= len(corners) <= 24 and corners[0] != corners[-1]
    assert all(abs(math.dist(corner, (100, 60)) - 20) < 0.6 for corner in corners)
    assert page.has_line(120, 60) and not page.has_line(100, 60)
    assert page.text("#outline-state") == "1 outline, 1 selected"

    page.press("v")
    page.click_at(20, 20)  # beside it
    assert page.text("#outline-state") == "1 outline"
    page.press(DELETE)
    page.click_at(100, 60)
    assert page.text(".summary").startswith("Outline, 1,2")  # px²
    page.press(DELETE)
    until(lambda: not bench.annotations(dataset_id))
    assert not page.has_line(120, 60)

    page.press(CONTROL, "z")
    (again,) = until(lambda: bench.annotations(dataset_id))
    assert {**again, "_id": drawn["_id"]} == drawn
    assert page.has_line(120, 60)
    page.press(CONTROL, "z")
    until(lambda: not bench.annotations(dataset_id))
    page.press(CONTROL, SHIFT, "z")
    assert len(until(lambda: bench.annotations(dataset_id))) == 1
    page.press(CONTROL, SHIFT, "z")
    until(lambda: not bench.annotations(dataset_id))
    page.click("#undo")
    until(lambda: bench.annotations(dataset_id))
    until(lambda: page.text("#saving") == "Saved")


def test_a_slip_of_the_hand_draws_nothing(page: Browser, bench: Bench, dataset_id: str) -> None:
    page.press("o")
    page.drag([(50, 50), (51, 50)])
    assert "Too small" in page.text("#messages")
    page.press("r")
    page.drag([(150, 110), (150, 125), (162, 121)])  # beyond the image
    (region,) = until(lambda: bench.annotations(dataset_id))
    assert region["coordinates"][2] == {"x": WIDTH, "y": HEIGHT}
    page.press(ESCAPE)
    assert page.one("[data-mode=select]").get_attribute("aria-pressed") == "true"


def test_accept_all_in_a_region(cleared: Browser, bench: Bench, dataset_id: str) -> None:
    bench.add_box(dataset_id, 20, 20, 10, "condensate")
    bench.add_box(dataset_id, 55, 20, 10, "condensate")  # its centre is on this side of the border at 62
    bench.add_box(dataset_id, 58, 50, 10, "condensate")  # its centre is not
    bench.add_box(dataset_id, 30, 50, 10, "condensate", "corrected")
    bench.add_box(dataset_id, 30, 70, 10)
    bench.add_box(dataset_id, 20, 40, 5, "hidden")
    bench.add_box(dataset_id, 20, 20, 10, "condensate", XY=1)
    page = cleared.open_dataset(bench, dataset_id)
    assert page.text("#outline-state") == "6 outlines"
    page.click("[data-tag=hidden]")
    page.press("r")
    page.drag([(10, 10), (40, 60), (62, 90)])
    until(lambda: len(bench.annotations(dataset_id)) == 8)
    assert page.text("#outline-state") == "5 outlines, 1 region, 1 selected"
    page.click("#accept")
    expected = [
        ["condensate", "corrected"],
        ["condensate", "corrected"],
        ["condensate"],
        ["condensate", "corrected"],
        ["corrected"],
        ["hidden"],
        ["condensate"],
        ["region"],
    ]
    until(lambda: [annotation["tags"] for annotation in bench.annotations(dataset_id)] == expected)
    assert "3 outlines got the tag “corrected”; 1 had it already; 1 hidden outline left" in page.text("#messages")
    region = bench.annotations(dataset_id)[-1]
    assert region["shape"] == "rectangle"
    assert region["coordinates"] == [{"x": x, "y": y} for x, y in ((10, 10), (62, 10), (62, 90), (10, 90))]
    page.press(CONTROL, "z")
    before = [["condensate"], ["condensate"], ["condensate"], ["condensate", "corrected"], [], *expected[5:]]
    until(lambda: [annotation["tags"] for annotation in bench.annotations(dataset_id)] == before)


def test_tags_are_chosen_changed_and_switched(cleared: Browser, bench: Bench, dataset_id: str) -> None:
    bench.add_box(dataset_id, 20, 20, 20, "first", "old")
    bench.add_box(dataset_id, 80, 20, 20, "second", "old")
    page = cleared.open_dataset(bench, dataset_id)
    legend = {row.text for row in page.all(".legend li label")}
    assert legend == {"first\n1", "second\n1", "old\n2"}
    colour = page.pixel("outlines", 20, 30)
    page.click("[data-tag=old]")
    page.frame()
    assert page.has_line(20, 30) and page.pixel("outlines", 20, 30) != colour  # now that of its other tag
    page.click("[data-tag=first]")
    assert not page.has_line(20, 30) and page.has_line(80, 30)
    page.click("[data-tag=first]")
    page.click("[data-tag=old]")

    page.click_at(30, 30)
    page.click_at(90, 30, shift=True)
    assert page.text(".summary") == "2 outlines selected."
    assert [chip.text for chip in page.all(".selection-tags .tag > span")] == ["first", "old", "second"]
    assert len(page.all(".selection-tags .tag.partial")) == 2
    page.click("[aria-label='Remove the tag old']")
    until(lambda: [annotation["tags"] for annotation in bench.annotations(dataset_id)] == [["first"], ["second"]])
    page.one(".selection-tags input").send_keys("new, first\n")
    expected = [["first", "new"], ["second", "new", "first"]]
    until(lambda: [annotation["tags"] for annotation in bench.annotations(dataset_id)] == expected)

    page.type("#tag-corrected", "checked\n")
    page.click("[data-mode=outline]")
    page.drag(circle(100, 80, 15))
    until(lambda: bench.annotations(dataset_id)[-1]["tags"] == ["checked"])


def test_a_failed_save_is_told_and_taken_back(cleared: Browser, bench: Bench, dataset_id: str) -> None:
    bench.add_box(dataset_id, 20, 20, 20, "condensate")
    page = cleared.open_dataset(bench, dataset_id)
    page.click_at(30, 30)
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/upenn_annotation*"]})
    try:
        page.press(DELETE)
        assert "Not saved, and taken back: delete 1 outline." in page.text("#problems")
    finally:
        page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    until(lambda: page.text("#outline-state") == "1 outline")
    assert page.has_line(20, 30) and len(bench.annotations(dataset_id)) == 1
    assert all("ERR_BLOCKED" in problem for problem in page.problems())
    page.click_at(30, 30)
    page.press(DELETE)
    until(lambda: not bench.annotations(dataset_id))


def test_it_works_with_the_keyboard_alone(cleared: Browser, bench: Bench, dataset_id: str) -> None:
    bench.add_box(dataset_id, 20, 20, 20, "condensate")
    bench.add_box(dataset_id, 80, 20, 20, "condensate")
    page = cleared.open_dataset(bench, dataset_id)
    page.press("n")
    page.press("n")
    page.press(DELETE)
    until(lambda: [annotation["coordinates"][0]["x"] for annotation in bench.annotations(dataset_id)] == [20])
    page.press("h")
    assert not page.has_line(20, 30)
    page.press("?")
    assert "delete the selection" in page.text("#shortcuts")
    page.press(ESCAPE)
    page.one("#tab-correct").send_keys("\ue014")  # to the right
    assert page.one("#tools").is_displayed() and not page.one("#correct").is_displayed()
    unnamed = page.driver.execute_script(
        "const isNamed = (one) => one.labels?.length || one.textContent.trim() || one.getAttribute('aria-label');"
        "return [...document.querySelectorAll('button, input, select')]"
        ".filter((one) => one.checkVisibility() && !isNamed(one)).map((one) => one.outerHTML)"
    )
    assert unnamed == []
