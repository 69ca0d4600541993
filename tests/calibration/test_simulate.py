"""An int8 plan in torch against what the runtimes compute of the file: near, and not by reading the file."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from calibration_help import calibrated, calibrated_model, images
from conftest import tiny_model
from torch import Tensor, nn
from torch.nn import functional
from zoo.calibration.choice import Calibrated, Choice
from zoo.calibration.simulate import Simulation, simulate
from zoo.errors import UsageError
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.infos import rules_of
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.checks.faithful import JITTER, RULES, measure_distances
from zoo.exporter.quantize.initial import suitable_bits
from zoo.exporter.timing.machine import cpu_flags
from zoo.models.arithmetic import logits_in
from zoo.models.sources import Model


@pytest.fixture(scope="module", params=["resnet18", "mobilenet_v3_small"])
def made(request: pytest.FixtureRequest) -> tuple[Model, Calibrated, np.ndarray]:
    model, calibrated = calibrated_model(request.param)
    return model, calibrated, images(6, seed=5)


def bits_of(backend: str) -> int:
    return suitable_bits(backend, cpu_flags())


@pytest.mark.parametrize("backend", ["onnx", "torchscript"])
@pytest.mark.parametrize("how", ["plain", "corrected and rounded", "ends in float"])
def test_it_is_what_the_file_computes(made: tuple[Model, Calibrated, np.ndarray], backend: str, how: str) -> None:
    model, calibrated, batch = made
    layers = list_layers(calibrated.graph)
    choice = {
        "plain": Choice(weight_bits=bits_of(backend)),
        "corrected and rounded": Choice("mse", True, adaround=True, weight_bits=bits_of(backend)),
        "ends in float": Choice(weight_bits=bits_of(backend), keep={layers[0].name: "", layers[-1].name: ""}),
    }[how]
    simulated = simulate(calibrated, choice, rules_of(backend), batch)
    with get_backend(backend).candidate(model, calibrated, choice) as runner:
        got = runner.run(batch)
    truth = logits_in(model.module, batch, "fp64")
    found = measure_distances(truth, simulated.logits, got)
    jitter = measure_distances(truth, simulated.logits, simulated.blurred).moved(1e-3)
    assert found.moved(1e-3) < max(RULES["int8"].apart, JITTER * jitter), (
        "nearer to the plan than the plan is to the truth"
    )
    assert found.farther(1e-3) < 1.3


def test_layers_that_stay_float_are_not_rounded(made: tuple[Model, Calibrated, np.ndarray]) -> None:
    model, calibrated, batch = made
    names = [layer.name for layer in list_layers(calibrated.graph)]
    kept = Simulation(calibrated, Choice(keep=dict.fromkeys(names, "")), rules_of("onnx"))
    assert not kept.layers
    exact = logits_in(model.module, batch, "fp64")
    got = simulate(calibrated, Choice(keep=dict.fromkeys(names, "")), rules_of("onnx"), batch).logits
    assert np.abs(got - exact).max() < 1e-4 * np.ptp(exact)
    assert Simulation(calibrated, Choice(), rules_of("onnx")).layers == set(names)


def test_tensors_have_the_names_of_the_graph(made: tuple[Model, Calibrated, np.ndarray]) -> None:
    _, calibrated, batch = made
    kept = Simulation(calibrated, Choice(), rules_of("onnx")).tensors(batch, "_DequantizeLinear")
    written = {name for node in calibrated.graph.graph.node for name in node.output}
    known = {name.removesuffix("_DequantizeLinear") for name in kept}
    assert len(known & written) > 0.8 * len(known & (written | set(calibrated.table.edges)))
    assert any(name.endswith("_DequantizeLinear") for name in kept)


def test_a_target_without_rules_is_refused(made: tuple[Model, Calibrated, np.ndarray]) -> None:
    with pytest.raises(UsageError, match='unknown backend "abacus"'):
        simulate(made[1], Choice(), rules_of("abacus"), made[2])


class Padded(nn.Module):
    """A network as TensorFlow's are ported: zeros on two sides before convolutions with stride."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, 2)
        self.last = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.first(functional.pad(x, (0, 1, 0, 1))))
        return self.last(functional.relu(self.second(functional.pad(x, (0, 1, 0, 1)))).mean((2, 3)))


class Pooled(nn.Module):
    """A layer behind a pool, a concatenation, a layer that is flattened: each has its scale from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1)
        self.last = nn.Linear(16 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.first(x)), 3, 2)
        x = torch.cat([functional.relu(self.left(x)), functional.relu(self.right(x[..., 1:-1, 1:-1]))], 1)
        return self.last(functional.max_pool2d(x, 2).flatten(1))


class Normed(nn.Module):
    """A block of ConvNeXt: a norm of channels, GELU, a factor a channel, an addition to what was not a layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.deep, self.wide, self.back = nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)
        self.gamma = nn.Parameter(torch.rand(8))
        self.last = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        made = self.back(functional.gelu(self.wide(self.deep(x))))
        return self.last((made.mul(self.gamma.reshape(1, -1, 1, 1)) + x).mean((2, 3)))


class Gated(nn.Module):
    """A norm of its own before a layer, SiLU, and a gate whose sigmoid has a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, 2)
        self.gate, self.last = nn.Conv2d(8, 8, 1), nn.Linear(8, 10)
        self.norm.running_var.fill_(0.1)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.first(x), 2) * 1.0
        x = functional.silu(self.second(functional.relu(self.norm(x))))
        return self.last((x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid() * 0.5).mean((2, 3)))


class Tokens(nn.Module):
    """A transformer's block: linear layers of three dimensions, with a bias and without, behind a norm of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 8, 8), nn.LayerNorm(12)
        self.wide, self.bare, self.last = nn.Linear(12, 24), nn.Linear(24, 12, bias=False), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x).flatten(2).transpose(1, 2))
        return self.last((x + self.bare(functional.gelu(self.wide(x)))).mean(1))


class Scaled(nn.Module):
    """A tensor that is multiplied by a number, with a ReLU behind: torch has one observer for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, 2), nn.Linear(8, 10)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(functional.relu(self.first(x)) * 50.0)
        return self.last(functional.relu(self.second(x * 2.0)).mean((2, 3)))


class Again(nn.Module):
    """One layer that is called three times with other ranges each, and one calculation that is written twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.deep = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.act, self.last = nn.Hardswish(), nn.Linear(8, 10)
        self.norm.running_var.fill_(0.1)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        for _ in range(3):
            x = self.act(self.norm(self.deep(x)))
        return self.last(x.mean((2, 3)) + x.mean((2, 3)))


class Views(nn.Module):
    """The same network on an image and its mirror image, a number that is added, and the mean of both answers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        answers = [self.last(functional.relu(self.norm(self.first(view))).mean((2, 3)) + 1) for view in (x, x.flip(3))]
        return torch.stack(answers).mean(0)


class Attentive(nn.Module):
    """Positions that are weighed by the softmax of a mean over channels: seven, whose means never lie on halves."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.soft, self.last = nn.Conv2d(3, 7, 3, 2), nn.Softmax(1), nn.Linear(7, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        batch, channels, height, width = x.shape
        half = (height + 1) * 2 * width // 2  # sizes are no tensors, and stay numbers
        x = x.reshape(batch, channels, half - width).transpose(1, 2)
        return self.last((x * self.soft(x.mean(-1, keepdim=True))).sum(1) / 2)


@cache
def small(kind: type[nn.Module]) -> Calibrated:
    torch.manual_seed(0)
    return calibrated(kind().eval())


@pytest.mark.parametrize("backend", ["onnx", "torchscript"])
@pytest.mark.parametrize("kind", [Padded, Pooled, Normed, Gated, Tokens, Scaled, Again, Views, Attentive])
@pytest.mark.parametrize("how", [{}, {"bias_correction": True}, {"adaround": True}, {"method": "mse"}], ids=str)
def test_a_few_layers_are_computed_as_planned(kind: type[nn.Module], backend: str, how: dict[str, Any]) -> None:
    """What a deep network with random weights would hide: one layer that is not corrected or rounded as planned."""
    found, batch = small(kind), images(6, seed=5)
    choice = Choice(weight_bits=bits_of(backend), **how)
    simulated = simulate(found, choice, rules_of(backend), batch)
    assert simulated.layers == {layer.name for layer in list_layers(found.graph)}
    with get_backend(backend).candidate(replace(tiny_model(), module=found.module), found, choice) as runner:
        got = runner.run(batch)
        assert backend != "onnx" or runner.receipt().layers == {"int8": len(simulated.layers)}
    truth = logits_in(found.module, batch, "fp64")
    jitter = measure_distances(truth, simulated.logits, simulated.blurred).moved(
        1e-3
    )  # kernels round ties as they like
    assert measure_distances(truth, simulated.logits, got).moved(1e-3) < max(0.25, JITTER * jitter)
