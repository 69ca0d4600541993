from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zoo.exporter.checks.gate import Gate, hardest
from zoo.exporter.checks.numerics import TOLERANCES, judge_numerics, measure_numerics

LOGITS = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)


def verdict(reference, got, precision: str = "fp32") -> tuple[str, str]:
    gate = judge_numerics(measure_numerics(reference, got), precision)
    return gate.verdict, gate.reason


def test_the_same_passes_and_a_little_noise_too() -> None:
    assert verdict(LOGITS, LOGITS)[0] == "pass"
    assert verdict(LOGITS, LOGITS + np.float32(1e-5))[0] == "pass"


@pytest.mark.parametrize("precision", TOLERANCES)
def test_more_than_the_tolerance_fails(precision: str) -> None:
    got = LOGITS.copy()
    got[7, 3] += TOLERANCES[precision].relative * np.ptp(LOGITS) * 1.01
    result, reason = verdict(LOGITS, got, precision)
    assert result == "fail"
    assert "relative error" in reason


def test_nothing_compared_fails() -> None:
    assert verdict(LOGITS[:0], LOGITS[:0])[0] == "fail"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_nan_on_either_side_fails(value: float, side: int) -> None:
    pair = [LOGITS.copy(), LOGITS.copy()]
    pair[side][3, 3] = value
    result, reason = verdict(*pair)
    assert (result, "NaN" in reason) == ("fail", True)


def test_a_mute_reference_is_inconclusive_not_passed() -> None:
    mute = np.tile(LOGITS[:1], (50, 1))
    result, reason = verdict(mute, mute)
    assert (result, "hardly tells" in reason) == ("inconclusive", True)
    assert verdict(LOGITS * 0, LOGITS * 0)[0] == "inconclusive"
    assert verdict(LOGITS[:1], LOGITS[:1])[0] == "inconclusive"


def test_rows_in_another_order_fail() -> None:
    assert verdict(LOGITS, LOGITS[::-1])[0] == "fail"


def test_ties_may_fall_to_either_side() -> None:
    reference, got = LOGITS.copy(), LOGITS.copy()
    reference[0, :2] = 5, 5.00001
    got[0, :2] = 5.00001, 5
    assert measure_numerics(reference, got).agreement == 1


def test_another_answer_counts_even_when_its_logit_differs_much() -> None:
    reference = np.zeros((10, 4), np.float32)
    reference[:, 0] = 10
    got = reference.copy()
    got[0, 1] = 100
    assert measure_numerics(reference, got).agreement == 0.9


@given(arrays(np.float32, (6, 5), elements=st.floats(-100, 100, width=32)))
def test_measures_agree_with_brute_force(reference: np.ndarray) -> None:
    got = reference[:, ::-1].copy()
    measured = measure_numerics(reference, got)
    assert measured.max_abs == pytest.approx(max(abs(float(a) - float(b)) for a, b in zip(reference.flat, got.flat)))
    assert measured.spread == pytest.approx(float(reference.max()) - float(reference.min()))
    assert -1.001 <= measured.cosine <= 1.001


def test_the_hardest_verdict_decides() -> None:
    gates = [Gate("n", verdict, "") for verdict in ("skipped", "pass", "inconclusive", "fail")]
    assert [hardest(gates[: n + 1]).verdict for n in range(4)] == ["skipped", "pass", "inconclusive", "fail"]
    assert [gate.exit_code for gate in gates] == [0, 0, 6, 4]


def test_random_weights_are_judged_by_their_own_tolerance_and_only_in_low_precision() -> None:
    got = LOGITS.copy()
    got[7, 3] += 0.03 * np.ptp(LOGITS)
    measured = measure_numerics(LOGITS, got)
    assert judge_numerics(measured, "fp16").verdict == "fail"
    assert judge_numerics(measured, "fp16", trained=False).verdict == "pass"
    assert judge_numerics(measured, "fp32", trained=False).verdict == "fail"


def test_of_many_images_one_in_a_hundred_may_be_odd_in_int8() -> None:
    """The smallest cosine of 10,000 images says how many there are; two in a hundred say that something is wrong."""
    reference = np.tile(LOGITS, (10, 1))
    for odd, expected in ((1, "pass"), (len(reference) // 50, "fail")):
        got = reference.copy()
        got[:odd] = got[:odd] - 0.55 * (got[:odd] - got[:odd].mean(1, keepdims=True)) + 0.05 * np.ptp(reference)
        measured = measure_numerics(reference, got)
        assert measured.cosine < 0.98
        assert measured.cosine <= measured.cosine_most
        found = judge_numerics(measured, "int8")
        assert found.verdict == expected, found.reason
