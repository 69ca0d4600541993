"""The report of `zoo run` as one HTML file: what to take, how good and fast all variants are, where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .devices import COLUMNS, Device, interval_of, median_of, p99_of, read_devices, share_right
from .figure import Figure
from .front_figure import front_figure, read_front
from .lineage import PREFIX, traces_of
from .lineage_drawing import Drawing, draw
from .nodes import Node, lacking, named, problems, read_nodes, seconds_of, standing, steps_of
from .page import FUNCTIONS, check_values, figures_of_rows, sections_of
from .rows import Row, data_of, read_rows
from .skeleton import fill, require_libraries

MADE_BY = "zoo run"


def render_pipeline(result: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        result: what `zoo run --json` prints, with `artifacts` (the evidence of its checks, each with a `label`),
            `profiles` (what each profile.json holds, with its `node`), `picks` and `fronts`.

    Raises:
        UnavailableError: plotly or jinja2 is missing.
    """
    require_libraries()
    nodes, rows = read_nodes(result), read_rows(result)
    devices = devices_of(result)
    fronts = [(index, front) for index, front in enumerate(result.get("fronts") or []) if read_front(front)]
    figures = {name: figure for name, figure in figures_of_rows(rows).items() if name != "tradeoff"}
    drawn = {index: figure for index, front in fronts if (figure := front_figure(index, front)) is not None}
    figures |= {figure.id: figure for figure in drawn.values()}
    lineage = draw(nodes)
    verdict, sentence, rest = standing(result, nodes, rows)
    found = problems(nodes, rows, data_of(result))
    values = {
        **check_values(result, rows, {}),
        "verdict": verdict,
        "sentence": sentence,
        "rest": rest,
        "quiet": lacking(nodes),
        "problems": found,
        "picks": result.get("picks") or [],
        "fronts": [(front, read_front(front), drawn[index]) for index, front in fronts if index in drawn],
        "lineage": lineage,
        "traces": traces_of(nodes),
        "steps": steps_of(nodes),
        "devices": devices,
        "device_columns": COLUMNS,
        "prefix": PREFIX,
        "sections": sections(result, nodes, rows, devices, lineage, figures),
    }
    functions = {
        **FUNCTIONS,
        "interval_of": interval_of,
        "median_of": median_of,
        "p99_of": p99_of,
        "share_right": share_right,
        "seconds_of": seconds_of,
    }
    return fill("pipeline.html", MADE_BY, figures, values, functions)


def devices_of(result: Mapping[str, Any]) -> list[Device]:
    """The devices of all profiles, each with what was profiled; an error once, with all that it befell."""
    measured: list[dict[str, Any]] = []
    failed: dict[tuple[str, str], tuple[dict[str, Any], list[str]]] = {}
    for profile in result.get("profiles") or []:
        for device in profile.get("devices") or []:
            made = {**device, "artifact": _profiled(profile, device)}
            error = device.get("error")
            if error is None:
                measured.append(made)
            else:
                key = str(device.get("device")), str(error.get("message"))
                failed.setdefault(key, (made, []))[1].append(made["artifact"])
    measured.sort(key=lambda one: (str(one.get("device")), _first_median(one)))
    errors = [{**made, "artifact": named(artifacts)} for made, artifacts in failed.values()]
    return read_devices({"devices": [*measured, *errors]})


def _first_median(device: Mapping[str, Any]) -> float:
    medians = [median for row in device.get("rows") or [] if (median := median_of(row)) is not None]
    return medians[0] if medians else float("inf")


def _profiled(profile: Mapping[str, Any], device: Mapping[str, Any]) -> str:
    """`resnet18/onnx-int8`, as far as it is known."""
    form = profile.get("form") or device.get("artifact")
    return "/".join(str(part) for part in (profile.get("variant"), form) if part)


def sections(
    result: Mapping[str, Any],
    nodes: Sequence[Node],
    rows: Sequence[Row],
    devices: Sequence[Device],
    lineage: Drawing | None,
    figures: Mapping[str, Figure],
) -> dict[str, str]:
    """The headings of the page by their place, those that have something to show; those of checks come after ours."""
    parts = {
        "picks": ("What to take", bool(result.get("picks"))),
        "fronts": ("All variants", any(name.startswith("front") for name in figures) or bool(rows)),
        "devices": ("On devices", bool(devices)),
        "lineage": ("From data to package", lineage is not None),
        "steps": ("Steps", bool(nodes)),
    }
    ours = {place: title for place, (title, shown) in parts.items() if shown}
    checks = sections_of(rows, figures)
    return {**ours, **({"summary": "Gates"} if rows else {}), **{k: v for k, v in checks.items() if k != "summary"}}
