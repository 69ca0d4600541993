"""Zeros: the 2:4 pattern against brute force, one threshold for unstructured ones, and that training keeps them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zoo.calibration.pruning.pattern import holds_2_4
from zoo.calibration.pruning.sparsity import layers_2_4, mask_2_4, masks_by_magnitude, sparsify, sparsity_of
from zoo.errors import UsageError
from zoo.models.registry import create_model
from zoo.models.training.step import Zeros


@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([(), (1, 1), (3, 3)]), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_two_of_four_inputs_stay_and_they_are_the_largest(outputs: int, fours: int, kernel, seed: int) -> None:
    weight = torch.randn(outputs, 4 * fours, *kernel, generator=torch.Generator().manual_seed(seed))
    mask = mask_2_4(weight)
    assert holds_2_4((weight * mask).numpy())
    flat, kept = weight.reshape(outputs, fours, 4, -1).abs(), mask.reshape(outputs, fours, 4, -1)
    for out, four, place in itertools.product(range(outputs), range(fours), range(flat.shape[-1])):
        values, stays = flat[out, four, :, place], kept[out, four, :, place]
        assert stays.sum() == 2
        assert values[stays].min() >= values[~stays].max()


def test_the_pattern_is_along_inputs_and_not_outputs() -> None:
    weight = np.ones((8, 16, 3, 3), np.float32)
    assert not holds_2_4(weight)
    weight[::2] = 0
    assert not holds_2_4(weight), "half of the outputs are zero: that is another pattern"
    weight = np.ones((8, 16, 3, 3), np.float32)
    weight[:, ::2] = 0
    assert holds_2_4(weight)
    weight[3, 0, 1, 1] = 1
    assert not holds_2_4(weight), "one value is enough"
    assert not holds_2_4(np.zeros((4, 6), np.float32)), "six inputs are no fours"


def test_layers_that_sparse_kernels_would_not_take_stay_dense() -> None:
    torch.manual_seed(0)
    module = create_model("mobilenet_v2", num_classes=10, stem="small").eval()
    found = {one.layer: one for one in sparsify(module, "2:4")}
    sparse = {name for name, one in found.items() if not one.dense}
    assert set(layers_2_4(module)) == sparse
    assert all(one.zeros == one.weights // 2 for name, one in found.items() if name in sparse)
    parts = dict(module.named_modules())
    for name, one in found.items():
        part = parts[name]
        grouped = isinstance(part, nn.Conv2d) and part.groups > 1
        fits = part.weight.shape[0] % 8 == 0 and part.weight.shape[1] % 16 == 0 and not grouped
        assert fits == (name in sparse), one
    assert any("groups" in one.dense for one in found.values())


@given(st.floats(0.05, 0.9), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_unstructured_zeros_are_the_smallest_and_as_many_as_asked(sparsity: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = {"a": torch.randn(10, 20, generator=generator), "b": 9 * torch.randn(5, 40, generator=generator)}
    masks = masks_by_magnitude(weights, sparsity)
    zeros = sum(int((~mask).sum()) for mask in masks.values())
    assert zeros == round(sparsity * 400)
    for name, mask in masks.items():
        size = weights[name].abs()
        assert mask.any()
        if (~mask).any():
            assert size[mask].min() >= size[~mask].max()
    assert abs(float((~masks["a"]).float().mean() - (~masks["b"]).float().mean())) < 0.25, "scale is no importance"


def test_zeros_stay_zero_and_the_rest_learns() -> None:
    module = nn.Sequential(nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(16, 4))
    sparsify(module, "2:4", keep=[module[2]])
    zeros = module[0].weight == 0
    kept = Zeros(module, ["0.weight"])
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    before = module[0].weight.detach().clone()
    for _ in range(3):
        optimiser.zero_grad()
        module(torch.randn(4, 16, 3, 3)).square().sum().backward()
        optimiser.step()
        kept.keep()
    assert (module[0].weight[zeros] == 0).all()
    assert (module[0].weight != before)[~zeros].all()
    assert [one.zeros for one in sparsity_of(module)] == [module[0].weight.numel() // 2, 0]


def test_keeping_zeros_does_not_wait_for_a_device() -> None:
    """On the meta device every wait raises."""
    module = nn.Conv2d(16, 16, 3, device="meta")
    Zeros(module, ["weight"]).keep()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: sparsify(nn.Conv2d(3, 8, 3), "2:4"), "no layer can be 2:4 sparse"),
        (lambda: sparsify(nn.Linear(16, 8), "unstructured", 1.0), "above 0 and below 1"),
        (lambda: sparsify(nn.ReLU(), "2:4"), "there are none"),
    ],
)
def test_what_cannot_be_is_said(change, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        change()
