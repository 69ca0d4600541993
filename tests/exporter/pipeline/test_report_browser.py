"""The page of a pipeline in a browser: drawn, quiet, readable, on a phone, and its links open what they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_help import CONTRAST, asks_nothing, opened, scheme, size, wait
from page_help import NASTY
from played_report import result
from zoo.exporter.report.pipeline_page import render_pipeline

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.enable_socket  # to the driver, on this machine
VARIANTS = tuple(f"{name}{small}" for name in ("resnet18", "vgg11", "alexnet") for small in ("", "-small"))


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    made = result(VARIANTS)
    made["picks"][0]["others"][0]["reason"] += NASTY
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory, whole) -> Iterator[Chrome]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_pipeline(whole), encoding="utf-8")
    with opened(path) as chrome:
        yield chrome


def test_it_asks_the_network_for_nothing_and_complains_of_nothing(browser) -> None:
    asks_nothing(browser, "report.html")


def test_every_figure_and_the_lineage_are_drawn(browser, whole) -> None:
    figures = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].map((one) => one.querySelectorAll('.trace, .bars').length)"
    )
    assert len(figures) >= 3
    assert all(figures)
    texts = browser.execute_script(
        "return [...document.querySelectorAll('.lineage g.box')].map((box) => { const room = box.querySelector('rect')"
        ".getBoundingClientRect(); return [...box.querySelectorAll('text')].map((one) => one.getBoundingClientRect())"
        ".map((one) => [one.left - room.left, room.right - one.right, one.top - room.top, room.bottom - one.bottom]);})"
    )
    assert len(texts) > len(VARIANTS)
    assert min(side for box in texts for text in box for side in text) > -1, "words stay in their boxes"


def test_the_page_holds_the_result(browser, whole) -> None:
    script = "return JSON.parse(document.getElementById('result').textContent)"
    assert browser.execute_script(script) == whole


def test_a_link_opens_what_it_leads_to(browser, whole) -> None:
    place = browser.execute_script(
        "const link = [...document.querySelectorAll('.lineage a')].find((one) => !document.querySelector("
        "one.getAttribute('href')).checkVisibility()); location.hash = link.getAttribute('href'); return location.hash;"
    )
    seen: list[bool] = []
    for _ in range(20):  # it scrolls smoothly
        wait(browser)
        seen = browser.execute_script("const one = document.querySelector(arguments[0]); return [one.checkVisibility(),"
                                      "one.getBoundingClientRect().top < innerHeight]", place)  # fmt: skip
        if all(seen):
            break
    assert seen == [True, True]


def test_a_click_selects_a_whole_command(browser) -> None:
    from selenium.webdriver.common.by import By

    browser.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    command = browser.find_elements(By.CSS_SELECTOR, ".command")[3]
    place = ("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'});"
             "return arguments[0].getBoundingClientRect().top")  # fmt: skip
    before, now = None, browser.execute_script(place, command)
    for _ in range(20):  # an earlier scroll may still be on its way, and what was opened is laid out anew
        wait(browser)
        before, now = now, browser.execute_script(place, command)
        if before == now:
            break
    assert before == now
    command.click()
    assert browser.execute_script("return getSelection().toString()").strip() == command.text != ""


@pytest.mark.parametrize("name", ["light", "dark"])
def test_every_text_can_be_read(browser, name: str) -> None:
    """WCAG 2 AA."""
    scheme(browser, name)
    assert browser.execute_script(CONTRAST) == []


def test_a_phone_scrolls_one_way(browser) -> None:
    size(browser, 360)
    try:
        wait(browser)
        widths = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
        whole, seen = browser.execute_script(widths)
        assert whole == seen <= 360
        wide = "const one = document.querySelector('.wide-drawing'); return one.scrollWidth > one.clientWidth"
        assert browser.execute_script(wide), "the drawing scrolls by itself"
    finally:
        size(browser, 1200)


def test_nothing_runs_that_was_given(browser) -> None:
    assert browser.execute_script("return document.querySelectorAll('script:not([type])').length") == 2
    assert NASTY in browser.execute_script("return document.querySelector('.pick').textContent")


def test_the_file_is_whole(tmp_path: Path, whole) -> None:
    page = render_pipeline(whole)
    assert page.rstrip().endswith("</html>")
    assert page == render_pipeline(whole), "the same gives the same"
