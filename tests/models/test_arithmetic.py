"""Modules computed in float64 and in half precision, whatever they hold."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import tiny_model
from torch import Tensor, nn
from zoo.errors import UsageError
from zoo.exporter.backends.eager.modules import in_precision
from zoo.models.arithmetic import logits_in

IMAGES = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0"])
def test_float64_is_what_double_gives(name: str) -> None:
    module = tiny_model(name).module
    with torch.inference_mode():
        expected = copy.deepcopy(module).double()(torch.from_numpy(IMAGES).double()).numpy()
    assert np.array_equal(logits_in(module, IMAGES, "fp64"), expected)
    assert next(module.parameters()).dtype == torch.float32, "the module itself is left as it was"


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_half_precision_is_as_far_from_the_truth_as_torchs_own(name: str, precision: str) -> None:
    module = tiny_model(name).module
    truth, mine = logits_in(module, IMAGES, "fp64"), logits_in(module, IMAGES, precision)
    with torch.inference_mode():
        theirs = in_precision(module, precision)(torch.from_numpy(IMAGES)).double().numpy()
    assert 0.5 < np.linalg.norm(mine - truth) / np.linalg.norm(theirs - truth) < 2
    assert (mine == mine.astype(np.float32)).all()


class Holds(nn.Module):
    """A tensor as a plain attribute, one made in forward, a write into a view, float32 on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 4)
        self.scale = torch.full((4,), 1 / 3)

    def forward(self, x: Tensor) -> Tensor:
        made = self.layer(x.flatten(1)) * self.scale
        mask = torch.zeros(4, dtype=made.dtype)
        mask[1:3] = 1
        made = made + mask
        made.add_(1)
        return (made.float() / 3).to(made.dtype)


@pytest.mark.parametrize("arithmetic", ["fp64", "fp16", "bf16"])
def test_whatever_a_module_holds_takes_part(arithmetic: str) -> None:
    torch.manual_seed(0)
    module = Holds().eval()
    with torch.inference_mode():
        weight, bias = (one.double() for one in (module.layer.weight, module.layer.bias))
        made = (torch.from_numpy(IMAGES).double().flatten(1) @ weight.T + bias) * module.scale.double()
        expected = ((made + torch.tensor([0.0, 1, 1, 0])) + 1) / 3
    allowed = {"fp64": 1e-12, "fp16": 3e-3, "bf16": 3e-2}[arithmetic]
    assert np.abs(logits_in(module, IMAGES, arithmetic) - expected.numpy()).max() < allowed
    assert module.scale.dtype == torch.float32


def test_images_are_not_changed_by_a_module_that_works_in_place() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2).flatten(1)[:, :4]

    before = IMAGES.copy()
    logits_in(InPlace(), IMAGES, "fp64")
    assert np.array_equal(IMAGES, before)


def test_what_cannot_be_computed_so_is_said() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.dtype != torch.float32:
                raise TypeError("only float32 here")
            return x.flatten(1)[:, :4]

    with pytest.raises(UsageError, match="cannot be computed in fp64: TypeError: only float32 here"):
        logits_in(Picky(), IMAGES, "fp64")
