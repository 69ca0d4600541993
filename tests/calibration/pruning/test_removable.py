"""Channels go where that is right, and stay with the reason where it is not; never a traceback, never a wrong cut."""

from __future__ import annotations

import pytest
import torch
from pruning_help import KEPT, NARROWED, Net
from torch import nn
from zoo.calibration.pruning.budget import Budget
from zoo.calibration.pruning.groups import Group
from zoo.calibration.pruning.removable import largest_that_hold, structure_of
from zoo.calibration.pruning.structured import prune_channels
from zoo.errors import UsageError
from zoo.models.widths import resize

SHAPE = (3, 8, 8)


def halved(names: list[str]) -> Budget:
    return Budget(None, round_to=4, stages=dict.fromkeys(names, 0.5))


@pytest.mark.parametrize("name", NARROWED)
def test_every_layer_with_one_value_a_channel_is_narrowed_and_rebuilt(name: str) -> None:
    torch.manual_seed(0)
    module = NARROWED[name]().eval()
    root = next(group.root for group in structure_of(module, SHAPE, [module.last]).groups)
    assert root == ("between" if name == "transposed depthwise" else "first"), "the same channels, by another name"
    pruned = prune_channels(module, SHAPE, halved([root]))
    assert {group.root: group.kept for group in pruned.groups if group.kept < group.channels} == {root: 16}
    assert pruned.stays == {}
    again = NARROWED[name]().eval()
    resize(again, pruned.widths)
    again.load_state_dict(module.state_dict())
    images = torch.randn(2, *SHAPE)
    with torch.no_grad():
        assert torch.equal(again(images), module(images))


@pytest.mark.parametrize("name", KEPT)
def test_channels_that_something_counts_stay_with_the_reason(name: str) -> None:
    torch.manual_seed(0)
    make, words = KEPT[name]
    module = make().eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    structure = structure_of(module, SHAPE, [module.last])
    assert [group.root for group in structure.groups] == ["second"]
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(structure.stays["first"])
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    pruned = prune_channels(module, SHAPE, Budget(None, round_to=4, stages={"second": 0.5}))
    assert module(torch.randn(2, *SHAPE)).shape == (2, 5)
    assert pruned.stays == structure.stays


def test_as_many_channels_of_each_group_of_a_norm_go() -> None:
    module = NARROWED["group norm"]().eval()
    with torch.no_grad():
        module.first.weight[:16] *= 1e-3  # four of the norm's eight groups score lowest
        kept = torch.cat([module.first.weight[block : block + 4].flatten(1).norm(dim=1).topk(2).indices.sort().values
                          + block for block in range(0, 32, 4)])  # fmt: skip
        weight = module.first.weight[kept].clone()
        module.second.weight.fill_(1.0)
    prune_channels(module, SHAPE, halved(["first"]))
    assert torch.equal(module.first.weight, weight)


def test_a_module_of_which_nothing_can_go_is_refused_with_the_reason() -> None:
    module = nn.Sequential(nn.Conv2d(3, 32, 3), nn.PixelShuffle(2), nn.Conv2d(8, 5, 3), nn.AdaptiveAvgPool2d(1),
                           nn.Flatten()).eval()  # fmt: skip
    with pytest.raises(UsageError, match=r"no channels of Sequential.*2 \(Conv2d\) has 8 channels.*--pattern"):
        structure_of(module, SHAPE, [module[2]])


class Untraceable(nn.Module):
    def forward(self, images: torch.Tensor) -> object:
        return images, "a text"


def test_what_cannot_be_traced_is_one_line_with_the_class() -> None:
    with pytest.raises(UsageError, match="Untraceable cannot be traced for pruning: .*--pattern unstructured"):
        structure_of(Untraceable().eval(), SHAPE)
    with pytest.raises(UsageError, match=r"cannot take images of \(1, 8, 8\): first \(Conv2d\): RuntimeError"):
        structure_of(Net(nn.ReLU()).eval(), (1, 8, 8))


def test_the_largest_set_that_holds_is_found_by_halves() -> None:
    groups = [Group(str(number), 8, ()) for number in range(16)]
    tried: list[int] = []

    def check(some) -> str:
        tried.append(len(some))
        return "5 and 6 are bad" if {"5", "6"} & {group.root for group in some} else ""

    good, refused = largest_that_hold(groups, check)
    assert refused == {"5": "5 and 6 are bad", "6": "5 and 6 are bad"}
    assert [group.root for group in good] == [str(number) for number in range(16) if number not in (5, 6)]
    assert len(tried) < 16
    tried.clear()
    assert largest_that_hold(groups[:5], check) == (groups[:5], {})
    assert tried == [5], "without a problem it is tried once"
