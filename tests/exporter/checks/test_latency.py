from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.exporter.checks.budget import LatencyLimits
from zoo.exporter.checks.latency import judge_latency, verdict_word
from zoo.exporter.timing.statistics import NEEDED, Compared, Side, percentile, ratio_of

ROUNDS = 20


def side(
    name: str, factor: float = 1.0, noise: float = 0.01, seed: int = 0, rounds: int = ROUNDS, runs: int = 400
) -> Side:
    draw = np.random.default_rng(seed)
    medians = factor * np.exp(noise * draw.standard_normal(rounds))
    return Side(
        name, tuple(medians), tuple(factor + 0 * draw.random(runs)), load_ms=5.0, first_ms=3.0, peak_memory_mb=90.0
    )


def judged(factor: float, limits: LatencyLimits | None = None, control: float = 1.0, **options: Any):
    compared = Compared(
        side("onnx-int8", factor, seed=1, **options),
        side("eager", seed=2, **options),
        side("eager", control, seed=3, **options),
    )
    return judge_latency(compared, limits)


@pytest.mark.parametrize(
    ("factor", "verdict", "words"),
    [
        (0.3, "pass", "faster by 70"),
        (1.0, "pass", "not slower"),
        (1.015, "pass", "within the margin"),
        (1.08, "fail", "more than the 3.0% allowed"),
        (1.03, "inconclusive", "cannot tell"),
    ],
)
def test_verdicts(factor: float, verdict: str, words: str) -> None:
    gate = judged(factor)
    assert gate.verdict == verdict, gate.reason
    assert words in gate.reason
    assert "noise floor" in gate.reason


def test_a_noisy_machine_is_no_verdict() -> None:
    gate = judged(1.5, control=1.1)
    assert gate.verdict == "inconclusive"
    assert "eager against itself is 1." in gate.reason
    assert verdict_word(gate.numbers) == "unknown"


def test_more_noise_than_the_margin_says_how_many_rounds() -> None:
    gate = judged(1.0, noise=0.08)
    assert gate.verdict == "inconclusive"
    assert "--rounds" in gate.reason


def test_few_rounds_are_no_verdict() -> None:
    assert judged(0.3, rounds=9).verdict == "inconclusive"


def test_the_margin_of_a_budget() -> None:
    assert judged(1.08, LatencyLimits(margin=0.2)).verdict == "pass"


@pytest.mark.parametrize(
    ("limits", "verdict", "words"),
    [
        ({"max_p50_ms": 0.2}, "fail", "p50 0.3 ms, the budget allows 0.2"),
        ({"max_p99_ms": 0.4}, "pass", "faster"),
        ({"max_load_ms": 4.0}, "fail", "load 5 ms"),
        ({"max_peak_memory_mb": 80.0}, "fail", "peak memory 90 MB"),
    ],
)
def test_plain_limits(limits: dict[str, float], verdict: str, words: str) -> None:
    gate = judged(0.3, LatencyLimits(**limits))
    assert (gate.verdict, words in gate.reason) == (verdict, True), gate.reason


def test_a_limit_on_what_is_not_known() -> None:
    gate = judged(0.3, LatencyLimits(max_p99_ms=1.0), runs=200)
    assert gate.verdict == "inconclusive"
    assert "200 samples, 299 are needed" in gate.reason
    assert gate.numbers["p99_ms"] is None
    assert gate.numbers["p95_ms"] is not None


@pytest.mark.parametrize(("which", "needed"), NEEDED.items())
def test_percentiles_below_their_number_are_refused(which: int, needed: int) -> None:
    assert percentile(range(needed - 1), which) is None
    assert percentile(range(needed), which) == np.percentile(range(needed), which)
    if which > 50:  # so many that the largest exceeds the quantile with 95 % certainty, and not one more
        assert (which / 100) ** needed <= 0.05 < (which / 100) ** (needed - 1)


@given(st.floats(0.2, 5), st.floats(0.001, 0.1), st.integers(3, 40), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_an_interval_holds_its_value_and_turns_with_its_sides(
    factor: float, noise: float, rounds: int, seed: int
) -> None:
    one, other = side("a", factor, noise, seed, rounds).rounds, side("b", 1.0, noise, seed + 1, rounds).rounds
    found, turned = ratio_of(one, other), ratio_of(other, one)
    assert found.low <= found.value <= found.high
    np.testing.assert_allclose(
        [turned.value, turned.low, turned.high], [1 / found.value, 1 / found.high, 1 / found.low]
    )


def test_equal_rounds_have_no_width() -> None:
    found = ratio_of([2.0] * 12, [1.0] * 12)
    assert (found.low, found.value, found.high) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("tails", [math.inf, 2.5])
def test_the_interval_misses_about_one_time_in_twenty(tails: float) -> None:
    """Simulated, normal and heavy-tailed log-ratios: what the 95 % of the interval promise."""
    draw = np.random.default_rng(0)
    trials, missed, rounds = 400, 0, 12
    for _ in range(trials):
        logs = draw.standard_normal(rounds) if math.isinf(tails) else draw.standard_t(tails, rounds)
        found = ratio_of(np.exp(0.02 * logs), np.ones(rounds))
        missed += not found.low <= 1 <= found.high
    assert missed <= 0.08 * trials


def test_many_times_are_thinned_for_the_record() -> None:
    gate = judged(0.3, runs=9000)
    assert gate.numbers["samples"] == 9000
    assert len(gate.numbers["times_ms"]) == 2000
