"""Tables and picture of what benchmarks/verdicts.py kept: error rates of four rules, and faults that no gate saw."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from zoo.exporter.checks.accuracy import share_interval
from zoo.exporter.checks.faithful import JITTER, RULES, WORST, Distances

Row = dict[str, Any]
CHOSE = ("0", "1", "2")  # the seeds of random weights on which the limits were chosen, at 64 pixels


def measured(row: Row) -> Distances:
    """The distances that a row holds."""
    return Distances(*(np.asarray(row[name]) for name in ("artifact", "yardstick", "apart", "constant")))


def of_tolerance(row: Row) -> float:
    """The largest difference of a logit in the fixed tolerance of the precision."""
    return float(row["relative"] / row["tolerance"])


def of_farther(row: Row) -> float:
    """Distance to the truth in its limit."""
    rule = RULES[row["case"][-1]]
    return measured(row).farther(rule.floor) / rule.farther


def of_moved(row: Row) -> float:
    """Distance to the yardstick in its limit, which is wider where two right computations are far apart."""
    rule = RULES[row["case"][-1]]
    return measured(row).moved(rule.floor) / max(rule.apart, JITTER * row.get("jitter", 0.0))


def of_worst(row: Row) -> float:
    """The same distance of the image that moved most, in the limit of a single image."""
    rule = RULES[row["case"][-1]]
    return measured(row).worst(rule.floor) / (WORST * max(rule.apart, JITTER * row.get("jitter", 0.0)))


def of_all(row: Row) -> float:
    """The largest of the three."""
    return max(of_farther(row), of_moved(row), of_worst(row))


# how much of its limit a case takes, by each rule: above 1 it is refused
RULE_VALUES: dict[str, Callable[[Row], float]] = {
    "one fixed tolerance a precision": of_tolerance,
    "distance to the truth": of_farther,
    "distance to the yardstick": of_moved,
    "both distances, and each image's (chosen)": of_all,
}


def show(folder: Path, picture: Path | None = None) -> str:
    """Markdown of everything in a folder, and the picture of the rules' error rates where a place for it is given."""
    right, planted = read(folder / "right.jsonl"), read(folder / "planted.jsonl")
    measured = [row for row in right if "artifact" in row]
    faults: list[Row] = [{**row, "seen_by": _seen_by(row)} for row in planted]
    judged = [row for row in faults if "artifact" in row and row["seen_by"] in ("", "numerics")]
    lines = ["| rule | cases | right exports refused | planted faults missed |", "|---|---|---|---|"]
    before = {"tolerance and flips, as before": lambda row: 2.0 if row["fixed"] == "fail" else 0.0}
    for name, value in (before | RULE_VALUES).items():
        for which, chose in (("that chose", True), ("that did not", False)):
            rights, plants = ([row for row in rows if chose_by(row) == chose] for rows in (measured, judged))
            wrong = sum(value(row) > 1 for row in rights)
            missed = sum(value(row) <= 1 for row in plants)
            lines.append(f"| {name} | {which} | {_share(wrong, len(rights))} | {_share(missed, len(plants))} |")
    lines += ["", f"{len(right)} exports: {_counts(right, 'verdict')}.", "", *_by_precision(right)]
    kinds = len({row["case"][3] for row in faults})
    lines += ["", f"{len(faults)} planted faults of {kinds} kinds, seen by: {_counts(faults, 'seen_by')}.", ""]
    lines += ["Seen by no gate, with how far rounding moves the answers (each below the limits of its precision):", ""]
    lines += ["| network | fault | in | moves the answers by | rounding moves them by |", "|---|---|---|---|---|"]
    for row in faults:
        if not row["seen_by"] and "artifact" in row:
            name, weights, _, fault, where, precision = row["case"]
            sizes = f"{np.median(row['apart']):.1e} | {np.median(row['yardstick']):.1e}"
            lines.append(f"| {name}, weights {weights} | {fault} | {where} {precision} | {sizes} |")
    if picture is not None:
        draw(measured, judged, picture)
    return "\n".join(lines) + "\n"


def _seen_by(row: Row) -> str:
    """The gate that saw a fault: numerics by the limits of today, whatever they were when the row was written."""
    if "artifact" not in row or row["seen_by"] not in ("", "numerics"):
        return str(row["seen_by"])
    return "numerics" if of_all(row) > 1 else ""


def chose_by(row: Row) -> bool:
    """Whether a case is one of those on which the limits were chosen."""
    name, weights, size = row["case"][:3]
    return weights in CHOSE and size == 64 and ":" not in name


def draw(right: list[Row], faults: list[Row], path: Path) -> None:
    """The share of faults missed over the share of right exports refused, while each rule's limits grow from 0."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    for panel, title, kept in (
        (panels[0], "fp32, fp16, bf16", ("fp32", "fp16", "bf16")),
        (panels[1], "int8", ("int8",)),
    ):
        rights = [row for row in right if row["case"][-1] in kept]
        plants = [row for row in faults if row["case"][-1] in kept]
        for name, value in RULE_VALUES.items():
            good, bad = (np.array([value(row) for row in rows]) for rows in (rights, plants))
            limits = np.unique(np.concatenate([good, bad, [0.0]]))
            refused = [(good > limit).mean() * 100 for limit in limits]
            missed = [(bad <= limit).mean() * 100 for limit in limits]
            (line,) = panel.plot(refused, missed, label=name, lw=1.6)
            panel.plot([(good > 1).mean() * 100], [(bad <= 1).mean() * 100], "o", ms=8, color=line.get_color())
        panel.set(title=f"{title}: {len(rights)} right exports, {len(plants)} planted faults")
        panel.set_xscale("symlog", linthresh=1)
        panel.set(xlabel="right exports refused, %", xlim=(-0.15, 100), ylim=(-2, 100))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("planted faults missed, %")
    panels[1].legend(title="rule; the dot is its limit", loc="upper right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def read(path: Path) -> list[Row]:
    """The rows of a file, none where it is not there."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _by_precision(right: list[Row]) -> list[str]:
    """How near to its limits each precision comes in right exports."""
    lines = [
        "| backend | precision | right exports | refused | largest share of a limit | median | of a single image's |",
        "|---|---|---|---|---|---|---|",
    ]
    for backend, precision in sorted({(row["case"][3], row["case"][4]) for row in right}):
        rows = [row for row in right if row["case"][3:] == [backend, precision]]
        shares = [of_all(row) for row in rows if "artifact" in row]
        refused = sum(of_all(row) > 1 if "artifact" in row else row.get("verdict") == "refused" for row in rows)
        worst = max((of_worst(row) for row in rows if "artifact" in row), default=0.0)
        numbers = f"{max(shares):.2f} | {np.median(shares):.2f} | {worst:.2f}" if shares else "cannot run here |  | "
        lines.append(f"| {backend} | {precision} | {len(rows)} | {refused} | {numbers} |")
    return lines


def _share(count: int, total: int) -> str:
    if not total:
        return "none measured"
    return f"{count} of {total} (95 % bound {share_interval(count, total).high:.1%})"


def _counts(rows: list[Row], key: str) -> str:
    found = Counter(str(row.get(key) or "nothing") for row in rows)
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
