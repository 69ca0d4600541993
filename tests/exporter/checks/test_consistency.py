"""Runners made of arithmetic, one fault each."""

from __future__ import annotations

import numpy as np
import pytest
from zoo.errors import IntegrityError
from zoo.exporter.checks.consistency import allowed_difference, judge_consistency, measure_consistency
from zoo.exporter.checks.numerics import TOLERANCES

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 5, 5)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(75, 10)).astype(np.float32)


def honest(batch: np.ndarray) -> np.ndarray:
    """Row by row, so that bits cannot depend on the batch."""
    return np.stack([image.reshape(-1) @ WEIGHTS for image in batch])


def leaks(batch: np.ndarray) -> np.ndarray:
    return honest(batch + 0.02 * batch.mean(0))


def frozen(batch: np.ndarray) -> np.ndarray:
    if len(batch) != 1:
        raise IntegrityError(f"it fails on a batch of {len(batch)} images: got 5, expected 1")
    return honest(batch)


def first_row_is_last(batch: np.ndarray) -> np.ndarray:
    return honest(batch)[[-1, *range(1, len(batch))]]


def adds_its_place(batch: np.ndarray) -> np.ndarray:
    return honest(batch) + np.arange(len(batch), dtype=np.float32)[:, None]


class Drifts:
    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.runs += 1
        return honest(batch) + np.float32(1e-5 * self.runs)


class Nan:
    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return honest(batch) if len(batch) == 1 else honest(batch) * np.float32("nan")


def failed(run, **options) -> set[str]:
    looks = measure_consistency(run, IMAGES, **{"allowed": 1e-4, "again": run, **options})
    verdict = judge_consistency(looks)
    assert (verdict.verdict == "pass") == all(look.passed for look in looks)
    return {look.name for look in looks if not look.passed}


def test_an_honest_one_passes_bit_for_bit() -> None:
    gate = judge_consistency(measure_consistency(honest, IMAGES, allowed=1e-4, again=honest))
    assert (gate.verdict, gate.reason) == ("pass", "6 comparisons agree bit for bit")
    assert [check["passed"] for check in gate.numbers["checks"]] == [True] * 6


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (leaks, "one by one and 5 at once"),
        (leaks, "a last batch with fewer rows"),
        (frozen, "one by one and 5 at once"),
        (first_row_is_last, "a reordered batch"),
        (adds_its_place, "identical rows of a batch"),
        (Drifts(), "a repeated run"),
        (Drifts(), "loaded twice"),
        (Nan(), "one by one and 5 at once"),
    ],
)
def test_each_fault_is_found(fault, found: str) -> None:
    assert found in failed(fault)


def test_a_gpu_may_differ_by_the_tolerance() -> None:
    assert failed(Drifts(), device="cuda") == set()


def test_what_a_runtime_says_is_in_the_reason() -> None:
    gate = judge_consistency(measure_consistency(frozen, IMAGES, allowed=1e-4))
    assert "got 5, expected 1" in gate.reason
    assert gate.numbers["checks"][0]["difference"] is None, "JSON has no infinity"


def test_one_that_cannot_run_at_all() -> None:
    def broken(_batch: np.ndarray) -> np.ndarray:
        raise IntegrityError("no kernel")

    gate = judge_consistency(measure_consistency(broken, IMAGES, allowed=1e-4))
    assert (gate.verdict, gate.reason) == ("fail", "a batch of one: no kernel")
    assert judge_consistency([]).verdict == "fail"


def test_what_is_allowed() -> None:
    assert allowed_difference("onnx", "fp32", trained=True) == TOLERANCES["fp32"].relative
    assert allowed_difference("onnx", "int8", trained=True) == TOLERANCES["fp16"].relative
    assert allowed_difference("onnx", "fp32", trained=True, asked=0.5) == 0.5
