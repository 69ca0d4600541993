"""Tables of what benchmarks/verdicts.py kept: error rates of three rules, and the faults that none of the gates saw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from zoo.exporter.checks.accuracy import share_interval
from zoo.exporter.checks.faithful import JITTER, RULES

Row = dict[str, Any]


def farther(row: Row) -> float:
    """How many times as far from the truth as the yardstick, the median."""
    scale = np.maximum(row["yardstick"], RULES[row["case"][-1]].floor)
    return float(np.median(np.asarray(row["artifact"]) / scale))


def moved(row: Row) -> float:
    """How far from the yardstick, in its distances to the truth, the median."""
    scale = np.maximum(row["yardstick"], RULES[row["case"][-1]].floor)
    return float(np.median(np.asarray(row["apart"]) / scale))


def by_both(row: Row) -> bool:
    """Whether the chosen rule refuses."""
    rule = RULES[row["case"][-1]]
    return farther(row) > rule.farther or moved(row) > max(rule.apart, JITTER * row.get("jitter", 0.0))


REFUSES: dict[str, Callable[[Row], bool]] = {
    "fixed tolerances and flips (before)": lambda row: row["fixed"] == "fail",
    "farther from the truth than the yardstick": lambda row: farther(row) > RULES[row["case"][-1]].farther,
    "that, and away from the yardstick (chosen)": by_both,
}


def show(folder: Path) -> str:
    """Markdown of everything in a folder."""
    right, faults = read(folder / "right.jsonl"), read(folder / "planted.jsonl")
    lines = ["| rule | right exports refused | planted faults that logits show, not seen |", "|---|---|---|"]
    measured = [row for row in right if "artifact" in row]
    shown = [row for row in faults if "artifact" in row and row["seen_by"] in ("", "numerics")]
    for name, refuses in REFUSES.items():
        wrong = sum(refuses(row) for row in measured)
        missed = sum(not refuses(row) for row in shown)
        lines.append(f"| {name} | {_share(wrong, len(measured))} | {_share(missed, len(shown))} |")
    lines += ["", f"{len(right)} exports: {_counts(right, 'verdict')}.", ""]
    lines += [f"{len(faults)} planted faults, seen by: {_counts(faults, 'seen_by')}.", "", "Not seen:", ""]
    lines += ["| network | weights | fault | in | farther | moved | jitter |", "|---|---|---|---|---|---|---|"]
    for row in faults:
        if not row["seen_by"] and "artifact" in row:
            name, weights, _, fault, where, precision = row["case"]
            numbers = f"{farther(row):.2f} | {moved(row):.2f} | {row.get('jitter', 0.0):.2f}"
            lines.append(f"| {name} | {weights} | {fault} | {where} {precision} | {numbers} |")
    return "\n".join(lines) + "\n"


def read(path: Path) -> list[Row]:
    """The rows of a file, none where it is not there."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _share(count: int, total: int) -> str:
    if not total:
        return "none measured"
    return f"{count} of {total} (at most {share_interval(count, total).high:.1%}, 95 % certainty)"


def _counts(rows: list[Row], key: str) -> str:
    names = [str(row.get(key) or "nothing") for row in rows]
    return ", ".join(f"{name} {names.count(name)}" for name in sorted(set(names)))
