"""The page of a profile in a browser: no network, every figure drawn, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from browser_help import CONTRAST, asks_nothing, opened, scheme, size, wait
from page_help import NASTY, nasty
from zoo.exporter.report.figure import short
from zoo.exporter.report.profile_page import render_profile

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.enable_socket  # to the driver, on this machine


@pytest.fixture(scope="module")
def browser(tmp_path_factory, profile_of_four) -> Iterator[Chrome]:
    path = tmp_path_factory.mktemp("page") / "profile.html"
    path.write_text(render_profile(profile_of_four), encoding="utf-8")
    with opened(path) as chrome:
        yield chrome


def test_it_asks_the_network_for_nothing_and_complains_of_nothing(browser) -> None:
    asks_nothing(browser, "profile.html")


def test_every_figure_is_drawn(browser) -> None:
    found = browser.execute_script(
        "return [document.querySelectorAll('.plot .scatterlayer .point').length,"
        "document.querySelectorAll('.plot .errorbar').length,"
        "[...document.querySelectorAll('.plot .slice')].map((one) => one.getBoundingClientRect().width)]"
    )
    points, bars, boxes = found
    assert (points, bars) == (6, 6)
    assert len(boxes) == 1 + 7 + 42
    assert boxes[0] == pytest.approx(sum(boxes[1:8]), rel=0.02), "the operators fill the whole"
    assert boxes[1] / boxes[0] == pytest.approx(0.94, abs=0.02)


def test_the_numbers_shown_are_those_of_the_result(browser, profiled) -> None:
    rows = browser.execute_script(
        "return [...document.querySelector('table').rows].slice(1, 7).map((row) =>"
        "[...row.querySelectorAll('data')].map((one) => Number(one.value)))"
    )
    wanted = [row for device in profiled["devices"][:3] for row in device["rows"]]
    assert [row[1] for row in rows] == [one["percentiles"]["p50"] for one in wanted]
    assert [row[2:4] for row in rows] == [one["interval"] for one in wanted]


def test_a_phone_scrolls_one_way(browser) -> None:
    size(browser, 360)
    try:
        wait(browser)
        widths = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
        whole, seen = browser.execute_script(widths)
        assert whole == seen <= 360
    finally:
        size(browser, 1200)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_every_text_can_be_read(browser, name: str) -> None:
    """WCAG 2 AA."""
    scheme(browser, name)
    browser.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert browser.execute_script(CONTRAST) == []


def test_hostile_names_are_shown_as_they_are(browser, profiled, tmp_path) -> None:
    """The last one: the browser shows another page from here on."""
    path = tmp_path / "nasty.html"
    path.write_text(render_profile(nasty(profiled)), encoding="utf-8")
    browser.get_log("browser")
    browser.get(path.as_uri())
    wait(browser)
    assert browser.get_log("browser") == []
    assert "<script>alert(1)" in browser.execute_script("return document.querySelector('tbody th').textContent")
    labels = browser.execute_script("return document.querySelector('.plot .ytick').textContent")
    assert labels == short(NASTY), "plotly shows it too, shortened"
    assert browser.execute_script("return document.querySelectorAll('.plot svg.main-svg').length") > 0
