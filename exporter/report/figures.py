"""The figures of the page: accuracy against latency, distributions, precisions, recalls and margins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log10
from typing import Any

from .figure import (
    DOUBT,
    FAIL,
    PASS,
    PLAIN,
    PRECISIONS,
    REFERENCE,
    Figure,
    bars,
    cost_axis,
    figure_of,
    layout_of,
    names_axis,
    plain,
)
from .rows import Row, count, shares_of_macs

# Colour and shape of a point by its verdict: never colour alone.
POINTS = {
    "pass": (PASS, "circle", "passed"),
    "fail": (FAIL, "x", "failed"),
    "error": (FAIL, "x", "failed"),
    "inconclusive": (DOUBT, "diamond", "cannot tell"),
    "unavailable": (DOUBT, "diamond", "cannot tell"),
    "skipped": (REFERENCE, "square", "skipped"),
}
NAMED = 6  # points: of more, only those on the front have their names beside them
TOLD = 12  # artifacts that a sentence names
CLASSES = 20  # shown, the most changed first
LOG_FROM = 8.0  # times the fastest's median: from there on the fastest would be a line


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points (cost, worth) no other beats: costs no more, is worth no less, and one of the two is better.

    Indices, the cheapest first; equal points are all there.

    >>> pareto_front([(2.0, 0.9), (1.0, 0.8), (3.0, 0.85)])
    [1, 0]
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1])):
        if not front or points[index][1] > points[front[-1]][1] or points[index] == points[front[-1]]:
            front.append(index)
    return front


def tradeoff(rows: Sequence[Row]) -> Figure | None:
    """Accuracy against latency with both intervals, and the Pareto front as steps."""
    import plotly.graph_objects as go

    shown = [
        row
        for row in rows
        if row.numbers("latency").get("p50_ms") is not None and row.numbers("accuracy").get("top1") is not None
    ]
    if not shown:
        return None
    points = [(row.numbers("latency")["p50_ms"], row.numbers("accuracy")["top1"]) for row in shown]
    front = pareto_front(points)
    order = sorted(x for x, _ in points)  # labels of neighbours stand above and below in turn
    middle = sum(order) / len(order)
    steps = {"shape": "hv", "dash": "dot", "color": REFERENCE, "width": 2}
    traces: list[Any] = [
        go.Scatter(
            x=[points[index][0] for index in front],
            y=[points[index][1] for index in front],
            mode="lines",
            line=steps,
            name="Pareto front",
            hoverinfo="skip",
            showlegend=len(front) > 1,
        )
    ]
    told: set[str] = set()
    for index, (row, (x, y)) in enumerate(zip(shown, points, strict=True)):
        colour, symbol, word = POINTS.get(row.verdict, POINTS["fail"])
        traces.append(
            go.Scatter(
                x=[x],
                y=[y],
                error_x=bars(x, *interval_of_time(row.numbers("latency")), colour),
                error_y=bars(y, *interval_of_top1(row.numbers("accuracy")), colour),
                mode="markers+text" if index in front or len(shown) <= NAMED else "markers",
                text=[plain(row.label)],
                textposition=f"{'top' if order.index(x) % 2 else 'bottom'} {'right' if x <= middle else 'left'}",
                marker={"color": colour, "symbol": symbol, "size": 12},
                name=word,
                legendgroup=word,
                showlegend=word not in told,
                hovertemplate="%{text}<br>top-1 %{y:.2%}<br>p50 %{x:.3f} ms<extra></extra>",
            )
        )
        told.add(word)
    names = " or ".join(shown[index].label for index in front)
    words = f"Of {count(len(shown), 'artifact')}, none is both faster and more accurate than {names}."
    layout = layout_of(400, "p50 of one run (ms)", "top-1", legend=True)
    layout["xaxis"] |= {"rangemode": "tozero"}
    layout["yaxis"] |= {"tickformat": ".2%"}
    return figure_of("tradeoff", "Accuracy against latency", words, traces, layout)


def interval_of_time(latency: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Milliseconds around p50 that the ratio's interval stands for.

    In proportion: the ratio compares processes, p50 is of all runs, so the ratio times the reference's p50 may miss it.
    """
    p50, ratio, low, high = (latency.get(key) for key in ("p50_ms", "ratio", "ratio_low", "ratio_high"))
    if p50 is None or low is None or high is None or not ratio:
        return None, None
    return p50 * low / ratio, p50 * high / ratio


def interval_of_top1(accuracy: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The top-1 that the interval of the drop stands for."""
    base, low, high = (accuracy.get(key) for key in ("reference", "drop_low", "drop_high"))
    return (None, None) if base is None or low is None or high is None else (base - high, base - low)


def distributions(rows: Sequence[Row]) -> Figure | None:
    """A box an artifact of its single runs."""
    import plotly.graph_objects as go

    runs = [[time for time in row.numbers("latency").get("times_ms") or [] if time is not None] for row in rows]
    shown = [(row, times) for row, times in zip(rows, runs, strict=True) if times]
    if not shown:
        return None
    medians = [sorted(times)[len(times) // 2] for _, times in shown]
    wide = min(min(times) for _, times in shown) > 0 and max(medians) / min(medians) > LOG_FROM
    traces = [
        go.Box(
            x=times,
            y=[index] * len(times),
            orientation="h",
            name=plain(row.label),
            boxpoints="outliers",
            marker={"color": PLAIN, "size": 4, "opacity": 0.6},
            line={"width": 2},
            hoverinfo="x",
            showlegend=False,
        )
        for index, (row, times) in enumerate(shown)
    ]
    layout = layout_of(90 + 48 * len(shown), f"one run (ms{', logarithmic' if wide else ''})", "")
    layout["xaxis"] |= cost_axis([time for _, times in shown for time in times], logarithmic=wide)
    layout["yaxis"] |= names_axis([row.label for row, _ in shown])
    fastest = shown[min(range(len(shown)), key=medians.__getitem__)][0].label
    words = (
        f"{fastest} has the smallest median. A box holds the middle half of the runs, its line is the median, "
        "whiskers reach to the last run within 1.5 times the box, points are runs beyond."
    )
    return figure_of("distributions", "Latency of single runs", words, traces, layout)


def precisions(rows: Sequence[Row]) -> Figure | None:
    """What share of the MACs ran in which precision, a bar an artifact."""
    import plotly.graph_objects as go

    shown = [(row, shares_of_macs(row.data["layers"])) for row in rows if row.data.get("layers")]
    if not shown:
        return None
    names = sorted({name for _, shares in shown for name in shares}, key=lambda name: (name.split(",")[0][2:], name))
    traces = [
        go.Bar(
            x=[shares.get(name, 0.0) for _, shares in shown],
            y=list(range(len(shown))),
            orientation="h",
            name=plain(name),
            marker={
                "color": PRECISIONS.get(name.split(",")[0], REFERENCE),
                "pattern": {"shape": "/" if "planned" in name else "", "solidity": 0.4},
            },
            hovertemplate="%{x:.2%}<extra>%{fullData.name}</extra>",
        )
        for name in names
    ]
    layout = layout_of(110 + 44 * len(shown), "share of the MACs", "", legend=True)
    layout |= {"barmode": "stack", "bargap": 0.4}
    layout["xaxis"] |= {"range": [0, 1.001], "tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]}
    layout["legend"] |= {"traceorder": "normal"}
    layout["yaxis"] |= names_axis([row.label for row, _ in shown])
    told: dict[str, list[str]] = {}
    for row, shares in shown:
        told.setdefault(", ".join(f"{value:.1%} {name}" for name, value in shares.items()), []).append(row.label)
    few = len(shown) <= TOLD
    words = "; ".join(f"{', '.join(names) if few else count(len(names), 'artifact')}: {shares}"
                      for shares, names in told.items())  # fmt: skip
    return figure_of("precisions", "Multiply-accumulates by precision", f"{words}.", traces, layout)


def most_changed(accuracy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The classes whose recall changed most, at most 20, from the largest loss to the largest gain."""
    known = [one for one in accuracy.get("classes") or [] if None not in (one.get("reference"), one.get("artifact"))]
    changed = [one for one in known if one["artifact"] != one["reference"]]
    changed.sort(key=lambda one: -abs(one["artifact"] - one["reference"]))
    return sorted(changed[:CLASSES], key=lambda one: one["artifact"] - one["reference"])


def recalls(row: Row) -> Figure | None:
    """The change of recall of the classes that changed most."""
    import plotly.graph_objects as go

    shown = most_changed(row.numbers("accuracy"))
    if not shown:
        return None
    change = [100 * (one["artifact"] - one["reference"]) for one in shown]
    boxes = go.Bar(
        x=change,
        y=list(range(len(shown))),
        orientation="h",
        marker={"color": [FAIL if value < 0 else PASS for value in change]},
        text=[f"{value:+.2f}" for value in change],
        textposition="outside",
        cliponaxis=False,
        customdata=[[plain(one["label"]), one["reference"], one["artifact"]] for one in shown],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]:.2%} to %{customdata[2]:.2%}<extra></extra>",
        showlegend=False,
    )
    layout = layout_of(80 + 26 * len(shown), "change of recall (points)", "")
    layout["yaxis"] |= names_axis([str(one["label"]) for one in shown])
    room = 0.6  # beside the bars, for their numbers
    low, high = min(*change, 0.0) * (1 + room), max(*change, 0.0) * (1 + room)
    layout["xaxis"] |= {"range": [low, high], "zeroline": True}
    worst, best = shown[0], shown[-1]
    parts = [f"{worst['label']} loses most, {-change[0]:.2f} points"] if change[0] < 0 else []
    parts += [f"{best['label']} gains most, {change[-1]:.2f} points"] if change[-1] > 0 else []
    return figure_of(f"{row.id}-recalls", "Recall by class", f"{'; '.join(parts)}.", [boxes], layout)


def margins(row: Row) -> Figure | None:
    """How sure both sides are, where they differ: the probability of the first answer minus that of the second."""
    import plotly.graph_objects as go

    found = row.numbers("accuracy").get("margins") or {}
    edges, sides = found.get("edges") or [], {"reference": REFERENCE, "artifact": PLAIN}
    if len(edges) < 2 or None in edges or any(len(found.get(side) or []) != len(edges) - 1 for side in sides):
        return None
    if found["reference"] == found["artifact"]:
        return None
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    spans = [f"{low:.2f} to {high:.2f}" for low, high in pairwise(edges)]
    traces = [
        go.Bar(
            x=middles,
            y=list(found[side]),
            name=plain(side if side == "reference" else row.label),
            marker={"color": colour},
            customdata=spans,
            hovertemplate="margin %{customdata}: %{y:,} images<extra>%{fullData.name}</extra>",
        )
        for side, colour in sides.items()
    ]
    layout = layout_of(280, "first answer minus second", "images (logarithmic)", legend=True)
    layout |= {"barmode": "group", "bargap": 0.15, "bargroupgap": 0}
    layout["xaxis"] |= {"range": [edges[0], edges[-1]]}
    most = max(value or 0 for side in sides for value in found[side])
    layout["yaxis"] |= {"type": "log", "dtick": 1, "range": [log10(0.7), log10(max(most, 1) * 1.3)]}
    close = [place for place, high in enumerate(edges[1:]) if high <= 0.1 + 1e-9]
    near = {side: sum(found[side][place] or 0 for place in close) for side in sides}
    words = (
        f"{count(near['reference'], 'image')} of the reference and {near['artifact']:,} of {row.label} "
        "are decided by less than 0.1, where a small error flips an answer."
    )
    return figure_of(f"{row.id}-margins", "Margins", words, traces, layout)
