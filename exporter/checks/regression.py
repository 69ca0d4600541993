"""Gate `regression`: against an earlier result of `zoo check --json`, did something get worse?

The earlier machine may have been another: of latency only the ratio to the reference is compared, measured in one run
on each side, not the milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from ...config import read_json
from ...errors import UsageError
from .accuracy import MAX_DROP
from .gate import Gate, hardest
from .latency import MARGIN

WORSE = {"pass": 0, "skipped": 0, "inconclusive": 1, "fail": 2}


def read_baseline(path: Path) -> Mapping[str, Any]:
    """An earlier result, whole.

    Raises:
        UsageError: no such file, or it is not what `zoo check --json` prints.
    """
    data = read_json(path)
    rows = data.get("artifacts") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _gates_of(row) is not None for row in rows):
        raise UsageError(f"{path} is no result of a check", fix="keep one with zoo check … --json > baseline.json")
    if not rows:
        raise UsageError(f"{path} holds no artifact", fix="keep one with zoo check … --json > baseline.json")
    return data


def judge_regression(
    row: Mapping[str, Any], baseline: Sequence[Mapping[str, Any]], *, same_data: bool, max_drop: float | None = None
) -> Gate:
    """Compare one artifact's row, as `zoo check --json` prints it, with its earlier one.

    Fails when a gate that passed fails now, when top-1 on the same images fell by more than the limit of the gate
    accuracy, or when the ratio to the same reference grew beyond the margin. Inconclusive where the intervals of the
    two ratios leave that open, or a gate that passed cannot tell now.

    Args:
        row: of now.
        baseline: rows of then.
        same_data: whether both were on the same data and number of images.
        max_drop: of top-1, where a budget has another than the precision's.
    """
    before = earlier(row, baseline)
    if isinstance(before, str):
        return Gate("regression", "skipped", before)
    was, now = _gates_of(before) or {}, _gates_of(row) or {}
    if not was:
        return Gate("regression", "skipped", "nothing was judged of this artifact in the baseline")
    looks = [Gate("regression", "pass", f"no gate is worse than in the baseline of {before.get('artifact')}")]
    looks += [_verdicts(name, was[name], now[name]) for name in now if name in was]
    if same_data and "accuracy" in was and "accuracy" in now:
        limit = MAX_DROP[str(row["precision"])][0] if max_drop is None else max_drop
        looks.append(_top1(was["accuracy"], now["accuracy"], limit))
    if "latency" in was and "latency" in now:
        looks.append(_ratio(was["latency"], now["latency"]))
    numbers = {"baseline": before.get("artifact")}
    for gate in looks:
        numbers |= gate.numbers
    decided = hardest(looks)
    told = [gate.reason for gate in looks[1:] if gate.verdict == decided.verdict and gate.numbers]
    reason = decided.reason if decided.verdict != "pass" or not told else "; ".join(told)
    left = uncompared(was, now, same_data)
    if left:
        reason = f"{reason}; not compared: {', '.join(left)}"
    return Gate("regression", decided.verdict, reason, numbers)


def uncompared(
    was: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]], same_data: bool
) -> list[str]:
    """What the baseline measured and this check did not, or on other images."""

    def measured(gates: Mapping[str, Mapping[str, Any]], name: str) -> bool:
        return gates.get(name, {}).get("verdict", "skipped") != "skipped"

    missing = [f"{name}, which was measured then" for name in was if measured(was, name) and not measured(now, name)]
    if not same_data and measured(was, "accuracy") and measured(now, "accuracy"):
        counts = [gates["accuracy"].get("images") for gates in (was, now)]
        missing.append(f"top-1, on {counts[0]} images then and on {counts[1]} or others now")
    return [name for name in missing if not name.startswith("regression")]


def earlier(row: Mapping[str, Any], baseline: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | str:
    """The row of the same backend, precision and folder, else the only one of the same model; or why there is none."""
    kind = [one for one in baseline if all(one.get(key) == row.get(key) for key in ("backend", "precision"))]
    same = [one for one in kind if one.get("artifact") == row["artifact"]]
    same = same or [one for one in kind if one.get("model") == row.get("model")]
    if len(same) > 1:
        return f"the baseline holds {len(same)} of this artifact"
    return same[0] if same else "the baseline does not hold this artifact"


def _gates_of(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]] | None:
    gates = row.get("gates")
    if not isinstance(gates, list) or not all(
        isinstance(gate, dict) and isinstance(gate.get("name"), str) and gate.get("verdict") in list(WORSE)
        for gate in gates
    ):
        return None
    return {str(gate["name"]): gate for gate in gates}


def _verdicts(name: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Gate:
    before, after = str(was.get("verdict")), str(now.get("verdict"))
    if before == "pass" and WORSE.get(after, 0) > 0:
        verdict = "fail" if after == "fail" else "inconclusive"
        return Gate("regression", verdict, f"{name} passed in the baseline, now it says {after}")
    return Gate("regression", "pass", f"{name}: {after}, was {before}")


def _top1(was: Mapping[str, Any], now: Mapping[str, Any], limit: float) -> Gate:
    before, after = was.get("top1"), now.get("top1")
    if not _share(before) or not _share(after):
        return Gate("regression", "pass", "top-1 was not measured on both sides")
    numbers = {"baseline_top1": before}
    told = f"top-1 {after:.2%}, in the baseline {before:.2%}"
    if before - after > limit:
        return Gate("regression", "fail", f"{told}: {100 * (before - after):.2f} points less", numbers)
    return Gate("regression", "pass", told, numbers)


def _share(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and 0 <= value <= 1


def _ratio_like(value: Any) -> bool:
    """Whether two such numbers can be divided without leaving what a number can be."""
    return isinstance(value, int | float) and 1e-6 < value < 1e6


def _ratio(was: Mapping[str, Any], now: Mapping[str, Any]) -> Gate:
    keys = ("ratio", "ratio_low", "ratio_high")
    known = all(_ratio_like(one.get(key)) for one in (was, now) for key in keys)
    if not known or was.get("against") != now.get("against"):
        return Gate("regression", "pass", "latency was not measured against the same on both sides")
    margin = now.get("margin", MARGIN)
    logs = [(math.log(one["ratio"]), math.log(one["ratio_high"] / one["ratio"])) for one in (was, now)]
    change, half = logs[1][0] - logs[0][0], math.hypot(logs[0][1], logs[1][1])
    low, high = math.exp(change - half), math.exp(change + half)
    numbers = {"baseline_ratio": was["ratio"], "change": math.exp(change), "change_low": low, "change_high": high}
    told = f"{math.exp(change):.3f} ({low:.3f} to {high:.3f}) of the baseline's time, both against {now['against']}"
    if low > 1 + margin:
        return Gate("regression", "fail", f"slower than in the baseline: {told}", numbers)
    if high > 1 + margin:
        return Gate(
            "regression", "inconclusive", f"cannot tell whether it is slower than in the baseline: {told}", numbers
        )
    return Gate("regression", "pass", told, numbers)
