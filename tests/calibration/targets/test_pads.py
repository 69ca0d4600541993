"""Paddings between integer layers are computed on integers, in the range of what they pad."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from calibration_help import calibrated, images
from torch import nn
from zoo.calibration.choice import Choice
from zoo.calibration.targets.torchscript import render


def rendered(pad: nn.Module) -> tuple[nn.Sequential, Any]:
    parts = [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, 2), nn.ReLU6(), pad, nn.Conv2d(8, 8, 3, 2), nn.ReLU()]
    module = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).eval()
    return module, render(calibrated(module), Choice(weight_bits=7))


@pytest.mark.parametrize("pad", [nn.ZeroPad2d((0, 1, 0, 1)), nn.ReflectionPad2d(1), nn.ConstantPad2d(1, 0.0)])
def test_integers_are_padded(pad: nn.Module) -> None:
    """Only the images are rounded, behind their padding, and what nn.Flatten passes on as floats."""
    module, quantised = rendered(pad)
    targets = Counter(node.target for node in quantised.graph.nodes)
    assert targets[torch.quantize_per_tensor] == 2
    assert targets[F.pad] == 1
    batch = torch.from_numpy(images(8, 1))
    with torch.inference_mode():
        reference = module(batch)
        assert float((quantised(batch) - reference).norm() / reference.norm()) < 0.1


@pytest.mark.parametrize("pad", [nn.ConstantPad2d(1, 3.0), nn.ReplicationPad2d(1)])
def test_paddings_that_torch_has_not_for_integers_are_computed_on_floats(pad: nn.Module) -> None:
    module, quantised = rendered(pad)
    assert not [node for node in quantised.graph.nodes if node.target is F.pad]
    batch = torch.from_numpy(images(8, 1))
    with torch.inference_mode():
        reference = module(batch)
        assert float((quantised(batch) - reference).norm() / reference.norm()) < 0.1
