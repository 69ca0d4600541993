from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo.exporter.checks.accuracy import (
    Paired,
    images_for_none,
    images_needed,
    interval_of_drop,
    judge_accuracy,
    judge_agreement,
    mcnemar,
    measure_accuracy,
    share_interval,
    unbelievable,
    without_ties,
)
from zoo.models.runs import Reached


def paired(n: int, lost: int, gained: int, right: float = 0.9) -> Paired:
    return Paired(n, right, right - (lost - gained) / n, lost, gained)


def judge(one: Paired, precision: str = "int8", **options) -> str:
    return judge_accuracy(one, precision, **{"numerics_passed": True, **options}).verdict


def test_measuring() -> None:
    labels = np.array([0, 1, 2, 0])
    reference, got = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]], np.eye(3, dtype=np.float32)[[0, 2, 2, 0]]
    assert measure_accuracy(reference, got, labels) == Paired(4, 0.75, 0.75, 1, 1)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (paired(10_000, 0, 0), "pass"),
        (paired(20, 0, 0), "pass"),
        (paired(10_000, 30, 30), "pass"),
        (paired(10_000, 300, 10), "fail"),
        (paired(300, 4, 3), "inconclusive"),
        (paired(0, 0, 0) if False else Paired(0, 0.0, 0.0, 0, 0), "fail"),
    ],
)
def test_verdicts(one: Paired, expected: str) -> None:
    assert judge(one) == expected


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_against_all_outcomes(lost: int, gained: int) -> None:
    """The share of all splits of the flips that are as uneven as this one or more."""
    n = lost + gained
    as_uneven = sum(math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(lost - gained))
    assert mcnemar(lost, gained) == pytest.approx(as_uneven / 2**n)
    assert mcnemar(gained, lost) == pytest.approx(mcnemar(lost, gained))


@pytest.mark.parametrize(("lost", "gained"), [(3000, 2900), (900, 1100), (20_000, 20_000), (5000, 0), (1, 9)])
def test_mcnemar_against_scipy(lost: int, gained: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(min(lost, gained), lost + gained).pvalue
    assert mcnemar(lost, gained) == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_no_flip_without_numerics_is_judged_by_the_bound() -> None:
    assert judge(paired(20, 0, 0), numerics_passed=False) == "inconclusive"
    assert judge(paired(10_000, 0, 0), numerics_passed=False) == "pass"


def test_a_pass_without_flips_says_what_the_number_of_images_allows() -> None:
    reason = judge_accuracy(paired(359, 0, 0), "fp32", numerics_passed=True).reason
    assert "fewer than 0.83% do (95 % certainty)" in reason


def test_the_runs_accuracy_is_looked_at() -> None:
    one = paired(10_000, 0, 0)
    reached = Reached("d", "val", 10_000, 0.9)
    assert judge(one, reached=reached) == "pass"
    gate = judge_accuracy(paired(10_000, 0, 0, 0.7), "fp32", numerics_passed=True, reached=reached)
    assert (gate.verdict, "training reached 90.00%" in gate.reason) == ("fail", True)


def test_too_few_images_says_how_many() -> None:
    gate = judge_accuracy(paired(300, 2, 1), "int8", numerics_passed=True)
    assert gate.verdict == "inconclusive"
    assert "it takes about" in gate.reason
    assert images_needed(paired(300, 30, 1), 0.005) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(200, 2000), st.floats(0.005, 0.05), st.floats(0.005, 0.05))
def test_the_interval_covers_the_truth(n: int, p_lost: float, p_gained: float) -> None:
    """Each one-sided bound should hold in 95 of 100 draws; 400 draws let the share vary by about 3 points."""
    random = np.random.default_rng(0)
    draws = random.multinomial(n, [p_lost, p_gained, 1 - p_lost - p_gained], size=400)
    bounds = [interval_of_drop(paired(n, int(lost), int(gained))) for lost, gained, _ in draws]
    truth = p_lost - p_gained
    assert np.mean([one.high >= truth for one in bounds]) > 0.90
    assert np.mean([one.low <= truth for one in bounds]) > 0.90


def test_an_accuracy_that_says_that_labels_are_not_the_models() -> None:
    """Both sides agree on wrong labels too: only the reference's own accuracy shows it."""
    assert unbelievable(0.9, 1000, 10, 0.92) is None
    assert unbelievable(0.5, 100, 10, 0.9) is None, "the first images may be of one class"
    assert "where training reached 74.00%" in str(unbelievable(0.035, 200, 10, 0.74))
    assert "no more than guessing" in str(unbelievable(0.1, 200, 10, None))
    assert unbelievable(0.2, 200, 10, None) is None
    assert unbelievable(0.0, 20, 10, 0.9) is None, "of few images nothing is said"


def test_a_drop_that_no_image_shows_takes_as_many_images_as_none_of_them_shows() -> None:
    """36 images cannot show 2 %, whatever they answer; it was said that 33 would do."""
    assert images_for_none(0.02) == 149
    gate = judge_accuracy(paired(36, 0, 0), "int8", numerics_passed=True, limit=0.02)
    assert (gate.verdict, "it takes about 149 images" in gate.reason) == ("inconclusive", True)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(0, 400))
def test_a_share_has_its_exact_interval(images: int, count: int) -> None:
    from scipy.stats import beta

    count = min(count, images)
    found = share_interval(count, images)
    low = 0.0 if count == 0 else beta.ppf(0.05, count, images - count + 1)
    high = 1.0 if count == images else beta.ppf(0.95, count + 1, images - count)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def agreement(images: int, flips: int, precision: str = "int8") -> tuple[str, str]:
    reference = np.zeros(images, np.int64)
    got = reference.copy()
    got[:flips] = 1
    gate = judge_agreement(reference, got, precision, "no labels")
    return gate.verdict, gate.reason


def test_without_labels_the_share_of_other_answers_is_judged_by_its_interval() -> None:
    assert agreement(8, 2)[0] == "inconclusive", "two flips of eight refuse nothing"
    assert "it takes about" in agreement(40, 1)[1]
    assert "not certainly" in agreement(8, 2)[1]
    assert agreement(1000, 40)[0] == "pass"
    assert agreement(1000, 100)[0] == "fail"
    assert agreement(8, 0)[0] == "pass", "no flip, and numerics judge beside it"
    assert agreement(0, 0)[0] == "fail"


def test_near_ties_are_no_flips() -> None:
    reference = np.array([[1.0, 1.001, 0], [3, 0, 0]], np.float32)
    got = np.array([[1.001, 1.0, 0], [0, 3, 0]], np.float32)
    assert without_ties(reference, got, 0.01).tolist() == [1, 1]
    assert without_ties(reference, got, 0.0).tolist() == [0, 1]


def test_a_pass_without_a_flip_says_what_it_would_take_to_show_the_limit() -> None:
    few = judge_accuracy(Paired(51, 0.9, 0.9, 0, 0), "int8", numerics_passed=True)
    assert (few.verdict, "within 0.5 points takes 598 images" in few.reason) == ("pass", True)
    many = judge_accuracy(Paired(600, 0.9, 0.9, 0, 0), "int8", numerics_passed=True)
    assert (many.verdict, "takes" in many.reason) == ("pass", False)
