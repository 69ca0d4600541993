"""Blocks of channels, of which as many have to go."""

from __future__ import annotations

import pytest
from torch import nn
from zoo.calibration.pruning.blocks import blocks_of
from zoo.calibration.pruning.groups import Group
from zoo.calibration.pruning.members import Member
from zoo.errors import UsageError

EVERY = tuple(range(32))


def member(layer: str, places: tuple[int, ...] = EVERY) -> Member:
    return Member(layer, True, places, tuple(range(len(places))))


def test_blocks_of_two_layers_are_their_common_parts() -> None:
    module = nn.ModuleDict({"four": nn.GroupNorm(4, 32), "heads": nn.MultiheadAttention(32, 8), "one": nn.ReLU()})
    assert blocks_of([member("one")], 32, module) == ()
    assert blocks_of([member("four")], 32, module) == tuple(channel // 8 for channel in EVERY)
    assert blocks_of([member("four"), member("heads")], 32, module) == tuple(channel // 4 for channel in EVERY)


def test_blocks_that_do_not_fit_are_refused() -> None:
    module = nn.ModuleDict({"three": nn.GroupNorm(3, 24), "four": nn.GroupNorm(4, 24), "wide": nn.GroupNorm(4, 64)})
    with pytest.raises(UsageError, match="do not fit each other"):
        blocks_of([member("three", EVERY[:24]), member("four", EVERY[:24])], 24, module)
    with pytest.raises(UsageError, match=r"wide \(GroupNorm\) sees other channels"):
        blocks_of([member("wide")], 32, module)


def test_a_group_gives_as_many_channels_of_each_block() -> None:
    group = Group("conv", 8, (), (0, 0, 0, 0, 1, 1, 1, 1))
    assert group.lowest([1, 2, 3, 4, 50, 60, 8, 7], 4) == [0, 1, 6, 7]
    assert group.step(8) == 8
    assert group.step(3) == 6
    assert Group("conv", 4, ()).lowest([4, 3, 2, 1], 2) == [3, 2]
