"""Copies of modules that copy.deepcopy refuses, and one line for those that cannot be copied."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from zoo.errors import UsageError
from zoo.models.copies import copy_of


def test_computed_tensors_are_copied_by_value_wherever_they_are_kept() -> None:
    layer: Any = nn.Conv2d(3, 4, 3)
    module = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.twice = layer.weight * 2
    layer.cached = {"both": [layer.weight + 1, 3]}
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(module)
    made = copy_of(module)
    assert torch.equal(made.twice, module.twice)
    assert torch.equal(made[0].cached["both"][0], layer.weight + 1)
    assert made[0].weight is not module[0].weight
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(made(images), module(images))


@pytest.mark.filterwarnings("ignore")
def test_the_older_weight_norm_goes_to_half_precision() -> None:
    module = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    made = copy_of(module).to(torch.bfloat16)
    assert made(torch.randn(1, 3, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_what_cannot_be_copied_is_one_line_with_the_place() -> None:
    class Stubborn(nn.Module):
        def __deepcopy__(self, memo):
            raise NotImplementedError("not me\nnever")

    with pytest.raises(
        UsageError, match=r"^1\.0 \(Stubborn\) cannot be copied: NotImplementedError: not me .*line \d+"
    ) as raised:
        copy_of(nn.Sequential(nn.ReLU(), nn.Sequential(Stubborn())))
    assert "\n" not in str(raised.value)
