"""Learning rates as pure functions of the step."""

from __future__ import annotations

import math


def cosine(step: int, steps: int, peak: float, warmup: float) -> float:
    """Rise linearly to `peak` during the first `warmup` share of the steps, then fall to 0 as half a cosine.

    Sources: Goyal et al. 2017 (warm-up), Loshchilov and Hutter 2016 (cosine).

    Args:
        step: from 0 to steps - 1.
        steps: of the whole training.
        peak: the highest rate.
        warmup: share of the steps, in [0, 1).
    """
    rising = round(steps * warmup)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising + 1) / (steps - rising + 1)))
