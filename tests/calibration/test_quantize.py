"""Scales, integers, bias correction and the draw of images, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zoo.calibration.bias_correction import shift_of
from zoo.calibration.images import choose_images
from zoo.calibration.quantize import affine_uint8, channel_scales, from_int8, symmetric_scale, to_int8
from zoo.errors import UsageError

weights = arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4), st.just(3)), elements=st.floats(-3, 3, width=32)
)


@given(st.floats(-1e4, 0), st.floats(0, 1e4))
def test_affine_holds_zero_exactly_and_the_ends_within_a_step(low: float, high: float) -> None:
    made = affine_uint8((low, high))
    assert 0 <= made.zero_point <= 255
    ends = made.scale * (np.array([0, 255]) - made.zero_point)
    assert ends[0] == pytest.approx(low, abs=made.scale + 1e-5)
    assert ends[1] == pytest.approx(high, abs=made.scale + 1e-5)


@given(weights, st.sampled_from([7, 8]))
@settings(deadline=None)
def test_weights_are_rounded_to_the_nearest_step_of_their_channel(weight: np.ndarray, bits: int) -> None:
    scales = channel_scales(weight, 0, bits)
    integers = to_int8(weight, scales, 0, bits)
    limit = 2 ** (bits - 1) - 1
    assert np.abs(integers.astype(int)).max() <= limit
    error = np.abs(from_int8(integers, scales, 0) - weight)
    assert (error <= scales[:, None, None] / 2 * (1 + 1e-3) + 1e-7).all()


def test_symmetric_scales() -> None:
    assert symmetric_scale(127.0) == 1.0
    assert symmetric_scale(63.0, 7) == 1.0
    assert symmetric_scale(0.0) > 0


def test_seven_bits_keep_pairs_of_products_within_16_bits() -> None:
    """What vpmaddubsw does on a CPU without VNNI, emulated: no such CPU was at hand. It adds two products of uint8 and
    int8 in a signed 16-bit integer that saturates."""
    random = np.random.default_rng(0)
    activations = random.integers(0, 256, (10_000, 2)).astype(np.int32)
    activations[0] = 255
    for bits, saturates in ((8, True), (7, False)):
        limit = 2 ** (bits - 1) - 1
        weight = random.integers(-limit, limit + 1, (10_000, 2)).astype(np.int32)
        weight[0] = limit
        exact = (activations * weight).sum(1)
        kept = np.clip(exact, -(2**15), 2**15 - 1)
        assert bool((exact != kept).any()) == saturates


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_bias_correction_takes_back_the_shift_of_the_mean(groups: int) -> None:
    import torch

    random = np.random.default_rng(groups)
    weight = random.normal(size=(8, 4 // groups, 3, 3))
    rounded = weight + random.normal(scale=0.1, size=weight.shape)
    images = random.normal(loc=random.normal(size=(1, 4, 1, 1)), size=(64, 4, 9, 9))

    def run(one: np.ndarray) -> np.ndarray:
        return torch.nn.functional.conv2d(torch.from_numpy(images), torch.from_numpy(one), groups=groups).numpy()

    shift = (run(rounded) - run(weight)).mean((0, 2, 3))
    predicted = shift_of(weight, rounded, images.mean((0, 2, 3)), groups)
    assert np.abs(predicted - shift).max() < 0.15 * np.abs(shift).max() + 0.02


def test_bias_correction_of_a_matrix_product_and_of_flattened_channels() -> None:
    weight = np.arange(12.0).reshape(2, 6)
    rounded = weight + 0.5

    def given(mean: np.ndarray, axis: int = 0) -> list[float] | None:
        turned = (weight, rounded) if axis == 0 else (weight.T, rounded.T)
        shift = shift_of(*turned, mean, channel_axis=axis)
        return None if shift is None else shift.tolist()

    assert given(np.ones(6)) == [3.0, 3.0]
    assert given(np.array([1.0, 2.0])) == [4.5, 4.5], "three elements a channel"
    assert given(np.ones(6), axis=1) == [3.0, 3.0]
    assert given(np.ones(4)) is None, "means of another dimension"
    assert given(np.zeros(0)) is None


@given(st.lists(st.integers(0, 4), min_size=5, max_size=200), st.integers(1, 60), st.integers(0, 9))
def test_images_are_balanced_over_classes(labels: list[int], count: int, seed: int) -> None:
    array = np.array(labels)
    if len(set(labels)) == 1:
        with pytest.raises(UsageError, match="of one class"):
            choose_images(array, count, seed)
        return
    chosen, notes = choose_images(array, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, len(labels))
    took = {one: int((array[chosen] == one).sum()) for one in set(labels)}
    had = {one: labels.count(one) for one in set(labels)}
    for one, number in took.items():
        assert number == had[one] or number >= max(took.values()) - 1
    assert bool(notes), "fewer than 100 are warned of"


def test_the_draw_is_seeded_and_random() -> None:
    labels = np.arange(1000) % 10
    first, notes = choose_images(labels, 512, 0)
    assert notes == ()
    assert np.array_equal(first, choose_images(labels, 512, 0)[0])
    assert not np.array_equal(first, choose_images(labels, 512, 1)[0])
    for wrong in (0, -1):
        with pytest.raises(UsageError, match="at least 1"):
            choose_images(labels, wrong)
    with pytest.raises(UsageError, match="got none"):
        choose_images(labels[:0])
