"""Sizes that are tried: drawn, repeatable, within range and bound; and what is wrong at one of them is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.checks.batch_sizes import VALUES, draw_sizes
from zoo.exporter.checks.consistency import INTEGERS, allowed_shift, judge_consistency, measure_consistency

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 5, 5)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(75, 10)).astype(np.float32)
SMALL, LARGE = 3 * 64 * 64, 3 * 224 * 224
ranges = st.lists(st.integers(1, 65_536), min_size=3, max_size=3).map(lambda three: Batch(*sorted(three)))


@given(ranges, st.integers(1, 3 * 1024 * 1024), st.integers(0, 2**32 - 1))
def test_what_is_drawn(claimed: Batch, values: int, seed: int) -> None:
    found = draw_sizes(claimed, values, seed)
    assert found == draw_sizes(claimed, values, seed), "the same seed, the same sizes"
    assert list(found.tried) == sorted(set(found.tried))
    assert all(claimed.min <= size <= claimed.max for size in found.tried)
    assert {claimed.min, min(claimed.min + 1, claimed.max)} <= set(found.tried), "whatever they cost"
    rest = [size for size in found.tried if size > claimed.min + 1]
    assert not rest or sum(found.tried) * values <= VALUES + (2 * claimed.min + 1) * values
    assert not set(found.left_out) & set(found.tried)
    assert bool(found.why) == bool(found.left_out)
    assert claimed.max in {*found.tried, *found.left_out}


def test_edges_powers_of_two_and_their_neighbours() -> None:
    found = draw_sizes(Batch(1, 8, 32), SMALL)
    assert set(found.tried) >= {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32}
    assert found.left_out == ()
    assert found.told == f"batches of {len(found.tried)} sizes from 1 to 32, of 1 to 32"


def test_large_images_are_tried_in_fewer_and_it_is_said_which_are_not() -> None:
    found = draw_sizes(None, LARGE)
    assert {1, 2, 3, 12} <= set(found.tried)
    assert sum(found.tried) * LARGE <= VALUES
    assert "untried 4, 8, 16, 32, 64, 128, 256, 512, 1024: all together at most 3,000,000 values go in" in found.told


def test_what_is_slow_is_tried_in_fewer() -> None:
    found = draw_sizes(None, SMALL, seconds=0.5)
    assert found.tried == (1, 2, 3, 13)
    assert found.why == "an image takes 0.5 s, all together at most 10 s"
    assert draw_sizes(None, SMALL, seconds=100.0).tried == (1, 2)


def test_a_small_shift_of_all_rows_is_told_from_rounding_that_goes_either_way() -> None:
    sizes = draw_sizes(Batch(1, 8, 64), IMAGES[0].size)

    def judged(planted) -> str:
        looks = measure_consistency(planted, IMAGES, allowed=0.1, sizes=sizes, allowed_shift=0.03)
        return judge_consistency(looks, sizes).verdict

    few = 0.05 * np.ptp(honest(IMAGES))
    assert judged(lambda batch: honest(batch) + (np.arange(len(batch)) % 4 == 1)[:, None] * few) == "pass"
    assert judged(lambda batch: honest(batch) + (len(batch) > 1) * few) == "fail"


def test_what_the_middle_row_may_move() -> None:
    assert allowed_shift("int8", 0.02) == INTEGERS
    assert allowed_shift("int8", 0.02, device="cuda") == allowed_shift("fp16", 0.02) == 0.02
    assert allowed_shift("int8", 0.5, asked=0.5) == 0.5, "a budget's limit counts alone"


def test_another_model_is_tried_at_other_sizes() -> None:
    assert len({draw_sizes(None, SMALL, seed).tried for seed in range(20)}) > 5


def honest(batch: np.ndarray) -> np.ndarray:
    return np.stack([image.reshape(-1) @ WEIGHTS for image in batch])


FAULTS = {
    "from 101 on": lambda size: 5.0 * (size > 100),
    "at two alone": lambda size: 5.0 * (size == 2),
    "at the largest alone": lambda size: 5.0 * (size == 1024),
    "at multiples of 16": lambda size: 5.0 * (size % 16 == 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str) -> None:
    sizes = draw_sizes(Batch(1, 8, 1024), IMAGES[0].size)
    looks = measure_consistency(
        lambda batch: honest(batch) + np.float32(FAULTS[fault](len(batch))), IMAGES, allowed=1e-4, sizes=sizes
    )
    bad = {look.name for look in looks if not look.passed}
    assert bad == {f"a batch of {size}" for size in sizes.tried if FAULTS[fault](size)}
    assert judge_consistency(looks, sizes).verdict == "fail"


def test_the_sizes_are_in_the_gate() -> None:
    sizes = draw_sizes(Batch(1, 2, 4), IMAGES[0].size)
    gate = judge_consistency(measure_consistency(honest, IMAGES, allowed=1e-4, sizes=sizes), sizes)
    assert gate.verdict == "pass"
    assert gate.numbers["batch_sizes"]["tried"] == (1, 2, 3, 4)
    assert gate.reason.endswith("; batches of 4 sizes from 1 to 4, of 1 to 4")


def test_a_batch_is_filled_with_all_images_from_another_one_on() -> None:
    seen: list[int] = []

    def run(batch: np.ndarray) -> np.ndarray:
        seen.append(len({image.tobytes() for image in batch}))
        return honest(batch)

    measure_consistency(run, IMAGES, allowed=1e-4, sizes=draw_sizes(Batch(1, 8, 64), IMAGES[0].size))
    assert seen[-1] == len(IMAGES)
