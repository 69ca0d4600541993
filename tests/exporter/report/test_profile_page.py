"""The page of a profile holds what was measured and what was not, whatever devices are called."""

from __future__ import annotations

import math
import random
from html import unescape
from typing import Any

import pytest
from page_help import check_outline, embedded, light, nasty, without_numbers
from zoo.exporter.report.device_figures import medians, operators
from zoo.exporter.report.devices import least, read_devices, standing, throttled
from zoo.exporter.report.profile_page import render_profile


def test_a_page_of_everything(profiled) -> None:
    page = render_profile(profiled)
    outline = check_outline(page)
    assert embedded(page) == profiled
    assert page.count("plotly.js v") == 1
    assert outline.scripts.count("application/json") == 1 + 2, "the result, the medians, the operators of the pi"
    places = [page.index(f'<h2 id="{place}"') for place in
              ("problems", "latency", "medians", "operators", "told", "conditions")]  # fmt: skip
    assert places == sorted(places)
    assert profiled["command"] in page
    assert "<h1>" in page
    assert "1 of 4 devices could not be measured" in page


def section(page: str, name: str) -> str:
    """The text between a heading and the next."""
    return unescape(page[page.index(f'<h2 id="{name}"') :].partition("<h2 ")[2].partition("<h2 ")[0])


def test_what_is_told_and_what_is_not(profiled) -> None:
    page = render_profile(profiled)
    told = section(page, "told")
    rows = {row.partition("<")[0]: row for row in told.split('<th scope="row">')[1:]}
    assert list(rows) == ["orin", "pi", "local"], "one that was not measured told nothing"
    assert "VDD_IN" in rows["orin"]
    assert "(the whole)" in rows["orin"].partition("VDD_CPU_GPU_CV")[0], "and only that one"
    assert "(the whole)" not in rows["orin"].partition("VDD_CPU_GPU_CV")[2]
    assert "GPU <data" in rows["orin"]
    assert "<td>not available</td><td>throttling</td></tr>" in rows["orin"]
    assert "clock capped; throttled" in rows["pi"]
    assert '<span class="none">not available</span>' in rows["pi"], "no power"
    assert "<td>none seen</td><td>–</td>" in rows["local"]
    latency = section(page, "latency")
    assert latency.count("not available") == 2, "the energy of the pi"
    assert latency.count("too few") == 4, "runs for a p99"
    assert "built there in" in page
    assert "no CUDA graph could be captured" in page


def test_a_device_that_failed_is_in_the_table_with_its_error(profiled) -> None:
    page = render_profile(profiled)
    assert page.count("cellar: No route to host") == 3, "above, in the table, in the JSON"
    assert "Next: see that it is on" in page
    only = {**profiled, "devices": profiled["devices"][3:]}
    page = render_profile(only)
    check_outline(page)
    assert "1 of 1 device could not be measured" in page
    assert "plotly.js v" not in page, "no figure, no plotly"


def test_nothing_that_was_given_becomes_markup(profiled) -> None:
    given = nasty(profiled)
    page = render_profile(given)
    check_outline(page)
    assert embedded(page) == given
    assert "<script>alert" not in page
    assert "49 \U0001f600" not in page, "no template in a template"
    assert light(page).count("&lt;script&gt;alert(1)") > 8
    figures = [medians(read_devices(given)), *(operators(one) for one in read_devices(given))]
    for figure in filter(None, figures):
        assert "<script" not in str(figure.plot), "plotly reads tags in labels"


def test_every_number_may_be_null(profiled) -> None:
    given = without_numbers(profiled)
    page = render_profile(given)
    check_outline(page)
    assert embedded(page) == given


@pytest.mark.parametrize("seed", range(8))
def test_any_number_may_be_null(profiled, seed: int) -> None:
    drawn = random.Random(seed)
    check_outline(render_profile(without_numbers(profiled, lambda: drawn.random() < 0.3)))


@pytest.mark.parametrize(
    "result",
    [
        {}, {"devices": []}, {"devices": [{}]}, {"devices": None, "versions": None, "options": None},
        {"devices": [{"device": "x", "rows": [{}]}]}, {"devices": [{"device": "x", "error": {}}]},
        {"devices": [{"rows": [{"batch": 1, "percentiles": {"p50": 0.0}, "interval": [0.0, 0.0]}]}]},
    ],
)  # fmt: skip
def test_little_or_nothing(result: dict[str, Any]) -> None:
    page = render_profile(result)
    check_outline(page)
    assert embedded(page) == result


def test_the_medians_are_drawn_with_their_intervals(profiled) -> None:
    figure = medians(read_devices(profiled))
    assert figure is not None
    one, eight = figure.plot["data"]
    assert (one["name"], list(one["x"])) == ("batch 1", [0.92, 21.4, 2.1])
    assert list(eight["error_x"]["array"]) == pytest.approx([0.03 * 3.1, 0.03 * 160.2, 0.03 * 14.9])
    assert list(eight["error_x"]["arrayminus"]) == pytest.approx([0.02 * 3.1, 0.02 * 160.2, 0.02 * 14.9])
    axis = figure.plot["layout"]["xaxis"]
    assert axis["type"] == "log", "0.92 and 160 ms"
    assert axis["range"][0] < math.log10(0.98 * 0.92)
    assert axis["range"][1] > math.log10(1.03 * 160.2)
    assert list(axis["ticktext"]) == ["1", "2", "5", "10", "20", "50", "100", "200"], "no 2 that stands for 20"
    assert figure.words.startswith("At batch 1, orin has the smallest median, 0.92 ms. At batch 8, orin")
    near = {**profiled, "devices": profiled["devices"][2:3]}
    figure = medians(read_devices(near))
    assert figure is not None
    low, high = figure.plot["layout"]["xaxis"]["range"]
    assert low == 0
    assert high > 1.03 * 14.9, "the largest interval ends on the page, not beyond it"
    assert "smallest" not in figure.words, "of one device"


def test_one_median_needs_no_figure(profiled) -> None:
    device = profiled["devices"][2]
    alone = {**profiled, "devices": [{**device, "rows": device["rows"][:1]}]}
    assert medians(read_devices(alone)) is None
    page = render_profile(alone)
    assert '<h2 id="medians"' not in page
    assert "<h1>" in page


def test_boxes_are_as_wide_as_their_time(profiled) -> None:
    device = read_devices(profiled)[1]
    figure = operators(device)
    assert figure is not None
    (boxes,) = figure.plot["data"]
    total = sum(one["microseconds"] for one in profiled["devices"][1]["operators"])
    assert sum(boxes["values"]) == pytest.approx(total)
    assert list(boxes["parents"]).count("all") == 7
    assert len(set(boxes["ids"])) == 1 + 7 + len(profiled["devices"][1]["operators"])
    assert boxes["labels"][1] == "Conv 94%"
    assert "Conv takes 94% of 16.01 ms in operators" in figure.words
    assert operators(read_devices(profiled)[0]) is None


def test_a_verdict_of_devices(profiled) -> None:
    devices = read_devices(profiled)
    assert standing(devices)[0] == "inconclusive"
    words = "3 devices measured: from 0.92 ms on orin to 21.40 ms on pi for one image"
    assert standing(devices[:3]) == ("pass", words, "")
    assert standing(devices)[1:] == ("1 of 4 devices could not be measured", words)
    verdict, sentence, rest = standing(devices[2:3])
    assert (verdict, sentence) == ("pass", "onnx-int8 takes 2.10 ms for one image on this machine")
    assert rest == "median of 1,428 runs, 95 % interval 2.06 to 2.16 ms, 8 images at once: 14.90 ms"
    assert standing(read_devices({"devices": [{"rows": [{"percentiles": {"p50": 0.4}}]}]}))[1:] == (
        "The model takes 0.4 ms for one run on device 1", "")  # fmt: skip
    profiled["devices"][3]["error"]["kind"] = "integrity"
    assert standing(read_devices(profiled))[0] == "fail"
    assert least(devices, 4) is None


def test_throttling_is_never_denied_where_it_is_not_told() -> None:
    assert throttled({}) == "not available"
    assert throttled({"silent": ["throttling"]}) == "not available"
    assert throttled({"silent": []}) == "none seen"
    assert throttled({"silent": ["throttling"], "throttled": ["x"]}) == "x"
