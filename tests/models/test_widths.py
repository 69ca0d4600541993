"""A narrower module is rebuilt from the record of what became smaller, whatever class its layers are."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from zoo.config import from_mapping, to_json
from zoo.errors import IntegrityError
from zoo.models.runs import Narrowed, Origin
from zoo.models.widths import narrowed, resize, widths_of


class Own(nn.Module):
    """A user's layer, with a parameter, a buffer and a number of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.calls = channels, 0
        self.scale = nn.Parameter(torch.rand(1, channels, 1, 1), requires_grad=False)
        self.register_buffer("mean", torch.rand(channels))


def test_what_became_smaller_is_recorded_and_rebuilt_through_json() -> None:
    before, after = Own(8), Own(6)
    after.calls = 3
    record = narrowed(widths_of(before), widths_of(after))
    assert record == {"": Narrowed({"channels": 6}, {"scale": (None, 6, None, None), "mean": (6,)})}
    read = from_mapping(Origin, json.loads(to_json(Origin("own:make", {}, dict(record)))), "run.json")
    assert read.widths == record
    resize(before, read.widths)
    before.load_state_dict(after.state_dict())
    assert widths_of(before)[""].shapes == widths_of(after)[""].shapes
    assert (before.channels, before.calls, before.scale.requires_grad) == (6, 0, False)


def test_an_axis_that_was_not_narrowed_follows_the_architecture() -> None:
    record = narrowed(widths_of(nn.Linear(8, 10)), widths_of(nn.Linear(6, 10)))
    other = nn.Linear(8, 3)
    resize(other, record)
    assert (other.in_features, other.out_features, tuple(other.weight.shape)) == (6, 3, (3, 6))


@pytest.mark.parametrize(
    ("layer", "width", "wanted"),
    [
        (nn.Conv2d(8, 16, 3), (4, 8, 1), nn.Conv2d(4, 8, 3)),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), (4, 4, 4), nn.Conv2d(4, 4, 3, groups=4, bias=False)),
        (nn.ConvTranspose2d(8, 16, 3), (4, 8, 1), nn.ConvTranspose2d(4, 8, 3)),
        (nn.ConvTranspose2d(8, 16, 3, groups=2), (4, 8, 2), nn.ConvTranspose2d(4, 8, 3, groups=2)),
        (nn.Linear(8, 16), (4, 8, 1), nn.Linear(4, 8)),
        (nn.BatchNorm2d(8), (4, 4, 1), nn.BatchNorm2d(4)),
    ],
)
def test_the_older_record_is_read(layer: nn.Module, width: tuple[int, int, int], wanted: nn.Module) -> None:
    read = from_mapping(Origin, json.loads(to_json(Origin("own:make", {}, {"": width}))), "run.json")
    resize(layer, read.widths)
    assert widths_of(layer) == widths_of(wanted)
    layer.load_state_dict(wanted.state_dict())


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Narrowed({"out_channels": 32}), "out_channels cannot be 32"),
        (Narrowed({"out_channels": (8,)}), None),
        (Narrowed({"kernel_size": (3,)}), "kernel_size cannot be"),
        (Narrowed({"forward": 1}), "forward cannot be 1"),
        (Narrowed({"out_channels": 0}), "cannot be 0"),
        (Narrowed(shapes={"weight": (1 << 40, None, None, None)}), "cannot be of shape"),
        (Narrowed(shapes={"weight": (8,)}), "cannot be of shape"),
        (Narrowed(shapes={"other": (8,)}), "cannot be of shape"),
    ],
)
def test_a_forged_record_is_an_integrity_error(record: Narrowed, words: str | None) -> None:
    layer = nn.Conv2d(8, 16, 3)
    with pytest.raises(IntegrityError, match=words or "out_channels cannot be"):
        resize(layer, {"": record})
