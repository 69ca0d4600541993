"""Each schedule against torch's own scheduler of the same name, and their shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.models.training.recipe import Recipe
from zoo.models.training.schedules import learning_rate, one_cycle

EPOCHS, STEPS = 6, 30


def rates(recipe: Recipe, steps: int = STEPS) -> list[float]:
    return [learning_rate(recipe, step, steps) for step in range(steps)]


def torchs(make, steps: int, every: int = 1, lr: float = 0.4) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimiser)
    found: list[float] = []
    for step in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return found


def test_step_is_torchs_step_lr() -> None:
    recipe = Recipe(epochs=EPOCHS, lr=0.4, schedule="step", decay=0.1, decay_epochs=2, warmup=0)
    expected = torchs(lambda one: torch.optim.lr_scheduler.StepLR(one, 2, 0.1), STEPS, every=STEPS // EPOCHS)
    assert rates(recipe) == pytest.approx(expected)


def test_exponential_is_torchs_at_each_epoch() -> None:
    recipe = Recipe(epochs=EPOCHS, lr=0.4, schedule="exponential", decay=0.9, decay_epochs=1, warmup=0)
    expected = torchs(lambda one: torch.optim.lr_scheduler.ExponentialLR(one, 0.9), EPOCHS)
    assert rates(recipe)[:: STEPS // EPOCHS] == pytest.approx(expected)


@given(st.integers(4, 300), st.floats(0.1, 0.6))
@settings(max_examples=30, deadline=None)
def test_one_cycle_is_torchs(steps: int, rising: float) -> None:
    expected = torchs(lambda one: torch.optim.lr_scheduler.OneCycleLR(one, 0.4, steps, pct_start=rising), steps)
    if rising * steps >= 1:  # below, torch begins beyond its peak
        assert [one_cycle(step, steps, 0.4, rising) for step in range(steps)] == pytest.approx(expected, abs=1e-9)


@given(
    st.sampled_from(["cosine", "step", "exponential", "one-cycle", "constant"]),
    st.integers(1, 500),
    st.floats(0, 0.9),
    st.floats(1e-4, 10),
)
def test_each_rises_then_falls(schedule, steps: int, warmup: float, peak: float) -> None:
    found = rates(Recipe(lr=peak, warmup=warmup, schedule=schedule, decay_epochs=1.0), steps)
    top = found.index(max(found))
    assert all(0 <= rate <= peak * 1.0000001 for rate in found)
    assert found[:top] == sorted(found[:top])
    assert found[top:] == sorted(found[top:], reverse=True)


@given(st.integers(2, 500), st.floats(0, 0.9))
def test_cosine_ends_low_and_warm_up_reaches_the_peak(steps: int, warmup: float) -> None:
    found = rates(Recipe(lr=1.0, warmup=warmup), steps)
    assert found[-1] < 1 or round(steps * warmup) >= steps
    if 1 <= round(steps * warmup) < steps:
        assert found[round(steps * warmup) - 1] == 1.0
