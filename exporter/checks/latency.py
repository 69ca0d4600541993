"""Gate `latency`: is the artifact not slower than what it is held to, how certain is that, how noisy is the machine?

A round is a fresh process a side, blocks of runs in an order drawn anew and mirrored (ABBA), and gives one log-ratio of
block medians. The process is the unit that is resampled, never the single run: runs of a process resemble each other.
The reference is measured against itself in the same rounds; where that excludes 1 the machine is too noisy to judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .budget import LatencyLimits
from .gate import Gate, hardest

MARGIN = 0.03
MIN_ROUNDS = 10  # below, an interval says little about how it would look with more
TRIM = 0.2  # of the log-ratios at either end: a neighbour's burst spoils a round or two
RESAMPLES = 4000
CERTAINTY = 0.95
# The fewest samples whose largest bounds the quantile with 95 % certainty: q^n <= 0.05.
NEEDED = {50: 10, 90: 29, 95: 59, 99: 299}
TIMES_KEPT = 2000


@dataclass(frozen=True)
class Side:
    """What one side of the comparison showed.

    Attributes:
        name: onnx-fp32, or `the eager reference`.
        rounds: the median milliseconds of a run, a round each.
        times: milliseconds of single runs, of all rounds.
        load_ms: from the file to ready, the median over processes.
        first_ms: of the first run.
        peak_memory_mb: of the process.
        upload_ms, fetch_ms: transfers to and from a GPU; None on a CPU.
        unstable: processes whose warm-up did not become stable.
    """

    name: str
    rounds: tuple[float, ...]
    times: tuple[float, ...]
    load_ms: float
    first_ms: float
    peak_memory_mb: float | None = None
    upload_ms: float | None = None
    fetch_ms: float | None = None
    unstable: int = 0


@dataclass(frozen=True)
class Compared:
    """An artifact against its reference, and that against itself."""

    artifact: Side
    reference: Side
    control: Side
    device: str = "cpu"
    throughput: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    order: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Ratio:
    """A ratio of times with its interval of 95 % certainty."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio_of(times: Sequence[float], others: Sequence[float], seed: int = 0) -> Ratio:
    """The ratio of paired times, a pair a round, by a trimmed mean of their logarithms and its bootstrap interval.

    Studentised and symmetric, which keeps its certainty with few rounds and heavy tails where the percentile method
    does not: Wilcox 2012, Introduction to Robust Estimation and Hypothesis Testing, section 4.4.
    """
    logs = np.log(np.asarray(times, np.float64) / np.asarray(others, np.float64))
    value, error = _trimmed(logs[None])
    draws = np.random.default_rng(seed).integers(0, len(logs), (RESAMPLES, len(logs)))
    values, errors = _trimmed(logs[draws])
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.where(errors > 0, np.abs(values - value) / errors, np.where(values == value, 0.0, np.inf))
    half = float(np.quantile(far, CERTAINTY, method="higher")) * float(error[0])
    if len(logs) < MIN_ROUNDS or not math.isfinite(
        half
    ):  # resampled errors vanish: few rounds, or all as good as alike
        half = float(np.ptp(logs))
    return Ratio(math.exp(value[0]), math.exp(value[0] - half), math.exp(value[0] + half))


def _trimmed(rows: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Trimmed mean of each row and its standard error, from the winsorised deviation (Tukey and McLaughlin 1963)."""
    count = rows.shape[1]
    cut = int(TRIM * count)
    ranked = np.sort(rows, axis=1)
    kept = ranked[:, cut : count - cut]
    winsorised = np.clip(ranked, kept[:, :1], kept[:, -1:])
    deviation = winsorised.std(axis=1, ddof=1) if count > 1 else np.full(len(rows), np.inf)
    return kept.mean(axis=1), deviation / ((1 - 2 * TRIM) * math.sqrt(count))


def percentile(times: Sequence[float], which: int) -> float | None:
    """A percentile of single runs; None where there are too few to bound it."""
    return float(np.percentile(times, which)) if len(times) >= NEEDED[which] else None


def measured_numbers(compared: Compared, margin: float) -> dict[str, Any]:
    """What was measured, as numbers of the gate."""
    mine, other = compared.artifact, compared.reference
    numbers: dict[str, Any] = {"against": other.name, "margin": margin, "device": compared.device}
    for name, first in (("ratio", mine), ("control", compared.control)):
        found = ratio_of(first.rounds, other.rounds)
        numbers |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    numbers |= {"rounds": len(mine.rounds), "samples": len(mine.times)}
    numbers |= {f"p{which}_ms": percentile(mine.times, which) for which in NEEDED}
    numbers["reference_p50_ms"] = percentile(other.times, 50)
    for name in ("load_ms", "first_ms", "peak_memory_mb", "upload_ms", "fetch_ms", "unstable"):
        numbers[name] = getattr(mine, name)
    numbers["throughput"] = list(compared.throughput)
    numbers["round_medians_ms"] = list(mine.rounds)
    numbers["reference_round_medians_ms"] = list(other.rounds)
    numbers["order"] = list(compared.order)
    numbers["notes"] = list(compared.notes)
    numbers["times_ms"] = _thinned(mine.times)
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
