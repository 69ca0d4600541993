"""The loop that reads the clock: warm-up, lead-in and blocks of runs. It also runs inside packages."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Protocol

from .setup import TimingSetup

STABLE, WINDOW = 0.05, 5  # a window's median is within 5 % of the one before
LEAD_IN_RUNS = 2


class Steps(Protocol):
    """What can be timed: a runner with a prepared batch, or anything else that runs."""

    def time_steps(self, runs: int) -> list[float]:
        """Milliseconds of each of so many runs."""
        ...


class Calls:
    """A function whose calls are timed by the host's clock.

    Args:
        call: one run, to its end.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def time_steps(self, runs: int) -> list[float]:
        """Milliseconds of each of so many calls."""
        times: list[float] = []
        for _ in range(runs):
            begun = time.perf_counter()
            self._call()
            times.append(1e3 * (time.perf_counter() - begun))
        return times


def warm_up(steps: Steps, setup: TimingSetup) -> bool:
    """Run until the median of a window is within 5 % of the one before; return whether it became so in time."""
    begun = time.perf_counter()
    least, most = setup.warm_s
    before = statistics.median(steps.time_steps(WINDOW))
    stable = False
    while time.perf_counter() - begun < (least if stable else most):
        now = statistics.median(steps.time_steps(WINDOW))
        stable = stable or abs(now - before) <= STABLE * before
        before = now
    return stable


def block(steps: Steps, setup: TimingSetup) -> list[float]:
    """Return the milliseconds of the runs of one block, after a lead-in that is not counted."""
    begun = time.perf_counter()
    lead = steps.time_steps(LEAD_IN_RUNS)
    while 1e3 * (time.perf_counter() - begun) < setup.lead_in_ms:
        lead += steps.time_steps(LEAD_IN_RUNS)
    return steps.time_steps(runs_of(min(lead), setup))


def runs_of(milliseconds: float, setup: TimingSetup) -> int:
    """Return how many runs a block has whose single run takes so long."""
    each = max(milliseconds, 1e-3)
    runs = max(setup.least, int(setup.block_ms / each))
    if runs * each > 1e3 * setup.longest_s:  # a batch so large that the least would take too long
        runs = max(min(setup.least, setup.most), int(1e3 * setup.longest_s / each))
    return runs
