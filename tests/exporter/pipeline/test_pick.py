"""What is taken is never beaten, never one that failed, and does not hang on the order."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from zoo.exporter.pipeline.pick import Candidate, beaten_by, eligible, front_of, pick, tied, why_not

FEW = st.integers(0, 5).map(float)  # few values, so that many are equal
SIDES = st.none() | st.integers(0, 3).map(float)


@st.composite
def some(draw: st.DrawFn) -> list[Candidate]:
    found = []
    for index in range(draw(st.integers(0, 8))):
        cost = draw(st.none() | FEW.map(lambda value: value + 1))
        below, above = draw(SIDES), draw(SIDES)
        found.append(
            Candidate(
                f"a{index}", draw(st.sampled_from(["", "", "", "failed accuracy: drop 3 points"])), cost,
                None if below is None or cost is None else cost - below / 4,
                None if above is None or cost is None else cost + above / 4, draw(st.none() | FEW.map(lambda v: v / 5)),
            )
        )  # fmt: skip
    return found


def beats(one: Candidate, other: Candidate) -> bool:
    """In both, and really in one."""
    assert one.cost is not None
    assert other.cost is not None
    mine, its = (one.top1 is not None, one.top1 or 0.0), (other.top1 is not None, other.top1 or 0.0)
    return one.cost <= other.cost and mine >= its and (one.cost, mine) != (other.cost, its)


@given(some())
def test_the_front_is_exactly_what_nothing_beats(candidates: list[Candidate]) -> None:
    able = [one for one in candidates if not one.out and one.cost is not None]
    unbeaten = [one for one in able if not any(beats(other, one) for other in able)]
    assert sorted(one.name for one in front_of(candidates)) == sorted(one.name for one in unbeaten)
    for one in able:
        beater = beaten_by(one, candidates)
        assert (beater is None) == (one in unbeaten)
        assert beater is None or beats(beater, one)


@given(some())
def test_what_is_taken_passed_and_nothing_is_better(candidates: list[Candidate]) -> None:
    found = pick("here", candidates)
    able = eligible(candidates)
    assert bool(found.artifact) == bool(able)
    assert {name for name, _ in found.others} | {found.artifact} - {""} == {one.name for one in candidates}
    if not able:
        return
    best = next(one for one in candidates if one.name == found.artifact)
    assert not best.out
    assert not any(beats(other, best) for other in able)
    assert not any(other.span[1] < best.span[0] for other in able), "none is measurably faster"
    assert all(tied(one, best) for one in able if (one.cost or 0) <= (best.cost or 0))


@given(some(), st.randoms())
def test_the_order_does_not_matter(candidates: list[Candidate], drawn) -> None:
    mixed = list(candidates)
    drawn.shuffle(mixed)
    assert pick("here", mixed) == pick("here", candidates)
    assert front_of(mixed) == front_of(candidates)


@given(some())
def test_every_other_one_is_told_why(candidates: list[Candidate]) -> None:
    found = pick("here", candidates)
    named = {one.name: one for one in candidates}
    for name, why in found.others:
        one = named[name]
        assert why
        if one.out:
            assert why == one.out
        elif one.cost is None:
            assert why.startswith("not measured here")
        elif found.artifact:
            best = named[found.artifact]
            assert why == why_not(one, best, eligible(candidates))
            assert not (why.startswith("slower: ") and tied(one, best)), "a tie is said as a tie"


@given(some())
def test_one_that_failed_changes_nothing_but_the_list(candidates: list[Candidate]) -> None:
    assume(candidates)
    failed = Candidate("z", "failed numerics: error 3", 0.01, 0.01, 0.01, 1.0)
    found, before = pick("here", [*candidates, failed]), pick("here", candidates)
    assert found.artifact == before.artifact
    assert ("z", "failed numerics: error 3") in found.others


FAST = Candidate("net/onnx-int8", cost=1.3, low=1.28, high=1.33, top1=0.926)


def reason(*others: Candidate) -> dict[str, str]:
    return dict(pick("here", [FAST, *others]).others)


def test_the_fastest_is_taken_and_said_with_its_interval() -> None:
    slow = Candidate("net/onnx-fp32", cost=2.1, low=2.0, high=2.2, top1=0.93)
    found = pick("here", [slow, FAST])
    assert found.sentence == "here: net/onnx-int8, 1.3 ms (1.28 to 1.33), top-1 92.60%"
    assert found.others == (
        ("net/onnx-fp32", "slower: 2.1 ms (2 to 2.2) against 1.3; more accurate: 93.00% against 92.60%"),
    )


def test_a_tie_goes_to_the_more_accurate_and_is_said() -> None:
    near = Candidate("net/torchscript-int8", cost=1.32, low=1.29, high=1.4, top1=0.929)
    found = pick("here", [FAST, near])
    assert found.artifact == near.name
    assert found.sentence.endswith(
        "cannot be told apart from net/onnx-int8 at 95 %; net/torchscript-int8 is the more accurate"
    )
    assert found.others == (
        (
            FAST.name,
            "cannot be told apart from net/torchscript-int8 at 95 %; "
            "net/torchscript-int8 is the more accurate: 92.90% against 92.60%",
        ),
    )


def test_alike_in_both() -> None:
    near = Candidate("other", cost=1.31, low=1.29, high=1.4, top1=0.926)
    assert reason(near) == {
        "other": "cannot be told apart from net/onnx-int8 at 95 %, and as accurate: 1.31 ms (1.29 to 1.4) against 1.3"
    }
    assert "more accurate" not in pick("here", [FAST, near]).sentence


def test_measurably_slower_than_a_third_is_not_taken_though_it_is_alike() -> None:
    wide = Candidate("wide", cost=1.4, low=1.2, high=1.9, top1=0.928)
    slow = Candidate("slow", cost=1.8, low=1.7, high=1.9, top1=0.95)
    found = pick("here", [FAST, wide, slow])
    assert found.artifact == "wide"
    assert dict(found.others)["slow"] == (
        "slower than net/onnx-int8: 1.8 ms (1.7 to 1.9) against 1.3; more accurate: 95.00% against 92.80%"
    )


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (Candidate("x", "failed accuracy: drop 2 points", 0.2), "failed accuracy: drop 2 points"),
        (Candidate("x", missing="the gate latency was not asked for"),
         "not measured here: the gate latency was not asked for"),
        (Candidate("x", cost=2.0, top1=0.9),
         "dominated by net/onnx-int8: 2 ms against 1.3, top-1 90.00% against 92.60%"),
        (Candidate("x", cost=2.0), "dominated by net/onnx-int8: 2 ms against 1.3, top-1 not known against 92.60%"),
    ],
)  # fmt: skip
def test_why_another_lost(one: Candidate, why: str) -> None:
    assert reason(one) == {"x": why}


def test_nothing_to_take() -> None:
    failed = Candidate("x", "failed accuracy: drop 2 points", 0.2)
    assert pick("here", [failed]).sentence == "here: no artifact to take, none of 1 that were measured passed its gates"
    assert pick("here", [Candidate("x")]).sentence == "here: no artifact to take, nothing was measured"
    assert pick("here", []).others == ()


def test_what_no_step_checks_failed_no_gate() -> None:
    found = pick("here", [Candidate("net/onnx-fp32", out="not checked: no step checks it", cost=1.0)])
    assert found.sentence == "here: no artifact to take, none of 1 that were measured was checked"
