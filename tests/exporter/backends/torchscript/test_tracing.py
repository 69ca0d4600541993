"""A trace is judged by what it answers: networks that torch warns of go through, frozen branches are refused."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo.errors import UsageError
from zoo.exporter.backends.torchscript.backend import script
from zoo.exporter.backends.torchscript.tracing import trace
from zoo.models.preprocess import Preprocess
from zoo.models.spec import ModelSpec

SPEC = ModelSpec("m", (3, 16, 16), Preprocess(crop=(16, 16), resize=16), ("a", "b", "c", "d"))


def net(norm: nn.Module) -> nn.Module:
    parts = nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    return nn.Sequential(*parts).eval()


class Flow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def pooled(self, x):
        return self.conv(x).mean((2, 3))


class ShapeChecked(Flow):
    def forward(self, x):
        if x.shape[2] != 16 or x.abs().max() > 1e6:
            raise ValueError("not such an image")
        return self.pooled(x)


class InPlace(Flow):
    def forward(self, x):
        return self.pooled(x.sub_(0.5).mul_(2))


@pytest.mark.parametrize(
    "module",
    [
        net(nn.GroupNorm(2, 8)), net(nn.InstanceNorm2d(8)), net(nn.BatchNorm2d(8, track_running_stats=False)),
        net(nn.LayerNorm([14, 14])), ShapeChecked().eval(), InPlace().eval(),
    ],
)  # fmt: skip
def test_a_check_of_a_shape_or_value_is_no_reason_to_refuse(module: nn.Module) -> None:
    frozen, _ = script(module, SPEC)
    for count in (1, 4):
        images = torch.randn(count, 3, 16, 16)
        with torch.inference_mode():
            assert torch.allclose(frozen(images.clone()), module(images.clone()), atol=1e-5)


class OnValue(Flow):
    def forward(self, x):
        y = self.pooled(x)
        return y * 2 if y.mean() > 0 else y


class OnFewValues(Flow):
    """Its condition turns only for images far from noise."""

    def forward(self, x):
        return self.pooled(x) + (1 if x.mean() < -1 else 0)


class OnSize(Flow):
    def forward(self, x):
        y = self.pooled(x)
        if len(x) > 2:
            return y * 2
        return y


class OnNumpy(Flow):
    def forward(self, x):
        return self.pooled(x) + torch.zeros(x.detach().numpy().shape[0], 4)


class Loop(Flow):
    def forward(self, x):
        return torch.cat([self.pooled(image[None]) for image in x])


@pytest.mark.parametrize("kind", [OnValue, OnFewValues, OnSize, OnNumpy, Loop])
def test_what_a_trace_froze_is_refused_with_the_line_of_the_users_code(kind: type[nn.Module]) -> None:
    with pytest.raises(UsageError, match=r"m depends on its input .*test_tracing.py, line \d+: ") as raised:
        trace(kind().eval(), SPEC)
    assert "\n" not in str(raised.value)
    first = kind.__dict__["forward"].__code__.co_firstlineno
    line = int(str(raised.value).split("line ")[1].split(":")[0])
    assert first < line < first + 5


def test_shapes_that_a_trace_froze_are_told() -> None:
    with pytest.raises(UsageError, match=r"on 1 image the trace gives logits of shape \(2, 4\), the module \(1, 4\)"):
        trace(OnNumpy().eval(), SPEC)


def test_a_module_that_is_random_is_refused_as_such() -> None:
    class Dropping(Flow):
        def forward(self, x):
            return F.dropout(self.conv(x), 0.5, training=True).mean((2, 3))

    class Lottery(Flow):
        def forward(self, x):
            return self.pooled(x) * random.random()

    for module in (Dropping(), Lottery()):
        with pytest.raises(UsageError, match="does not answer the same images alike"):
            trace(module.eval(), SPEC)


def test_what_a_forward_raises_while_traced_is_one_line_with_the_place() -> None:
    class Raising(Flow):
        def forward(self, x):
            if torch.jit.is_tracing():
                raise KeyError("no\ntrace")
            return self.pooled(x)

    with pytest.raises(UsageError, match=r"m cannot be traced: KeyError: .*test_tracing.py, line \d+") as raised:
        trace(Raising().eval(), SPEC)
    assert "\n" not in str(raised.value)


def test_untried_traces_are_not_judged() -> None:
    assert trace(OnSize().eval(), SPEC, tried=False)(torch.zeros(1, 3, 16, 16)).shape == (1, 4)
