"""Ratios with their intervals, percentiles, and what may be compared."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.exporter.timing.setup import GATE, Subject, TimingSetup
from zoo.exporter.timing.statistics import (
    NEEDED,
    Measurement,
    Round,
    percentile,
    ratio,
    ratio_of,
    round_ratios,
    surely_slower,
)


def medians(factor: float, noise: float, seed: int, rounds: int) -> npt.NDArray[np.float64]:
    return factor * np.exp(noise * np.random.default_rng(seed).standard_normal(rounds))


def measured(name: str, *rounds: float, setup: TimingSetup = GATE, threads: int = 2, batch: int = 1) -> Measurement:
    subject = Subject(name=name, opener="x:y", batch=batch)
    found = tuple(Round(index, ((one, one), (one,))) for index, one in enumerate(rounds))
    return Measurement(subject, setup, threads, found)


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
    one, other = medians(factor, noise, seed, rounds), medians(1.0, noise, seed + 1, rounds)
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


def test_a_round_is_the_geometric_mean_of_its_mirrored_blocks() -> None:
    one = Round(0, ((2.0, 2.0, 9.0), (8.0,)))
    assert one.median == pytest.approx(4.0)


def test_facts_are_medians_of_the_rounds_that_know_them() -> None:
    rounds = tuple(Round(index, ((1.0,),), facts) for index, facts in enumerate(
        [{"load_ms": 5.0, "stable": False}, {"load_ms": None, "stable": True}, {"load_ms": 7.0, "stable": None}]
    ))  # fmt: skip
    found = Measurement(Subject(name="a", opener="x:y"), GATE, 2, rounds)
    assert found.fact("load_ms") == 6.0
    assert found.fact("upload_ms") is None
    assert found.unstable == 1


@pytest.mark.parametrize(
    "other",
    [
        measured("b", 1.0, threads=1),
        measured("b", 1.0, batch=8),
        measured("b", 1.0, setup=replace(GATE, device="cuda")),
        measured("b", 1.0, setup=replace(GATE, block_ms=1.0)),
        measured("b", 1.0, setup=replace(GATE, inputs="random")),
        measured("b"),
    ],
)
def test_what_was_not_measured_alike_is_not_compared(other: Measurement) -> None:
    with pytest.raises(ValueError, match="not measured alike|batches of|never in the same round"):
        ratio(measured("a", 1.0), other)


def test_only_rounds_of_both_count() -> None:
    found = ratio(measured("a", 2.0, 2.0), measured("b", 1.0, 1.0, 50.0, 50.0))
    assert found.value == pytest.approx(2.0)
    assert round_ratios(measured("a", 2.0, 3.0), measured("b", 1.0, 1.0, 9.0)) == pytest.approx((2.0, 3.0))


def test_who_is_surely_slower_leaves_and_who_may_not_be_stays() -> None:
    found = {
        "fast": measured("fast", 1.0, 1.02), "near": measured("near", 1.02, 1.03),
        "noisy": measured("noisy", 1.0, 1.4), "slow": measured("slow", 1.5, 1.52),
    }  # fmt: skip
    assert surely_slower(found, 0.03) == {"slow"}
    assert surely_slower({}, 0.03) == frozenset()
