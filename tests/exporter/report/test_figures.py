"""Figures show the numbers of the result and nothing else; the Pareto front is one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo.exporter.report.figure import DOUBT, FAIL, PASS, PLAIN, PRECISIONS, REFERENCE, Figure
from zoo.exporter.report.figures import (
    distributions,
    interval_of_time,
    interval_of_top1,
    margins,
    most_changed,
    pareto_front,
    precisions,
    recalls,
    tradeoff,
)
from zoo.exporter.report.rows import read_rows

FEW = st.integers(0, 6).map(float)  # few values, so that many are equal
POINTS = st.lists(st.tuples(FEW, FEW), max_size=20)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points)
    unbeaten = [index for index, point in enumerate(points) if not any(beats(other, point) for other in points)]
    assert sorted(front) == unbeaten
    assert [points[index][0] for index in front] == sorted(points[index][0] for index in front)


def test_tradeoff_shows_the_numbers_and_the_front(sample) -> None:
    figure = drawn(tradeoff(read_rows(sample)))
    front, *points = figure.plot["data"]
    latencies = [row["gates"][3]["p50_ms"] for row in sample["artifacts"][:3]]
    assert [(point["x"][0], point["y"][0]) for point in points] == list(zip(latencies, (0.9264, 0.9264, 0.926)))
    assert front["x"] == [latencies[2], latencies[1]]
    assert "none is both faster and more accurate than onnx-int8 or onnx-fp32" in figure.words


def test_intervals_come_from_the_drop_and_the_ratio() -> None:
    low, high = interval_of_top1({"reference": 0.9, "drop_low": -0.01, "drop_high": 0.02})
    assert (low, high) == (pytest.approx(0.88), pytest.approx(0.91))
    measured = {"p50_ms": 10.0, "ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.75}
    assert interval_of_time(measured) == (pytest.approx(8), pytest.approx(15))
    assert interval_of_time(measured | {"ratio_low": None}) == (None, None)
    assert interval_of_time(measured | {"ratio": 0.0}) == (None, None)


def test_distributions_hold_every_run(sample) -> None:
    figure = drawn(distributions(read_rows(sample)))
    shown = [trace["x"] for trace in figure.plot["data"]]
    assert shown == [row["gates"][3]["times_ms"] for row in sample["artifacts"][:3]]
    assert "type" not in figure.plot["layout"]["xaxis"]
    sample["artifacts"][0]["gates"][3]["times_ms"] = [100.0, 101.0]
    assert drawn(distributions(read_rows(sample))).plot["layout"]["xaxis"]["type"] == "log"


def test_bars_of_precisions_fill_the_whole(sample) -> None:
    figure = drawn(precisions(read_rows(sample)))
    assert [sum(bar) for bar in zip(*(trace["x"] for trace in figure.plot["data"]))] == [pytest.approx(1)] * 3


def test_recalls_are_sorted_and_at_most_twenty() -> None:
    classes = [
        {"label": f"class {index}", "images": 50, "reference": 0.5, "artifact": 0.5 + (index - 500) / 2000}
        for index in range(1000)
    ]
    gate = {"name": "accuracy", "verdict": "pass", "classes": classes}
    shown = most_changed(gate)
    change = [one["artifact"] - one["reference"] for one in shown]
    assert len(shown) == 20
    assert change == sorted(change)
    assert min(abs(value) for value in change) == pytest.approx(490 / 2000), "these changed most"
    (row,) = read_rows({"artifacts": [{"gates": [gate]}]})
    assert len(drawn(recalls(row)).plot["data"][0]["x"]) == 20


def test_margins_are_shown_where_they_differ(sample) -> None:
    rows = read_rows(sample)
    assert margins(rows[0]) is None
    found = sample["artifacts"][2]["gates"][2]["margins"]
    assert [trace["y"] for trace in drawn(margins(rows[2])).plot["data"]] == [found["reference"], found["artifact"]]


def test_labels_are_shown_as_they_are(sample) -> None:
    sample["artifacts"][2]["gates"][2]["classes"][0]["label"] = '<a href="x">&amp;</a>'
    shown = json.dumps(drawn(recalls(read_rows(sample)[2])).plot)
    assert "<a" not in shown
    assert "&lt;a" in shown


def luminance(colour: str) -> float:
    """Of WCAG 2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("colour", sorted({PASS, FAIL, DOUBT, PLAIN, REFERENCE, *PRECISIONS.values()}))
def test_colours_stand_out_in_both_schemes(colour: str) -> None:
    assert 1.05 / (luminance(colour) + 0.05) >= 3
    assert (luminance(colour) + 0.05) / (luminance("#1c2026") + 0.05) >= 3
