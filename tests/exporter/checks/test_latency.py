from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from zoo.exporter.checks.budget import LatencyLimits
from zoo.exporter.checks.latency import Compared, judge_latency, verdict_word
from zoo.exporter.timing.setup import GATE, Subject
from zoo.exporter.timing.statistics import Measurement, Round

ROUNDS = 20


def side(
    name: str, factor: float = 1.0, noise: float = 0.01, seed: int = 0, rounds: int = ROUNDS, runs: int = 400
) -> Measurement:
    draw = np.random.default_rng(seed)
    medians = factor * np.exp(noise * draw.standard_normal(rounds))
    facts = {"load_ms": 5.0, "first_ms": 3.0, "peak_memory_mb": 90.0, "stable": True}
    each = runs // rounds
    found = tuple(Round(index, ((float(one),) * each,), facts) for index, one in enumerate(medians))
    return Measurement(Subject(name=name, opener="x:y"), GATE, 2, found)


def judged(factor: float, limits: LatencyLimits | None = None, control: float = 1.0, **options: Any):
    compared = Compared(
        side("onnx-int8", factor, seed=1, **options),
        side("eager", seed=2, **options),
        side("eager", control, seed=3, **options),
        "eager",
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
        ({"max_p50_ms": 0.2}, "fail", "p50 0.301 ms, the budget allows 0.2"),
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


def test_many_times_are_thinned_for_the_record() -> None:
    gate = judged(0.3, runs=9000)
    assert gate.numbers["samples"] == 9000
    assert len(gate.numbers["times_ms"]) == 2000
