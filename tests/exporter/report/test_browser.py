"""The page in a browser, as people get it: a file, no network, on a phone, in the dark, by keyboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser_help import CONTRAST, asks_nothing, opened, scheme, size, wait
from zoo.exporter.report.page import render_page

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.enable_socket  # to the driver, on this machine


@pytest.fixture(scope="module")
def browser(tmp_path_factory, result, pictures) -> Iterator[Chrome]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_page(result, pictures), encoding="utf-8")
    with opened(path) as chrome:
        yield chrome


def test_it_asks_the_network_for_nothing_and_complains_of_nothing(browser) -> None:
    asks_nothing(browser, "report.html")


def test_the_network_is_forbidden(browser) -> None:
    script = "fetch('http://127.0.0.1:9/').then(() => arguments[0]('sent'), (error) => arguments[0](error.message))"
    assert browser.execute_async_script(script) == "Failed to fetch"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_every_figure_is_drawn(browser) -> None:
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].map((plot) => ["
        "plot.querySelectorAll('svg.main-svg').length > 0, plot.querySelectorAll('.trace, .bars').length,"
        "plot.getAttribute('aria-label')])"
    )
    assert len(drawn) == 5
    assert all(svg and marks and words for svg, marks, words in drawn)


def test_the_page_holds_the_result(browser, result) -> None:
    script = "return JSON.parse(document.getElementById('result').textContent)"
    assert browser.execute_script(script) == result


KEYS = {
    "numerics": ("relative", "tolerance", "max_abs", "spread", "cosine", "agreement", "sqnr_db", "kl", "images"),
    "accuracy": (
        "top1", "reference", "drop", "drop_low", "drop_high", "max_drop", "lost", "gained", "mcnemar_p", "images",
    ),
    "latency": ("ratio", "ratio_low", "ratio_high", "control_low", "control_high", "reference_p50_ms", "rounds",
                "samples"),
    "speed": ("times", "times_low", "times_high", "p50_ms", "p90_ms", "p95_ms"),
}  # fmt: skip
CAPTIONS = {
    "numerics": "Logits beside the reference's",
    "accuracy": "Accuracy on the same images",
    "latency": "How it was measured: time over the reference's, and the reference's over its own",
    "speed": "Latency of one run, beside its reference in the same rounds",
}


@pytest.mark.parametrize("gate", KEYS)
def test_numbers_shown_are_those_of_the_result(browser, result, gate: str) -> None:
    rows = browser.execute_script(
        "const table = [...document.querySelectorAll('table')].find((one) => one.caption.textContent === arguments[0]);"
        "return [...table.tBodies[0].rows].map((row) =>"
        "[...row.querySelectorAll('data')].map((one) => [one.value, one.textContent]))",
        CAPTIONS[gate],
    )
    name = "latency" if gate == "speed" else gate
    gates = [{one["name"]: one for one in row["gates"]}[name] for row in result["artifacts"][:3]]
    if gate == "speed":  # the reader's way round
        turned = {"times": "ratio", "times_low": "ratio_high", "times_high": "ratio_low"}
        gates = [{**one, **{key: 1 / one[of] for key, of in turned.items()}} for one in gates]
    assert [[float(value) for value, _ in row] for row in rows] == [[one[key] for key in KEYS[gate]] for one in gates]
    for value, text in (cell for row in rows for cell in row):
        check_text(float(value), text)


def check_text(value: float, text: str) -> None:
    """A number as shown is the number, rounded; as it is, or in hundredths."""
    shown = float(text.strip("%").replace(",", ""))
    digits = len(re.sub(r"e.*", "", text).partition(".")[2].strip("%"))
    nearest = min((value, 100 * value), key=lambda one: abs(one - shown))
    assert shown == pytest.approx(nearest, rel=5.1e-3, abs=0.51 * 10**-digits)


def test_a_phone_scrolls_one_way(browser) -> None:
    size(browser, 360)
    try:
        wait(browser)
        widths = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
        whole, seen = browser.execute_script(widths)
        assert whole == seen <= 360
        figures = (
            "return [...document.querySelectorAll('svg.main-svg')].map((one) => one.getBoundingClientRect().right)"
        )
        assert max(browser.execute_script(figures)) < seen
        wide = "return [...document.querySelectorAll('.scroll')].some((one) => one.scrollWidth > one.clientWidth)"
        assert browser.execute_script(wide), "tables scroll by themselves"
    finally:
        size(browser, 1200)


INK = "return [getComputedStyle(document.documentElement).backgroundColor, arguments[0].map((name) =>"
INK += "getComputedStyle(document.querySelector(name)).fill)]"
TEXTS = [".plot .xtick text", ".plot .legendtext"]


def test_dark_and_light(browser) -> None:
    found = {}
    for name in ("light", "dark", "light"):
        scheme(browser, name)
        found.setdefault(name, []).append(browser.execute_script(INK, TEXTS))
    assert found["light"] == [["rgb(246, 247, 248)", ["rgb(28, 33, 39)"] * 2]] * 2
    assert found["dark"] == [["rgb(21, 24, 28)", ["rgb(230, 232, 235)"] * 2]]


@pytest.mark.parametrize("name", ["light", "dark"])
def test_every_text_can_be_read(browser, name: str) -> None:
    """WCAG 2 AA."""
    scheme(browser, name)
    assert browser.execute_script(CONTRAST) == []


def test_the_keyboard_comes_to_the_skip_link_first(browser) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    browser.switch_to.active_element.send_keys(Keys.TAB)
    focused = browser.switch_to.active_element
    assert focused.text == "Skip to the content"
    assert focused.location["y"] >= 0, "it can be seen"
    focused.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "main"


def test_a_printer_gets_everything(browser) -> None:
    script = "return document.querySelectorAll('details:not([open])').length"
    closed = browser.execute_script(script)
    assert closed > 0
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(script) == 0
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(script) == closed


def test_a_real_check(browser, exported, few_digits, tmp_path: Path) -> None:
    """The last one: the browser shows another page from here on."""
    from zoo.exporter.checks.measure_latency import LatencyOptions
    from zoo.exporter.checks.run import check
    from zoo.exporter.report.result import as_result, pictures_of

    folders = [exported["onnx"], tmp_path / "trt-fp16"]
    rows = check(folders, few_digits, latency=LatencyOptions(rounds=1, threads=1))
    result = json.loads(json.dumps(as_result(rows, few_digits, 60, "zoo check", 6)))
    path = tmp_path / "real.html"
    path.write_text(render_page(result, pictures_of(rows, few_digits)), encoding="utf-8")
    browser.get_log("browser")
    browser.get(path.as_uri())
    wait(browser)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return JSON.parse(document.getElementById('result').textContent)") == result
    shown = browser.execute_script("return [...document.querySelectorAll('data')].map((one) => Number(one.value))")
    gates = {gate["name"]: gate for gate in result["artifacts"][0]["gates"]}
    for name, key in (("accuracy", "top1"), ("numerics", "relative"), ("latency", "ratio"), ("latency", "p50_ms")):
        assert gates[name][key] in shown
    assert browser.execute_script("return document.querySelectorAll('.plot svg.main-svg').length") > 0
