"""Gate `latency`: is the artifact not slower than what it is held to, how certain is that, how noisy is the machine?

A round is a fresh process a side, blocks of runs in an order drawn anew and mirrored (ABBA), and gives one log-ratio of
block medians. The process is the unit that is resampled, never the single run: runs of a process resemble each other.
The reference is measured against itself in the same rounds; where that excludes 1 the machine is too noisy to judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..timing.statistics import MIN_ROUNDS, NEEDED, Measurement, Ratio, percentile, ratio
from .budget import LatencyLimits
from .gate import Gate, hardest

MARGIN = 0.03
TIMES_KEPT = 2000


@dataclass(frozen=True)
class Compared:
    """An artifact against its reference, and that against itself, measured in the same rounds.

    Attributes:
        artifact, reference, control: what was measured; the control is the reference a second time.
        against: the reference's name, for people.
        throughput: images a second by batch size.
        notes: what could not be measured.
    """

    artifact: Measurement
    reference: Measurement
    control: Measurement
    against: str
    throughput: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def measured_numbers(compared: Compared, margin: float) -> dict[str, Any]:
    """What was measured, as numbers of the gate."""
    mine, other = compared.artifact, compared.reference
    numbers: dict[str, Any] = {"against": compared.against, "margin": margin, "device": mine.setup.device}
    for name, first in (("ratio", mine), ("control", compared.control)):
        found = ratio(first, other)
        numbers |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    times = mine.times
    numbers |= {"rounds": len(mine.rounds), "samples": len(times), "threads": mine.threads}
    numbers |= {f"p{which}_ms": percentile(times, which) for which in NEEDED}
    numbers["reference_p50_ms"] = percentile(other.times, 50)
    for name in ("load_ms", "first_ms", "peak_memory_mb", "upload_ms", "fetch_ms"):
        numbers[name] = mine.fact(name)
    numbers["unstable"] = mine.unstable
    numbers["throughput"] = list(compared.throughput)
    numbers["round_medians_ms"] = list(mine.medians)
    numbers["reference_round_medians_ms"] = list(other.medians)
    numbers["order"] = [str(one.facts.get("order", "")) for one in mine.rounds]
    numbers["notes"] = list(compared.notes)
    numbers["times_ms"] = _thinned(times)
    numbers["reference_times_ms"] = _thinned(other.times)
    return numbers


def judge_latency(compared: Compared, limits: LatencyLimits | None = None) -> Gate:
    """Judge "not slower than the reference" and the plain limits of a budget; the hardest decides.

    Passes when the upper bound of the ratio is within 1 + margin, fails when the lower bound is beyond it. Inconclusive
    when the interval straddles it, when the reference against itself excludes 1, and with too few rounds or samples.
    """
    limits = limits or LatencyLimits()
    margin = MARGIN if limits.margin is None else limits.margin
    numbers = measured_numbers(compared, margin)
    looks = [_judge_ratio(numbers), *_judge_limits(numbers, limits)]
    decided = hardest(looks)
    return Gate("latency", decided.verdict, decided.reason, numbers)


def verdict_word(numbers: dict[str, Any]) -> str:
    """`faster` or `slower` where the interval excludes 1, else `alike`; `unknown` where the control excludes 1."""
    if not numbers["control_low"] <= 1 <= numbers["control_high"]:
        return "unknown"
    if numbers["ratio_high"] < 1:
        return "faster"
    return "slower" if numbers["ratio_low"] > 1 else "alike"


def _judge_ratio(numbers: dict[str, Any]) -> Gate:
    ratio = Ratio(numbers["ratio"], numbers["ratio_low"], numbers["ratio_high"])
    control = Ratio(numbers["control"], numbers["control_low"], numbers["control_high"])
    margin, against, rounds = numbers["margin"], numbers["against"], numbers["rounds"]
    p50 = f"{numbers['p50_ms']:.3g} ms" if numbers["p50_ms"] is not None else "too few runs"
    shown = f"p50 {p50}; {ratio} of the time of {against}, noise floor {control.low:.3f} to {control.high:.3f}"

    def gate(verdict: Any, told: str) -> Gate:
        return Gate("latency", verdict, f"{told}: {shown}")

    word = verdict_word(numbers)
    if rounds < MIN_ROUNDS:
        return gate("inconclusive", f"{rounds} rounds are too few, at least {MIN_ROUNDS} are needed")
    if word == "unknown":
        return gate("inconclusive", f"this machine is too noisy now: {against} against itself is {control}")
    if ratio.high <= 1 + margin:
        by = f"faster by {1 - ratio.value:.1%}" if word == "faster" else "not slower"
        by = f"slower by {ratio.value - 1:.1%}, within the margin of {margin:.1%}" if word == "slower" else by
        return gate("pass", by)
    if ratio.low > 1 + margin:
        return gate("fail", f"slower by {ratio.value - 1:.1%}, more than the {margin:.1%} allowed")
    advice = _advice(ratio, margin, rounds)
    return gate("inconclusive", f"cannot tell whether it is slower by more than {margin:.1%} ({advice})")


def _advice(ratio: Ratio, margin: float, rounds: int) -> str:
    """How many rounds would bring one bound to the limit, at this spread: an interval shrinks with their root."""
    distance = abs(math.log(1 + margin) - math.log(ratio.value))
    half = math.log(ratio.high / ratio.value)
    needed = math.ceil(rounds * (half / distance) ** 2) if distance > 0 else 0
    if 0 < needed <= 20 * rounds:
        return f"about --rounds {needed}"
    return "too near the margin for any number of rounds"


def _judge_limits(numbers: dict[str, Any], limits: LatencyLimits) -> list[Gate]:
    found: list[Gate] = []
    for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "load_ms", "first_ms", "peak_memory_mb"):
        limit, got = getattr(limits, f"max_{name}"), numbers[name]
        words = name.removesuffix("_ms").removesuffix("_mb").replace("_", " ")
        unit = "MB" if name.endswith("_mb") else "ms"
        if limit is None:
            continue
        if got is None:
            which = int(name[1:3]) if name[1:3].isdigit() else 0
            why = f"{numbers['samples']} samples, {NEEDED[which]} are needed" if which else "it cannot be read here"
            found.append(Gate("latency", "inconclusive", f"{words} is not known: {why}"))
        elif got > limit:
            found.append(Gate("latency", "fail", f"{words} {got:.3g} {unit}, the budget allows {limit:g}"))
    return found


def _thinned(times: Sequence[float]) -> list[float]:
    """At most 2,000 of them, spread evenly over the whole measurement."""
    if len(times) <= TIMES_KEPT:
        return list(times)
    return [times[int(index)] for index in np.linspace(0, len(times) - 1, TIMES_KEPT)]
