"""The report of `zoo profile` as one HTML file: all devices in one table, their medians, where the time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .device_figures import medians, operators
from .devices import (
    COLUMNS,
    Device,
    interval_of,
    median_of,
    p99_of,
    problems,
    read_devices,
    share_right,
    standing,
    throttled,
)
from .figure import Figure
from .skeleton import fill, require_libraries

MADE_BY = "zoo profile"


def render_profile(result: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        result: what `zoo profile --json` prints, with when and how it was made.

    Raises:
        UnavailableError: plotly or jinja2 is missing.
    """
    require_libraries()
    devices = read_devices(result)
    measured = [device for device in devices if device.rows]
    drawn = [medians(devices), *(operators(device) for device in devices)]
    figures = {figure.id: figure for figure in drawn if figure is not None}
    verdict, sentence, rest = standing(devices)
    values = {
        "result": result,
        "devices": devices,
        "measured": measured,
        "verdict": verdict,
        "sentence": sentence,
        "rest": rest,
        "problems": problems(devices),
        "columns": COLUMNS,
        "engines": [device for device in measured if any("gpu_ms" in row for row in device.rows)],
        "sections": _sections(devices, measured, figures),
    }
    functions = {
        "interval_of": interval_of,
        "median_of": median_of,
        "p99_of": p99_of,
        "share_right": share_right,
        "throttled": throttled,
    }
    return fill("profile.html", MADE_BY, figures, values, functions)


def _sections(devices: Sequence[Device], measured: Sequence[Device], figures: Mapping[str, Figure]) -> dict[str, str]:
    """The headings of the page by their place, those that have something to show."""
    parts = {
        "latency": ("Latency", bool(devices)),
        "medians": ("Devices side by side" if len(measured) > 1 else "Median latency", "medians" in figures),
        "operators": ("Where the time goes", bool(measured)),
        "told": ("Heat, clocks and power", bool(measured)),
        "conditions": ("How it was measured", True),
    }
    return {place: title for place, (title, shown) in parts.items() if shown}
