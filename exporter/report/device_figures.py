"""The figures of a profile's page: the medians of all devices, and where the time of one goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .devices import Device, interval_of, least, median_of
from .figure import (
    DOUBT,
    PLAIN,
    PRECISIONS,
    REFERENCE,
    Figure,
    cost_axis,
    figure_of,
    layout_of,
    names_axis,
    plain,
    short,
)
from .figures import LOG_FROM

# A size of batch each: colour and shape, never colour alone.
BATCHES = (
    (PLAIN, "circle"), (PRECISIONS["int8"], "diamond"), (PRECISIONS["fp16"], "square"),
    (PRECISIONS["bf16"], "triangle-up"), (DOUBT, "cross"), (REFERENCE, "star"),
)  # fmt: skip
# Of boxes that hold white text (4.5:1) on a white or a dark page (3:1).
BOXES = ("#2f6bbf", "#a8530f", "#17766a", "#7a4fc0", "#8a5a08", "#1c7a48", "#b3362d")
WHOLE, OTHERS = "#5d656f", "#6c7580"
APART = 0.16  # of a device's line, between its sizes of batch


def medians(devices: Sequence[Device]) -> Figure | None:
    """The median of each device and size of batch, with the interval that holds it; None where there is one only."""
    import plotly.graph_objects as go

    shown = [device for device in devices if any(median_of(row) is not None for row in device.rows)]
    if not shown:
        return None
    batches = sorted({row["batch"] for device in shown for row in device.rows if row.get("batch") is not None})
    traces: list[Any] = []
    all_of: list[float] = []
    ends: list[float] = []
    for index, batch in enumerate(batches):
        colour, symbol = BATCHES[index % len(BATCHES)]
        points = [(place, row, median) for place, device in enumerate(shown) for row in device.rows
                  if row.get("batch") == batch and (median := median_of(row)) is not None]  # fmt: skip
        spans = [interval_of(row) or (median, median) for _, row, median in points]
        values = [median for *_, median in points]
        names = [plain(shown[place].label) for place, *_ in points]
        all_of += values
        ends += [*values, *(end for span in spans for end in span)]
        traces.append(
            go.Scatter(
                x=values,
                y=[place + APART * (index - (len(batches) - 1) / 2) for place, *_ in points],
                error_x={
                    "type": "data", "symmetric": False, "color": colour, "thickness": 2, "width": 6,
                    "array": [max(high - value, 0.0) for value, (_, high) in zip(values, spans, strict=True)],
                    "arrayminus": [max(value - low, 0.0) for value, (low, _) in zip(values, spans, strict=True)],
                },
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 9},
                name=f"batch {batch}",
                customdata=[[name, *span] for name, span in zip(names, spans, strict=True)],
                hovertemplate="%{customdata[0]}<br>p50 %{x:.3f} ms, %{customdata[1]:.3f} to %{customdata[2]:.3f}",
            )
        )  # fmt: skip
    if len(all_of) == 1:
        return None  # the page's first line says it
    wide = min(ends) > 0 and max(all_of) / min(all_of) > LOG_FROM
    title = f"p50 of one run (ms{', logarithmic' if wide else ''})"
    layout = layout_of(100 + max(56, 20 * len(batches)) * len(shown), title, "", legend=True)
    layout["xaxis"] |= cost_axis(ends, logarithmic=wide)
    layout["yaxis"] |= names_axis([device.label for device in shown])
    smallest = [(batch, found) for batch in batches if (found := least(shown, batch)) is not None]
    words = "".join(f"At batch {batch}, {found[0].label} has the smallest median, {found[1]:.2f} ms. "
                    for batch, found in smallest)  # fmt: skip
    words += "A bar is the interval that holds the median with 95 % certainty; it may be narrower than its mark."
    return figure_of("medians", "Median latency", words, traces, layout)


def operators(device: Device) -> Figure | None:
    """All of a run, then its operators, then their nodes, each as wide as its share."""
    import plotly.graph_objects as go

    total = sum(kind.microseconds for kind in device.kinds)
    if total <= 0:
        return None
    ids, names, above, own, colours = ["all"], ["all operators"], [""], [0.0], [WHOLE]
    for index, kind in enumerate(device.kinds):
        colour = BOXES[index] if index < len(BOXES) else OTHERS
        ids.append(f"k{index}")
        names.append(f"{plain(short(kind.name))} {kind.microseconds / total:.0%}")
        above.append("all")
        own.append(0.0)
        colours.append(colour)
        for place, (name, time) in enumerate(kind.nodes):
            ids.append(f"k{index}-{place}")
            names.append(plain(name))
            above.append(f"k{index}")
            own.append(time)
            colours.append(colour)
    boxes = go.Icicle(
        ids=ids,
        labels=names,
        parents=above,
        values=own,
        branchvalues="remainder",
        marker={"colors": colours, "line": {"color": "rgba(255,255,255,0.55)", "width": 0.6}},
        tiling={"orientation": "v", "pad": 0},
        leaf={"opacity": 1},
        pathbar={"visible": False},
        textfont={"color": "#ffffff", "size": 12},
        textposition="middle center",
        hovertemplate="%{label}<br>%{value:.0f} µs, %{percentRoot:.1%} of all<extra></extra>",
    )
    layout = layout_of(250, "", "")
    layout |= {"margin": {"l": 8, "r": 8, "t": 8, "b": 8}, "uniformtext": {"minsize": 11, "mode": "hide"}}
    first = device.kinds[0]
    words = (
        f"{first.name} takes {first.microseconds / total:.0%} of {total / 1e3:.2f} ms in operators, batch 1, on "
        f"{device.label}. Below all of them stand the operators, below each its nodes, as wide as their time."
    )
    return figure_of(f"{device.id}-operators", f"Operators on {device.label}", words, [boxes], layout)
