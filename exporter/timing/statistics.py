"""The statistics of times: one ratio with its interval, percentiles with the runs that they need."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .setup import Subject, TimingSetup

MIN_ROUNDS = 10  # below, an interval says little about how it would look with more
TRIM = 0.2  # of the log-ratios at either end: a neighbour's burst spoils a round or two
RESAMPLES = 4000
CERTAINTY = 0.95
# The one table of how many runs a percentile needs: the fewest samples whose largest bounds it with 95 % certainty,
# q^n <= 0.05.
NEEDED = {50: 10, 90: 29, 95: 59, 99: 299}


@dataclass(frozen=True)
class Round:
    """What one subject showed in one round.

    Attributes:
        index: of the round, from 0.
        blocks: milliseconds of single runs, block by block.
        facts: load_ms, first_ms, peak_memory_mb, upload_ms, fetch_ms and stable, as far as they are known.
    """

    index: int
    blocks: tuple[tuple[float, ...], ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Milliseconds: the geometric mean of the blocks' medians, which is their mean on the scale of log-ratios."""
        return statistics.geometric_mean([statistics.median(block) for block in self.blocks])


@dataclass(frozen=True)
class Measurement:
    """The raw times of a subject with all that they were measured under; statistics are made on reading.

    Attributes:
        subject: what ran.
        setup: how.
        threads: that the runtime was given.
        rounds: what each round showed, in their order; fewer than the setup's where the subject left early.
    """

    subject: Subject
    setup: TimingSetup
    threads: int
    rounds: tuple[Round, ...]

    @property
    def name(self) -> str:
        """The subject's."""
        return self.subject.name

    @property
    def medians(self) -> tuple[float, ...]:
        """Milliseconds of a run, a round each."""
        return tuple(one.median for one in self.rounds)

    @property
    def times(self) -> tuple[float, ...]:
        """Milliseconds of all single runs."""
        return tuple(time for one in self.rounds for block in one.blocks for time in block)

    @property
    def median(self) -> float:
        """Milliseconds of a run: the median over the rounds."""
        return statistics.median(self.medians)

    @property
    def unstable(self) -> int:
        """Processes whose warm-up did not become stable."""
        return sum(one.facts.get("stable") is False for one in self.rounds)

    def fact(self, name: str) -> float | None:
        """The median of a fact over the rounds that know it."""
        values = [one.facts[name] for one in self.rounds if one.facts.get(name) is not None]
        return statistics.median(values) if values else None


@dataclass(frozen=True)
class Ratio:
    """A ratio of times with its interval of 95 % certainty."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio(mine: Measurement, other: Measurement, seed: int = 0) -> Ratio:
    """Return mine over other: the ratio of their times in the rounds that both were in, with its interval.

    Raises:
        ValueError: they were measured in ways that cannot be compared, or never in the same round.
    """
    if mine.setup.same_conditions() != other.setup.same_conditions() or mine.threads != other.threads:
        raise ValueError(f"{mine.name} and {other.name} were not measured alike: {mine.setup} and {other.setup}")
    if mine.subject.batch != other.subject.batch:
        raise ValueError(f"{mine.name} ran batches of {mine.subject.batch}, {other.name} of {other.subject.batch}")
    theirs = {one.index: one.median for one in other.rounds}
    pairs = [(one.median, theirs[one.index]) for one in mine.rounds if one.index in theirs]
    if not pairs:
        raise ValueError(f"{mine.name} and {other.name} were never in the same round")
    return ratio_of([pair[0] for pair in pairs], [pair[1] for pair in pairs], seed)


def round_ratios(mine: Measurement, other: Measurement) -> tuple[float, ...]:
    """Return mine over other in each round that both were in."""
    theirs = {one.index: one.median for one in other.rounds}
    return tuple(one.median / theirs[one.index] for one in mine.rounds if one.index in theirs)


def surely_slower(found: Mapping[str, Measurement], margin: float) -> frozenset[str]:
    """Return the names of those that are slower than the fastest by more than a margin, their whole interval.

    Args:
        found: measured in the same rounds.
        margin: a share; within it two count as alike.
    """
    fastest = min(found.values(), key=lambda one: one.median, default=None)
    if fastest is None:
        return frozenset()
    return frozenset(name for name, one in found.items() if ratio(one, fastest).low > 1 + margin)


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
    if len(logs) < MIN_ROUNDS or not math.isfinite(half):  # few rounds, or all as good as alike: no resampled error
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
