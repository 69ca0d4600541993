"""What each layer costs: the formulas against brute force, the ranking against planted noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo.calibration.sensitivity import MOST_DB, Cost, Effect, effect, give_back_order, measure

NONE = Effect(MOST_DB, 0.0)


def test_identical_logits_have_no_noise() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    assert effect(logits, logits) == Effect(MOST_DB, 0.0)
    for wrong in (logits[:2], logits[:0]):
        with pytest.raises(ValueError, match="shapes"):
            effect(logits, wrong)


@given(st.integers(0, 1000), st.floats(1e-3, 3))
def test_effect_is_its_formula(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(3, 5)).astype(np.float32)
    other = (true + size * rng.normal(size=true.shape)).astype(np.float32)
    found = effect(true, other)
    signal = sum(float(one) ** 2 for one in true.ravel())
    noise = sum((float(a) - float(b)) ** 2 for a, b in zip(true.ravel(), other.ravel()))
    assert found.sqnr == pytest.approx(10 * math.log10(signal / noise), rel=1e-6)
    divergence = 0.0
    for a, b in zip(true.astype(float), other.astype(float)):
        p, q = np.exp(a) / np.exp(a).sum(), np.exp(b) / np.exp(b).sum()
        divergence += float((p * np.log(p / q)).sum()) / len(true)
    assert found.kl == pytest.approx(divergence, rel=1e-5, abs=1e-9)
    assert found.kl >= -1e-12


def test_the_noisy_layer_comes_first() -> None:
    """A planted model: each layer in integers adds its own noise to the logits."""
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(8, 10)).astype(np.float32)
    noise = {"quiet": 0.001, "loud": 0.5, "middle": 0.05}
    added = {name: size * rng.normal(size=reference.shape).astype(np.float32) for name, size in noise.items()}
    runs: list[frozenset[str]] = []

    def run(keep: frozenset[str]) -> np.ndarray:
        runs.append(keep)
        return reference + sum(one for name, one in added.items() if name not in keep)

    done: list[int] = []
    layers = [(name, "Conv", 10) for name in noise]
    whole, costs = measure(layers, run, reference, {"loud": 3.0}, lambda one, _all: done.append(one))
    assert [one.name for one in costs] == ["loud", "middle", "quiet"]
    assert min(costs, key=lambda one: one.alone.sqnr).name == "loud"
    assert costs[0].without.kl < whole.kl
    assert costs[0].saved == 3.0
    assert costs[1].saved is None
    assert len(set(runs)) == len(runs) == 7
    assert done == list(range(1, 8))


def test_bargains_are_given_back_first() -> None:
    def cost(name: str, brought: float, saved: float | None, macs: int = 1) -> Cost:
        return Cost(name, "Conv", macs, NONE, NONE, brought, saved)

    timed = [cost("dear", 1.0, 100.0), cost("cheap", 1.0, 1.0), cost("free", 0.1, -5.0), cost("worse", -1.0, 1.0)]
    assert give_back_order(timed) == ("free", "cheap", "dear")
    assert give_back_order([cost("big", 1.0, None, 1000), cost("small", 1.0, None, 10)]) == ("small", "big")
