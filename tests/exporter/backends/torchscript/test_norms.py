"""Norms that are called as functions, and what stands between a convolution and its activation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from calibration_help import calibrated, images
from torch import Tensor, nn
from torch.nn import functional
from zoo.calibration.choice import Choice
from zoo.exporter.backends.torchscript.as_modules import as_modules
from zoo.exporter.backends.torchscript.int8 import float_layers, render


class Act(nn.BatchNorm2d):
    """As BatchNormAct2d of timm: an assertion, the norm as a function, nothing, the activation."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        torch._assert(input.ndim == 4, f"expected 4D input (got {input.ndim}D input)")
        made = functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1)
        return self.act(self.drop(made))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 3, 2, bias=False), Act(8), nn.Linear(8, 10)
        self.norm.running_mean = torch.randn(8)
        self.norm.running_var = torch.rand(8) + 0.5
        self.norm.weight.data.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def test_the_graph_computes_the_same_with_modules(small: nn.Module) -> None:
    made: Any = as_modules(small)
    batch = torch.from_numpy(images(2))
    assert torch.allclose(made(batch), small(batch), atol=1e-6)
    assert [type(part).__name__ for part in made.modules()].count("BatchNorm2d") == 1
    assert not [node for node in made.graph.nodes if "assert" in str(node.target) or "ndim" in str(node.args)]


def test_convolution_norm_and_activation_are_one_integer_layer(small: nn.Module) -> None:
    found = calibrated(small)
    assert not float_layers(found, Choice(weight_bits=7))
    kinds = [type(part).__name__ for part in render(found, Choice(weight_bits=7)).modules()]
    assert "ConvReLU2d" in kinds


def test_statistics_of_the_batch_are_no_module(small: nn.Module) -> None:
    class Own(Small):
        def forward(self, x: Tensor) -> Tensor:
            made = functional.batch_norm(self.first(x), None, None, training=True)
            return self.last(made.mean((2, 3)))

    made: Any = as_modules(Own().eval())
    assert not [part for part in made.modules() if type(part) is nn.BatchNorm2d]


def test_layers_without_a_kernel_are_named() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.up, self.last = nn.Conv2d(3, 8, 3, 2), nn.ConvTranspose2d(8, 8, 2, 2), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(functional.relu(self.up(functional.relu(self.first(x)))).mean((2, 3)))

    torch.manual_seed(0)
    found = calibrated(Turned().eval())
    names = [node.name for node in found.graph.graph.node if node.op_type == "ConvTranspose"]
    assert float_layers(found, Choice(weight_bits=7)) == frozenset(names)
