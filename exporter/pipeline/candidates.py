"""What checks and profiles found, as candidates on each device and as points of a front. Pure, over plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..report.figures import interval_of_time, interval_of_top1
from .pick import UNCHECKED, Candidate, beaten_by, front_of, pick

CERTAINTY = 0.95
THERE = ("cached", "done")
Plain = Mapping[str, Any]


def artifacts_of(nodes: Sequence[Plain]) -> dict[str, Plain]:
    """The nodes that make artifacts that run, by the name of the artifact: resnet18/onnx-int8."""
    return {name_of(one): one for one in nodes if one["id"].startswith("exports/")}


def name_of(node: Plain) -> str:
    """Of the artifact that a node makes, checks or profiles."""
    return f"{node['variant']}/{node['form']}"


def against(artifact: Plain, check: Plain | None, row: Plain | None) -> str:
    """What speaks against an artifact, wherever it runs; "" where it was made and passed its gates.

    Args:
        artifact: its node.
        check: the node that checks it; None where no step does.
        row: the evidence of that check.
    """
    if artifact["state"] not in THERE or artifact["exit_code"]:
        return f"not made: {artifact['reason'] or artifact['state']}"
    if check is None:
        return f"{UNCHECKED}: no step checks it"
    if row is None:
        return f"{UNCHECKED}: {check['reason'] or check['state']}"
    if row.get("error"):
        return f"could not be checked: {row['error'].get('message')}"
    gates = row.get("gates") or []
    words = {"fail": "failed {}", "inconclusive": "{} inconclusive"}
    bad = [f"{words[one['verdict']].format(one.get('name'))}: {one.get('reason')}" for one in gates
           if one.get("verdict") in words]  # fmt: skip
    if not bad and not any(one.get("verdict") == "pass" for one in gates):
        return f"{UNCHECKED}: no gate was judged"
    return "; ".join(bad)


def judged(nodes: Sequence[Plain], rows: Mapping[str, Plain]) -> dict[str, str]:
    """What speaks against each artifact.

    Args:
        nodes: all.
        rows: the evidence of checks, by the name of the artifact.
    """
    checks = {name_of(one): one for one in nodes if one["kind"] == "check"}
    return {name: against(node, checks.get(name), rows.get(name)) for name, node in artifacts_of(nodes).items()}


def gate_of(row: Plain | None, name: str) -> Plain:
    """The numbers of a gate; empty where there is none."""
    return next((one for one in (row or {}).get("gates") or [] if one.get("name") == name), {})


def device_of(latency: Plain) -> str:
    """What a latency was measured on: the GPU, or the CPU with its threads."""
    machine = latency.get("machine") or {}
    if latency.get("device") == "cuda":
        return str(machine.get("gpu") or "a GPU")
    threads = f", {machine['threads']} thread{'' if machine['threads'] == 1 else 's'}" if machine.get("threads") else ""
    return f"{machine.get('cpu') or 'a CPU'}{threads}"


def span_of(latency: Plain) -> tuple[float | None, float | None]:
    """The interval of p50, for a comparison with what was measured at another time.

    Of the medians of processes where there are enough, as the ratio's interval leaves out what both sides share.
    """
    found = interval_of_rounds(latency.get("round_medians_ms") or [])
    return found if found is not None else interval_of_time(latency)


def interval_of_rounds(medians: Sequence[float | None]) -> tuple[float, float] | None:
    """The order statistics that hold the median with at least 95 % certainty; None for fewer than 6 values.

    >>> interval_of_rounds([1, 2, 3, 4, 5, 6])
    (1, 6)
    """
    ordered = sorted(one for one in medians if one is not None)
    count, below, found = len(ordered), 0.0, None
    for place in range(count // 2):
        below += math.comb(count, place) / 2**count  # that fewer than place + 1 of them are below the median
        if 1 - 2 * below < CERTAINTY:
            break
        found = ordered[place], ordered[count - 1 - place]
    return found


def judged_on(rows: Mapping[str, Plain]) -> dict[str, str]:
    """The images that each accuracy is of, in words, where they are not all the same: then they are no one contest."""
    data = {name: row.get("data") or {} for name, row in rows.items()}
    words = {name: f", judged on {one.get('images')} images of {one.get('name')}" for name, one in data.items()}
    timed = {words[name] for name, row in rows.items() if gate_of(row, "accuracy").get("top1") is not None}
    return words if len(timed) > 1 else dict.fromkeys(rows, "")


def checked_on(rows: Mapping[str, Plain]) -> dict[str, dict[str, Candidate]]:
    """What the gate latency measured: by device, by artifact; nothing is said against any yet."""
    found: dict[str, dict[str, Candidate]] = {}
    images = judged_on(rows)
    for name, row in rows.items():
        latency = gate_of(row, "latency")
        if latency.get("p50_ms") is not None:
            low, high = span_of(latency)
            one = Candidate(name, "", latency["p50_ms"], low, high, gate_of(row, "accuracy").get("top1"))
            found.setdefault(f"{device_of(latency)}{images[name]}", {})[name] = one
    return found


def profiled_on(profiles: Sequence[tuple[Plain, Plain]], rows: Mapping[str, Plain]) -> dict[str, dict[str, Candidate]]:
    """What profiles measured: by device, by artifact; each device at the smallest batch that it ran.

    Args:
        profiles: each node with what its profile.json holds.
        rows: the evidence of checks, by the name of the artifact, for their accuracy.
    """
    seen: dict[str, list[tuple[str, Plain]]] = {}
    for node, profile in profiles:
        for device in profile.get("devices") or []:
            label = str(device.get("device") or "a device")
            form = node["form"] or device.get("artifact") or ""
            seen.setdefault("this machine" if label == "local" else label, []).append(
                (f"{node['variant']}/{form}", device)
            )
    found: dict[str, dict[str, Candidate]] = {}
    for label, measured in seen.items():
        batches = [line["batch"] for _, device in measured for line in device.get("rows") or [] if line.get("batch")]
        smallest = min(batches, default=1)
        shares = {} if any(judged_on(rows).values()) else rows  # accuracies of other images are not compared
        mine = found.setdefault(f"{label}, profiled{f' at batch {smallest}' if smallest != 1 else ''}", {})
        for name, device in measured:
            mine.setdefault(name, _profiled(name, device, smallest, shares))
    return found


def _profiled(name: str, device: Plain, batch: int, rows: Mapping[str, Plain]) -> Candidate:
    line = next((one for one in device.get("rows") or [] if one.get("batch") == batch), {})
    low, high = (line.get("interval") or (None, None))[:2]
    error = (device.get("error") or {}).get("message", "")
    p50 = (line.get("percentiles") or {}).get("p50")
    return Candidate(name, "", p50, low, high, gate_of(rows.get(name), "accuracy").get("top1"), str(error))


def candidates_on(measured: Mapping[str, Candidate], against_each: Mapping[str, str]) -> list[Candidate]:
    """Every artifact of the pipeline on one device.

    Args:
        measured: what was measured there, by name; a name that ends in / is of a package that could not be.
        against_each: what speaks against each artifact.
    """
    found: list[Candidate] = []
    for name, out in against_each.items():
        one = measured.get(name)
        if one is None:
            whole = measured.get(f"{name.partition('/')[0]}/")
            one = Candidate(name, missing=whole.missing if whole is not None else "")
        found.append(Candidate(name, out, one.cost, one.low, one.high, one.top1, one.missing))
    return found


def picks_of(nodes: Sequence[Plain], rows: Mapping[str, Plain], profiles: Sequence[tuple[Plain, Plain]]) -> list[Plain]:
    """What to take on every device that something was measured on."""
    reasons = judged(nodes, rows)
    devices = checked_on(rows) | profiled_on(profiles, rows)
    found = [pick(device, candidates_on(measured, reasons)) for device, measured in devices.items()]
    if not devices and rows:
        asked = any(node["kind"] == "check" and node["options"].get("latency") for node in nodes)
        why = "no check could measure the latency" if asked else "no check measures the latency"
        how = "their logs say why" if asked else "add latency = true to the step that checks"
        told = f"no artifact is picked: {why}; {how}"
        return [{"device": "", "artifact": "", "sentence": told, "others": []}]
    return [
        {"device": one.device, "artifact": one.artifact, "sentence": one.sentence,
         "others": [{"artifact": name, "reason": why} for name, why in one.others]}
        for one in found
    ]  # fmt: skip


def fronts_of(nodes: Sequence[Plain], rows: Mapping[str, Plain]) -> list[dict[str, Any]]:
    """Accuracy against the p50 of each machine that checked; against the size where an accuracy has no p50."""
    reasons = judged(nodes, rows)
    measured = checked_on(rows)
    fronts = [_front("p50_ms", device, candidates_on(found, reasons), rows) for device, found in measured.items()]
    timed = {name for found in measured.values() for name in found}
    sizes: dict[str, dict[str, Candidate]] = {}
    for name, row in rows.items():
        if row.get("bytes") is not None:
            one = Candidate(name, "", row["bytes"], top1=gate_of(row, "accuracy").get("top1"))
            sizes.setdefault(judged_on(rows)[name], {})[name] = one
    for images, found in sizes.items():
        if any(name not in timed and one.top1 is not None for name, one in found.items()):
            fronts.append(_front("bytes", images.removeprefix(", "), candidates_on(found, reasons), rows))
    return [front for front in fronts if front["points"]]


def _front(by: str, device: str, candidates: Sequence[Candidate], rows: Mapping[str, Plain]) -> dict[str, Any]:
    shown = [one for one in candidates if one.cost is not None and one.top1 is not None]
    best = [one.name for one in front_of(shown)]
    points = []
    for one in sorted(shown, key=lambda one: (one.cost or 0.0, one.name)):
        low, high = interval_of_top1(gate_of(rows.get(one.name), "accuracy"))
        beater = beaten_by(one, shown) if not one.out else None
        span = (None, None) if one.low is None or one.high is None else one.span
        points.append(
            {
                "artifact": one.name, "cost": one.cost, "low": span[0], "high": span[1], "top1": one.top1,
                "top1_low": None if low is None else max(low, 0.0),  # a share, whatever its interval
                "top1_high": None if high is None else min(high, 1.0), "out": one.out, "front": one.name in best,
                "beaten_by": beater.name if beater is not None else "",
            }
        )  # fmt: skip
    return {"by": by, "device": device, "points": points}


def short_front(fronts: Sequence[Plain]) -> list[dict[str, Any]]:
    """The points on the fronts, as --json says them."""
    return [
        {"by": front["by"], "device": front["device"], **{key: point[key] for key in ("artifact", "cost", "top1")}}
        for front in fronts for point in front["points"] if point["front"]
    ]  # fmt: skip
