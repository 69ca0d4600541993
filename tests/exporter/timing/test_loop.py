"""How many runs a block has, and when warming up is over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from zoo.exporter.timing.loop import Calls, block, runs_of, warm_up
from zoo.exporter.timing.setup import GATE, PROFILE


class Played:
    """Runs whose times are played; counts them."""

    def __init__(self, *milliseconds: float) -> None:
        self.milliseconds, self.runs = milliseconds, 0

    def time_steps(self, runs: int) -> list[float]:
        found = [self.milliseconds[min(self.runs + index, len(self.milliseconds) - 1)] for index in range(runs)]
        self.runs += runs
        return found


@pytest.mark.parametrize(
    ("milliseconds", "runs"),
    [(1.0, 3000), (30.0, 100), (100.0, 100), (590.0, 100), (1200.0, 50), (6000.0, 20)],
)
def test_a_profile_has_a_hundred_runs_or_three_seconds_and_fewer_of_what_takes_long(
    milliseconds: float, runs: int
) -> None:
    assert runs_of(milliseconds, PROFILE) == runs


def test_a_block_of_the_gate_lasts_eighty_milliseconds_and_has_five_runs_at_least() -> None:
    assert runs_of(1.0, GATE) == 80
    assert runs_of(50.0, GATE) == 5
    setup = replace(GATE, lead_in_ms=0.0)
    assert len(block(Played(10.0), setup)) == 8, "the lead-in is not counted"


def test_warm_up_ends_when_two_windows_agree_and_says_when_they_never_did() -> None:
    setup = replace(GATE, warm_s=(0.0, 0.5))
    settled = Played(*[9.0] * 5, *[5.0] * 5, *[4.9] * 100)
    assert warm_up(settled, setup)
    assert settled.runs == 15
    never = Played(*([1.0] * 5 + [9.0] * 5) * 20_000)
    assert not warm_up(never, replace(setup, warm_s=(0.0, 0.001)))


def test_calls_are_timed_one_by_one() -> None:
    seen: list[int] = []
    times = Calls(lambda: seen.append(1)).time_steps(7)
    assert len(seen) == len(times) == 7
    assert min(times) >= 0
