"""The statistics of times: one ratio with its interval, percentiles with the runs that they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

MIN_ROUNDS = 10  # below, an interval says little about how it would look with more
TRIM = 0.2  # of the log-ratios at either end: a neighbour's burst spoils a round or two
RESAMPLES = 4000
CERTAINTY = 0.95
# The fewest samples whose largest bounds the quantile with 95 % certainty: q^n <= 0.05.
NEEDED = {50: 10, 90: 29, 95: 59, 99: 299}


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


def interval_of_median(ordered: list[float]) -> tuple[float, float]:
    """The order statistics around the median that hold it with 95 % certainty, by the binomial's normal form.

    Source: Conover 1999, Practical Nonparametric Statistics, section 3.2. Runs that follow each other are not
    independent, so it is somewhat too narrow.
    """
    count = len(ordered)
    half = 1.96 * math.sqrt(count) / 2
    low = max(0, math.floor(count / 2 - half) - 1)
    high = min(count - 1, math.ceil(count / 2 + half))
    return ordered[low], ordered[high]
