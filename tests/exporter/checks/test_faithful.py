"""The rule of the gate numerics: truth, yardstick and artifact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zoo.exporter.checks.faithful import RULES, judge_faithful, measure_distances, relative_distance

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.normal(size=(8, 20))
NOISE = {"fp32": 2e-6, "fp16": 2e-3, "bf16": 2e-2, "int8": 5e-2}


def near(size: float, seed: int) -> np.ndarray:
    return (TRUTH + size * np.random.default_rng(seed).normal(size=TRUTH.shape)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_what_is_rounded_otherwise_is_faithful(precision: str) -> None:
    gate = judge_faithful(TRUTH, near(NOISE[precision], 1), near(NOISE[precision], 2), precision)
    assert gate.verdict == "pass", gate.reason


def test_an_artifact_that_is_nearer_to_the_truth_than_its_yardstick_is_faithful() -> None:
    assert judge_faithful(TRUTH, near(1e-3, 1), near(1e-6, 2), "fp32").verdict == "pass"
    assert judge_faithful(TRUTH, near(NOISE["fp16"], 1), near(1e-6, 2), "fp16").verdict == "pass"


@pytest.mark.parametrize("precision", RULES)
def test_clearly_farther_than_rounding_explains_is_unfaithful(precision: str) -> None:
    yardstick = near(NOISE[precision], 1)
    wrong = yardstick.copy()
    wrong[:, 3] += 20 * NOISE[precision] * np.abs(TRUTH).max()
    gate = judge_faithful(TRUTH, yardstick, wrong, precision)
    assert (gate.verdict, "unfaithful" in gate.reason) == ("fail", True)


def test_int8_has_to_be_near_its_plan_not_only_as_far_from_the_truth() -> None:
    """A wrong scale gives other errors of the same size: from the truth alone they cannot be told apart."""
    yardstick, other = near(NOISE["int8"], 1), near(NOISE["int8"], 2)
    gate = judge_faithful(TRUTH, yardstick, other, "int8")
    assert gate.numbers["farther"] < RULES["int8"].farther
    assert (gate.verdict, "plan" in gate.reason) == ("fail", True)
    assert judge_faithful(TRUTH, yardstick, yardstick, "int8").verdict == "pass"


def test_an_ill_conditioned_network_widens_its_own_limit() -> None:
    """1e-3 in fp32 is wrong for a network whose source is 1e-6 away from float64, and right where that is 1e-3 too."""
    assert judge_faithful(TRUTH, near(1e-6, 1), near(1e-3, 2), "fp32").verdict == "fail"
    assert judge_faithful(TRUTH, near(1e-3, 1), near(1e-3, 2), "fp32").verdict == "pass"


@pytest.mark.parametrize("precision", RULES)
def test_a_few_images_may_be_a_little_farther_and_none_may_be_far(precision: str) -> None:
    yardstick = near(NOISE[precision], 1)
    for times, verdict in ((0.3, "pass"), (100, "fail")):
        artifact = yardstick.astype(np.float64)
        artifact[3] += times * NOISE[precision] * RANDOM.normal(size=TRUTH.shape[1])
        gate = judge_faithful(TRUTH, yardstick, artifact, precision)
        assert gate.verdict == verdict, gate.reason
    assert "on one image, near it on most" in gate.reason


def test_logits_that_are_cut_on_two_images_are_unfaithful() -> None:
    yardstick = near(2e-6, 1)
    bound = np.sort(yardstick.min(1))[1] + 1e-4  # below it lie the smallest logits of two images
    gate = judge_faithful(TRUTH, yardstick, np.maximum(yardstick, bound), "fp32")
    assert (gate.verdict, "on one image" in gate.reason) == ("fail", True)


def test_nan_always_fails_and_an_image_without_a_norm_never_does() -> None:
    odd = near(2e-6, 2)
    odd[3, 0] = np.nan
    gate = judge_faithful(TRUTH, near(2e-6, 1), odd, "fp32")
    assert (gate.verdict, "NaN" in gate.reason, "1 of 8" in gate.reason) == ("fail", True, True)
    flat, yardstick = TRUTH.copy(), near(2e-6, 1)
    flat[3] = 0.5
    yardstick[3] = 0.5 + 1e-7 * RANDOM.normal(size=TRUTH.shape[1])
    artifact = near(2e-6, 2)
    artifact[3] = yardstick[3][::-1]
    assert judge_faithful(flat, yardstick, artifact, "fp32").verdict == "pass"


def test_where_the_same_answer_for_all_would_pass_it_cannot_be_told() -> None:
    alike = np.tile(TRUTH[:1], (8, 1)) + 1e-3 * RANDOM.normal(size=TRUTH.shape)
    noise = (alike + 2e-2 * RANDOM.normal(size=TRUTH.shape)).astype(np.float32)
    gate = judge_faithful(alike, noise, noise, "bf16")
    assert (gate.verdict, "apart" in gate.reason) == ("inconclusive", True)
    assert judge_faithful(TRUTH[:1], near(1e-6, 1)[:1], near(1e-6, 2)[:1], "fp32").verdict == "inconclusive"


def test_nothing_compared_fails_and_shapes_must_agree() -> None:
    assert judge_faithful(TRUTH[:0], TRUTH[:0], TRUTH[:0], "fp32").verdict == "fail"
    with pytest.raises(ValueError, match="cannot be compared"):
        measure_distances(TRUTH, TRUTH, TRUTH[:3])


@given(arrays(np.float64, (4, 5), elements=st.floats(-1e3, 1e3)), st.floats(-50, 50), st.floats(0.1, 10))
def test_distances_do_not_see_what_softmax_does_not_see(rows: np.ndarray, shift: float, scale: float) -> None:
    other = rows + np.arange(5)
    before = relative_distance(rows, other)
    assert np.allclose(relative_distance(rows + shift, other + shift), before, rtol=1e-6, atol=1e-9)
    assert np.allclose(relative_distance(scale * rows, scale * other), before, rtol=1e-6, atol=1e-9)
    assert (relative_distance(rows, rows) == 0).all()


def test_where_no_true_logits_differ_nothing_can_be_told() -> None:
    flat = np.full((8, 20), 0.5)
    assert judge_faithful(flat, flat + near(1e-6, 1) - TRUTH, flat, "fp32").verdict == "inconclusive"
