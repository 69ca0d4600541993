"""Errors of a foreign module name the layer that raised them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo.calibration.pruning.raised import named, raised_in, running_layer


def test_the_innermost_layer_is_named() -> None:
    module = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(3, 4)))
    with pytest.raises(RuntimeError) as caught:
        module(torch.zeros(2, 5))
    assert raised_in(caught.value, module).startswith("1.0 (Linear): RuntimeError: mat1 and mat2")
    assert named(module, "") == "the model (Sequential)"
    assert running_layer(ValueError("elsewhere"), module) is None
    assert raised_in(ValueError("elsewhere\nmore"), module) == "ValueError: elsewhere"
