"""Learning rates as pure functions of the step: from 0 to steps - 1, of the whole training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of a step by the recipe's schedule, after its linear warm-up.

    Args:
        recipe: schedule, lr, warmup, epochs, decay and decay_epochs.
        step: from 0 to steps - 1.
        steps: of the whole training.
    """
    if recipe.schedule == "one-cycle":  # warms up in its own way
        return one_cycle(step, steps, recipe.lr, recipe.warmup)
    rising = round(steps * recipe.warmup)
    if step < rising:
        return linear(step, rising, recipe.lr)
    epoch = step / steps * recipe.epochs
    match recipe.schedule:
        case "cosine":
            return cosine(step - rising, steps - rising, recipe.lr)
        case "step":
            return staircase(epoch, recipe.lr, recipe.decay, recipe.decay_epochs)
        case "exponential":
            return exponential(epoch, recipe.lr, recipe.decay, recipe.decay_epochs)
        case "constant":
            return recipe.lr


def linear(step: int, rising: int, peak: float) -> float:
    """Rise linearly; the last of the `rising` steps has the peak. Source: Goyal et al. 2017, arXiv 1706.02677."""
    return peak * (step + 1) / rising


def cosine(step: int, steps: int, peak: float) -> float:
    """Fall to 0 as half a cosine. Source: Loshchilov and Hutter 2016, arXiv 1608.03983."""
    return peak * 0.5 * (1 + math.cos(math.pi * (step + 1) / (steps + 1)))


def staircase(epoch: float, peak: float, decay: float, every: float) -> float:
    """Multiply by `decay` every so many epochs (torch's StepLR)."""
    return peak * decay ** int(epoch / every + 1e-9)


def exponential(epoch: float, peak: float, decay: float, every: float) -> float:
    """Fall smoothly, by `decay` in every so many epochs."""
    return peak * decay ** (epoch / every)


def one_cycle(step: int, steps: int, peak: float, rising_share: float, start: float = 25.0, end: float = 1e4) -> float:
    """Rise as half a cosine from peak / 25, then fall to that / 10,000. Source: Smith 2018, arXiv 1708.07120; torch's
    OneCycleLR has these numbers.
    """
    low, last = peak / start, peak / start / end
    turn = max(1.0, rising_share * steps) - 1
    if step <= turn:
        return _between(low, peak, step / turn if turn > 0 else 1.0)
    return _between(peak, last, (step - turn) / max(steps - 1 - turn, 1e-9))


def _between(first: float, second: float, share: float) -> float:
    return second + (first - second) * 0.5 * (1 + math.cos(math.pi * share))
