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
from zoo.exporter.backends.torchscript.as_modules import as_modules
from zoo.exporter.backends.torchscript.int8 import render


def rendered(pad: nn.Module) -> tuple[nn.Sequential, Any]:
    parts = [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, 2), nn.ReLU6(), pad, nn.Conv2d(8, 8, 3, 2), nn.ReLU()]
    module = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).eval()
    return module, render(calibrated(module), Choice(weight_bits=7))


@pytest.mark.parametrize(
    "pad", [nn.ZeroPad2d((0, 1, 0, 1)), nn.ReflectionPad2d(1), nn.ConstantPad2d((1, 0, 1, 0), 0.0)]
)
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


class Padded(nn.Module):
    """Zeros before four convolutions: alike on both sides twice, on one side, and before two that share them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.depthwise = nn.Conv2d(3, 8, 3, 2, padding=(1, 0)), nn.Conv2d(8, 8, 5, groups=8)
        self.aside, self.left, self.right = nn.Conv2d(8, 8, 3, 2), nn.Conv2d(8, 4, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(F.pad(self.first(F.pad(x, (1, 1, 0, 0))), (2, 2, 2, 2)))
        shared = F.pad(self.aside(F.pad(x, (0, 1, 0, 1))), (1, 1, 1, 1))
        return torch.cat([self.left(shared), self.right(shared)], 1)


def test_convolutions_pad_for_themselves_where_they_can() -> None:
    """fbgemm's depthwise kernel is many times faster with a padding of its own."""
    torch.manual_seed(0)
    module = Padded().eval()
    made: Any = as_modules(module)
    assert (made.first.padding, made.depthwise.padding, made.aside.padding) == ((1, 1), (2, 2), (0, 0))
    assert module.depthwise.padding == (0, 0), "the module itself is as it was"
    assert [node.args[1] for node in made.graph.nodes if node.target is F.pad] == [(0, 1, 0, 1), (1, 1, 1, 1)]
    batch = torch.from_numpy(images(2, 1))
    with torch.inference_mode():
        torch.testing.assert_close(made(batch), module(batch))
