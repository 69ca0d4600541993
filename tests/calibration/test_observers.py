"""Ranges against brute force on small tensors; streaming gives what one batch would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zoo.calibration.observers import (
    BINS,
    METHODS,
    Seen,
    entropy_clip,
    kl_divergence,
    merged,
    mse_clip,
    percentile_clip,
)

values = arrays(np.float32, st.integers(2, 300), elements=st.floats(-100, 100, width=32))


def seen(*batches: np.ndarray) -> Seen:
    made = Seen()
    for batch in batches:
        made.widen(max(float(np.abs(batch).max()), 1e-12))
        counts, _ = np.histogram(batch, BINS, (-made.bound, made.bound))
        made.add(float(batch.min()), float(batch.max()), counts.astype(np.int64))
    return made


@given(values, values)
@settings(max_examples=60, deadline=None)
def test_streaming_sees_what_one_batch_would(first: np.ndarray, second: np.ndarray) -> None:
    streamed, both = seen(first, second), np.concatenate([first, second])
    assert streamed.histogram.sum() == both.size
    assert (streamed.low, streamed.high) == (both.min(), both.max())
    assert streamed.bound >= np.abs(both).max() * (1 - 1e-6)
    whole, _ = np.histogram(both, BINS, (-streamed.bound, streamed.bound))
    # pairs of bins are added exactly: a value on an edge may fall to the other side of it, and no further
    mine, theirs = np.cumsum(streamed.histogram), np.cumsum(whole)
    assert (mine[:-1] <= theirs[1:]).all()
    assert (theirs[:-1] <= mine[1:]).all()


@given(values)
@settings(max_examples=60, deadline=None)
def test_every_range_holds_zero_and_lies_within_the_extremes(batch: np.ndarray) -> None:
    one = seen(batch)
    for method in METHODS:
        low, high = one.range(method)
        assert min(batch.min(), 0) - 1e-4 <= low <= 0 <= high <= max(batch.max(), 0) + 1e-4
        other = one.range(method, symmetric=True)
        assert other[0] == -other[1]
        assert other[1] >= max(-low, high) - 1e-6


def test_minmax_and_the_moving_average() -> None:
    one = seen(np.array([-1.0, 3.0]), np.array([-5.0, 1.0]))
    assert one.range("minmax") == (-5.0, 3.0)
    assert one.range("moving_average") == pytest.approx((-1.0 + 0.01 * -4.0, 3.0 + 0.01 * -2.0))


def test_percentile_leaves_out_what_numpy_would() -> None:
    batch = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    low, high = percentile_clip(seen(batch), 99.0)
    width = float(2 * np.abs(batch).max() / BINS)
    assert low == pytest.approx(np.percentile(batch, 0.5), abs=2 * width)
    assert high == pytest.approx(np.percentile(batch, 99.5), abs=2 * width)
    positive = np.abs(batch)
    assert percentile_clip(seen(positive), 99.0)[1] == pytest.approx(np.percentile(positive, 99), abs=2 * width)


def test_mse_is_the_best_of_all_clippings() -> None:
    batch = np.concatenate([np.random.default_rng(0).normal(size=20_000), [40.0]]).astype(np.float32)
    low, high = mse_clip(seen(batch))

    def error(share: float) -> float:
        bottom, top = share * min(batch.min(), 0.0), share * max(batch.max(), 0.0)
        scale = (top - bottom) / 255
        return float((((np.clip(np.round((batch - bottom) / scale), 0, 255)) * scale + bottom - batch) ** 2).sum())

    best = min((error(1 - step / 100), 1 - step / 100) for step in range(100))
    assert high == pytest.approx(best[1] * 40.0, rel=0.06)
    assert high < 40.0, "one outlier does not set the scale"
    assert low < 0


def test_entropy_cuts_a_long_tail_and_keeps_a_uniform() -> None:
    random = np.random.default_rng(0)
    tail = np.concatenate([random.normal(size=100_000), random.uniform(10, 40, 20)]).astype(np.float32)
    assert entropy_clip(seen(tail))[1] < 15
    uniform = random.uniform(-1, 1, 100_000).astype(np.float32)
    assert entropy_clip(seen(uniform))[1] > 0.95


def test_kl_divergence_and_merging() -> None:
    p = np.array([4.0, 0, 2, 2])
    assert kl_divergence(p, p) == pytest.approx(0)
    assert kl_divergence(p, np.array([1.0, 0, 3, 4])) > 0
    assert merged(np.array([4, 0, 2, 2]), 2).tolist() == [4.0, 0.0, 2.0, 2.0]
    assert merged(np.array([4, 2, 2, 0]), 2).tolist() == [3.0, 3.0, 2.0, 0.0]


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 4)), elements=st.floats(-9, 9, width=32))
)
@settings(max_examples=40, deadline=None)
def test_channel_means_are_those_of_all_batches(batch: np.ndarray) -> None:
    one = Seen()
    for part in (batch, 2 * batch):
        one.add_channels(part.min((0, 2)), part.max((0, 2)), part.sum((0, 2), dtype=np.float64), part[:, 0].size)
    both = np.concatenate([batch, 2 * batch])
    assert np.allclose(one.channel_mean, both.mean((0, 2), dtype=np.float64), atol=1e-5)
    assert np.array_equal(one.channel_low, both.min((0, 2)))
    assert np.array_equal(one.channel_high, both.max((0, 2)))
