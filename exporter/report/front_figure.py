"""The figure of a pipeline's variants: accuracy against latency or size, the front drawn, the others shown too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .device_figures import BOXES
from .figure import FAIL, PASS, PLAIN, REFERENCE, Figure, bars, cost_axis, figure_of, layout_of, plain
from .figures import LOG_FROM
from .rows import count

NAMED = 8  # points: of more, those on the front have their names beside them, the others the number of their line
# Colour, shape and name of a point: on the front, beaten, or one that cannot be taken.
SORTS = ((PASS, "circle", "on the front"), (PLAIN, "circle-open", "beaten by another"), (FAIL, "x", "did not pass"))
# Where there are many: colours and shapes that hold a white number (4.5:1).
NUMBERED = (SORTS[0], (BOXES[0], "circle", SORTS[1][2]), (BOXES[6], "square", SORTS[2][2]))
WHOLE_TENTHS = 0.01  # of shares, from which on a tenth of a percent tells ticks apart
INSIDE = {"size": 9, "color": "#ffffff"}


def read_front(front: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The points that have both numbers, the cheapest first."""
    points = [one for one in front.get("points") or [] if _known(one.get("cost")) and _known(one.get("top1"))]
    return sorted(points, key=lambda one: one["cost"])


def front_figure(index: int, front: Mapping[str, Any]) -> Figure | None:
    """One front, with the intervals that are known."""
    import plotly.graph_objects as go

    points = read_front(front)
    if not points:
        return None
    bytes_ = front.get("by") == "bytes"
    scale, unit = (1e6, "MB") if bytes_ else (1.0, "ms")
    costs = [one["cost"] / scale for one in points]
    best = [place for place, one in enumerate(points) if one.get("front")]
    traces: list[Any] = [
        go.Scatter(
            x=[costs[place] for place in best], y=[points[place]["top1"] for place in best], mode="lines",
            line={"shape": "hv", "dash": "dot", "color": REFERENCE, "width": 2}, name="Pareto front", hoverinfo="skip",
            showlegend=len(best) > 1,
        )
    ]  # fmt: skip
    told: set[str] = set()
    wide = min(costs) > 0 and max(costs) / min(costs) > LOG_FROM
    middle = (min(costs) * max(costs)) ** 0.5 if wide else max(costs) / 2  # of the axis
    for place, (one, cost) in enumerate(zip(points, costs, strict=True)):
        name = plain(one.get("artifact") or "")
        named = place in best or len(points) <= NAMED
        text = name.replace("/", "<br>", 1) if named else str(place + 1)  # a line for the variant, one for its form
        sorts = SORTS if len(points) <= NAMED else NUMBERED
        colour, symbol, word = sorts[0 if place in best else 2 if one.get("out") else 1]
        up = (place if len(points) <= NAMED or place not in best else best.index(place)) % 2 == 0
        beside = f"{'top' if up else 'bottom'} {'right' if cost <= middle else 'left'}"
        low, high = (_scaled(one.get(key), scale) for key in ("low", "high"))
        lowest, highest = (_scaled(one.get(key), 1.0) for key in ("top1_low", "top1_high"))
        traces.append(
            go.Scatter(
                x=[cost], y=[one["top1"]], error_x=bars(cost, low, high, colour),
                error_y=bars(one["top1"], lowest, highest, colour),
                mode="markers+text", text=[text], customdata=[[place + 1, name]],
                textposition=beside if named else "middle center", textfont={} if named else INSIDE,
                marker={"color": colour, "symbol": symbol, "size": 11 if named else 15},
                name=word, legendgroup=word, showlegend=word not in told,
                hovertemplate=f"%{{customdata[0]}}. %{{customdata[1]}}<br>top-1 %{{y:.2%}}<br>%{{x:.3f}} {unit}"
                "<extra></extra>",
            )
        )  # fmt: skip
        told.add(word)
    about = f"size of the model's file ({unit}" if bytes_ else f"p50 of one run ({unit}"
    layout = layout_of(460, f"{about}{', logarithmic' if wide else ''})", "top-1", legend=True)
    layout["xaxis"] |= cost_axis(costs, logarithmic=True, room=0.15) if wide else {"rangemode": "tozero"}
    held = [_scaled(one.get(key), 1.0) for one in points for key in ("top1", "top1_low", "top1_high")]
    shares = [share for share in held if share is not None]
    room = max(shares) - min(shares) or 0.01  # a part of it above and below, for names
    layout["yaxis"] |= {"range": [min(shares) - 0.15 * room, max(shares) + 0.2 * room]}
    layout["yaxis"] |= {"tickformat": ".1%" if room >= WHOLE_TENTHS else ".2%", "nticks": 8}
    return figure_of(f"front{index}", _title(front), _words(points, best, bytes_), traces, layout)


def _title(front: Mapping[str, Any]) -> str:
    device = front.get("device")
    what = f"size{f', {device}' if device else ''}" if front.get("by") == "bytes" else f"latency on {device}"
    return f"Accuracy against {what}"


def _words(points: Sequence[Mapping[str, Any]], best: Sequence[int], bytes_: bool) -> str:
    names = [str(points[place].get("artifact") or "") for place in best]
    out = sum(bool(one.get("out")) for one in points)
    failed = f" {count(out, 'artifact')} did not pass, and {'is' if out == 1 else 'are'} on no front." if out else ""
    if not names:
        return f"No artifact passed, so there is no front.{failed}"
    told = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
    able = count(len(points) - out, "artifact")
    better = "smaller" if bytes_ else "faster"
    return f"Of {able} that passed, none is both {better} and more accurate than {told}.{failed}"


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _scaled(value: Any, scale: float) -> float | None:
    return value / scale if _known(value) else None
