"""Which divisions between int8 and float are timed, and which one is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from zoo.exporter.quantize.partition import ALIKE, Division, fastest, next_divisions, short, slower_in_words, told
from zoo.exporter.timing.engine import Look
from zoo.exporter.timing.setup import GATE, SELECT, Subject
from zoo.exporter.timing.statistics import Measurement, Ratio, Round

NAMES = ["all", "gates", "dense", "4k", "8k", "20k", "40k"]


def division(name: str, speed: float, spread: float = 0.02) -> Division:
    share = 1 - NAMES.index(name) / 20
    return Division(name, frozenset(), Ratio(speed, speed - spread, speed + spread), share, "batch 1, 2 threads")


def searched(speeds: Sequence[float]) -> list[Division]:
    """All that is timed where each division has such a speed."""
    timed: list[Division] = []
    while names := next_divisions(NAMES[: len(speeds)], timed):
        assert not {one.name for one in timed} & set(names), "nothing is timed twice"
        timed += [division(name, speeds[NAMES.index(name)]) for name in names]
    return timed


def test_all_in_int8_is_taken_at_once_where_it_is_clearly_faster() -> None:
    assert [one.name for one in searched([1.4, 1.6, 2.0])] == ["all"]
    assert len(searched([1.31, 1.0, 1.0])) > 1, "its interval begins below 1.3"


def test_then_the_middle_and_the_last_and_the_neighbours_of_the_fastest() -> None:
    assert [one.name for one in searched([0.8, 0.8, 1.0, 1.2, 1.15, 1.1, 1.0])] == ["all", "4k", "40k", "dense", "8k"]
    assert [one.name for one in searched([1.2, 1.1, 1.0, 0.9, 0.9, 0.9, 0.9])] == ["all", "4k", "40k", "gates"]
    assert [one.name for one in searched([1.1])] == ["all"]
    assert next_divisions(NAMES, [], doubtful=True) == ["all", "4k", "40k"], "at once where islands of float are left"


@given(st.integers(0, 6), st.lists(st.floats(0.05, 0.2), min_size=7, max_size=7))
def test_where_speed_rises_to_a_division_and_falls_behind_it_that_one_is_found(peak: int, steps: list[float]) -> None:
    speeds = [1.25 * math.exp(-sum(steps[min(peak, index) : max(peak, index)])) for index in range(7)]
    timed = searched(speeds)
    assert fastest(timed).speed.value >= ALIKE * max(speeds)


def test_of_those_that_are_alike_the_one_with_the_most_integers_is_taken() -> None:
    assert fastest([division("all", 0.98), division("dense", 1.0), division("40k", 1.0)]).name == "all"
    assert fastest([division("all", 0.9), division("dense", 0.99), division("40k", 1.0)]).name == "dense"


def test_slower_is_said_where_the_whole_interval_says_so_and_else_that_nobody_can_tell() -> None:
    assert slower_in_words(Ratio(1.0, 0.9, 1.2)) == slower_in_words(Ratio(1.4, 1.3, 1.5)) == ""
    assert slower_in_words(Ratio(0.8, 0.7, 0.9)).startswith("int8 is slower than float on this CPU in every division")
    assert "cannot be told (0.86 times as fast, up to 1.46)" in slower_in_words(Ratio(0.86, 0.5, 1.46))


def test_a_division_in_words() -> None:
    assert str(division("dense", 1.1, 0.1)) == (
        "dense: 1.10 times as fast as float (1.00 to 1.20; batch 1, 2 threads), 90% of MACs int8"
    )


def test_the_progress_bar_says_which_candidate_how_many_are_left_and_the_best_so_far() -> None:
    def measured(name: str, *medians: float) -> Measurement:
        subject = Subject(name=name, opener="x:y")
        rounds = tuple(Round(index, ((one, one),)) for index, one in enumerate(medians))
        return Measurement(subject, SELECT, 2, rounds)

    found = {"float": measured("float", 4.0), "all": measured("all", 5.0), "dense": measured("dense", 2.0)}
    now = Look("dense", 1, 4, ("float", "dense"), found)
    assert told(now, "float") == "timing int8\tdense, 1 left, best 2.00x, dense"
    assert told(Look("", 0, 4, ("float", "all"), {"float": measured("float")}), "float") == "timing int8\t1 left"


def test_names_are_short_in_a_bar() -> None:
    assert short("dense layers of 4,000 weights and more int8") == "dense 4,000+"
    assert short("all layers int8") == "all layers"


def test_candidates_race_on_as_many_threads_as_the_gate_judges_with() -> None:
    assert SELECT.threads_here == GATE.threads_here
    assert (SELECT.block_ms, SELECT.lead_in_ms) == (GATE.block_ms, GATE.lead_in_ms)
