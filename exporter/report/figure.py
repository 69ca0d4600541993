"""What the figures of the page have in common: plotly's figure with a sentence that says what it shows, axes, colours.

Colours of things stand out from a white and from a dark page alike (3:1); those of text and grids are left to the page,
which follows the reader's scheme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

PASS, FAIL, DOUBT, PLAIN, REFERENCE = "#248f57", "#d6453b", "#b07512", "#3d7fd9", "#7c8590"
PRECISIONS = {"int8": "#cf6f1d", "fp16": "#1f8f80", "bf16": "#9166d6", "fp32": PLAIN}
LONGEST = 26  # letters of a label on an axis


@dataclass(frozen=True)
class Figure:
    """A plotly figure as the page embeds it.

    Attributes:
        id: of its place.
        title: in few words.
        words: what it shows, in a sentence.
        plot: plotly's `data` and `layout`.
    """

    id: str
    title: str
    words: str
    plot: Mapping[str, Any]


def plain(text: str) -> str:
    """A label that plotly shows as it is: it reads tags and entities in text."""
    return escape(str(text), quote=False)


def short(text: str, letters: int = LONGEST) -> str:
    """What fits, on an axis or into a box; both ends, for names of one family begin alike."""
    if len(text) <= letters:
        return text
    return f"{text[: letters // 2]}…{text[len(text) - (letters - letters // 2 - 1) :]}"


def names_axis(names: Sequence[str]) -> dict[str, Any]:
    """Labels of an axis from the top on; by place, because two may be the same once shortened."""
    ticks = [plain(short(name)) for name in names]
    return {
        "tickvals": list(range(len(names))),
        "ticktext": ticks,
        "range": [len(names) - 0.5, -0.5],
        "showgrid": False,
        "zeroline": False,
        "ticklabelstandoff": 6,
    }


def cost_axis(values: Sequence[float], *, logarithmic: bool, room: float = 0.06) -> dict[str, Any]:
    """Return an axis of milliseconds or bytes that holds all values, from 0 on or logarithmic with whole numbers.

    Args:
        values: what is drawn, with the ends of all intervals; above 0 where it is logarithmic.
        logarithmic: whether equal ratios get equal room.
        room: what is left beside the values, as a share of the axis.
    """
    if not logarithmic:
        return {"range": [0, (1 + room) * max(values) or 1.0]}
    low, high = math.log10(min(values)), math.log10(max(values))
    room *= high - low
    powers = range(math.floor(low) - 1, math.ceil(high) + 1)
    ticks = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    shown = [tick for tick in ticks if low - room <= math.log10(tick) <= high + room]
    return {
        "type": "log",
        "range": [low - room, high + room],
        "tickvals": shown,
        "ticktext": [f"{tick:,.10g}" for tick in shown],
    }


def layout_of(height: int, x: str, y: str, *, legend: bool = False) -> dict[str, Any]:
    """A calm layout with the titles of both axes; nothing to drag, so that a finger scrolls the page."""
    axis = {"automargin": True, "fixedrange": True, "zeroline": False}
    return {
        "height": height,
        "dragmode": False,
        "margin": {"l": 8, "r": 16, "t": 36 if legend else 8, "b": 8},
        "xaxis": {**axis, "title": {"text": x, "standoff": 8}},
        "yaxis": {**axis, "title": {"text": y, "standoff": 8}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }


def bars(value: float, low: float | None, high: float | None, colour: str) -> dict[str, Any]:
    """The interval around a point; none where it is not known."""
    if low is None or high is None:
        return {}
    drawn = {"type": "data", "symmetric": False, "color": colour, "thickness": 1.5, "width": 5}
    return {**drawn, "array": [max(high - value, 0.0)], "arrayminus": [max(value - low, 0.0)]}


def figure_of(name: str, title: str, words: str, traces: Sequence[Any], layout: Mapping[str, Any]) -> Figure:
    """Traces and layout, checked by plotly, as the page embeds them."""
    import plotly.graph_objects as go

    made = go.Figure(list(traces), {**layout, "template": "none"}).to_plotly_json()
    made["layout"].pop("template", None)  # the page gives its own, in the reader's scheme
    return Figure(name, title, words, made)
