"""Channels that may be exchanged are told from those that may not, also behind a branch that is switched off."""

from __future__ import annotations

import pytest
import torch
from pruning_help import KEPT, NARROWED, Net
from torch import nn
from zoo.calibration.pruning.groups import Group, trace_groups
from zoo.calibration.pruning.members import Member
from zoo.calibration.pruning.symmetry import Probe, misfit, tensors_of
from zoo.errors import UsageError

SHAPE = (3, 8, 8)


def group_of(module: nn.Module, root: str = "first") -> Group:
    return next(group for group in trace_groups(module, SHAPE, [module.last]).groups if group.root == root)


def test_channels_that_are_coupled_rightly_may_be_exchanged() -> None:
    module = NARROWED["layer norm and PReLU"]().eval()
    probe = Probe(module, SHAPE)
    assert probe.holds([group_of(module), group_of(module, "second")])
    assert probe.holds([group_of(module)]), "the copy is as it was"


class SwitchedOff(nn.Module):
    """A residual branch with a channel shuffle and a scale of zero, as many are initialised."""

    def __init__(self, shuffle: nn.Module) -> None:
        super().__init__()
        self.inner, self.shuffle = nn.Conv2d(32, 32, 1), shuffle
        self.outer, self.scale = nn.Conv2d(32, 32, 1), nn.Parameter(torch.zeros(32, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.scale * self.outer(self.shuffle(self.inner(images)))


@pytest.mark.parametrize("right", [True, False])
def test_a_wrong_coupling_behind_a_scale_of_zero_is_seen(right: bool) -> None:
    shuffle = nn.ReLU() if right else KEPT["channel shuffle"][0]().between
    module = Net(SwitchedOff(shuffle)).eval()
    assert Probe(module, SHAPE).holds([group_of(module, "between.inner")]) is right


class InFloat32(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(images, torch.ones(32, 1, 1, 1), groups=32)


def test_a_forward_that_makes_float32_tensors_is_judged_in_float32() -> None:
    module = Net(InFloat32()).eval()
    assert Probe(module, SHAPE).holds([group_of(module)])


def test_a_layer_that_cannot_have_the_channels_is_named() -> None:
    module = KEPT["pixel shuffle"][0]().eval()
    assert misfit(group_of(module), module).startswith("second (Conv2d) has 8 channels where 32 come")
    assert misfit(group_of(module, "second"), module) == ""
    member = Member("between", True, (0,), (0,))
    with pytest.raises(UsageError, match=r"between \(PixelShuffle\) is a layer that zoo cannot narrow"):
        list(tensors_of(module, member))


class Gained(nn.Conv2d):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.gain = nn.Parameter(torch.ones(sizes[1], 1, 1, 1))

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as it is called in Conv2d
        return nn.functional.conv2d(input, self.weight * self.gain, self.bias)


def test_a_convolution_with_a_parameter_of_its_own_is_named() -> None:
    module = Net(nn.ReLU()).eval()
    module.first = Gained(3, 32, 3)
    assert misfit(group_of(module), module) == "first (Gained) has a tensor of its own, gain, that stays as long"
