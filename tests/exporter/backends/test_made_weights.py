"""Weights that a model makes of its parameters at each call: calculated once, and quantised like others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from calibration_help import calibrated, images
from conftest import tiny_model
from torch import Tensor, nn
from torch.nn import functional
from zoo.calibration.choice import Choice
from zoo.calibration.simulate import simulate
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import export_graph
from zoo.exporter.backends.infos import rules_of
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.quantize.initial import suitable_bits
from zoo.exporter.timing.machine import cpu_flags
from zoo.models.arithmetic import logits_in


class Standardised(nn.Conv2d):
    """As ScaledStdConv2d of timm: each filter without its mean, over its deviation, by way of a batch norm."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        rows = self.weight.reshape(1, self.out_channels, -1)
        rows = functional.batch_norm(rows, None, None, training=True, momentum=0.0, eps=1e-6)
        return functional.conv2d(input, rows.reshape_as(self.weight), self.bias, self.stride, self.padding)


class Made(nn.Module):
    """Two such layers, large enough that torch.onnx leaves their weights to be calculated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Standardised(3, 48, 3, 2), Standardised(48, 48, 3, 2)
        self.last = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.relu(self.second(functional.relu(self.first(x)))).mean((2, 3)))


def test_the_graph_has_them_as_constants() -> None:
    torch.manual_seed(0)
    model = replace(tiny_model(), module=Made().eval())
    proto = export_graph(model.module, model.spec, "fp32", Batch(1, 4, 8))
    known = {one.name for one in proto.graph.initializer}
    layers = [node for node in proto.graph.node if node.op_type in ("Conv", "Gemm")]
    assert [node.input[1] in known for node in layers] == [True] * 3
    assert not [node for node in proto.graph.node if node.op_type == "BatchNormalization"]


def test_they_are_rounded_as_planned_in_every_backend() -> None:
    torch.manual_seed(0)
    module, batch = Made().eval(), images(6, seed=5)
    found = calibrated(module)
    truth = logits_in(module, batch, "fp64")
    for backend in ("onnx", "torchscript"):
        choice = Choice(weight_bits=suitable_bits(backend, cpu_flags()), adaround=True, bias_correction=True)
        assert not get_backend(backend).float_layers(found, choice)
        simulated = simulate(found, choice, rules_of(backend), batch)
        assert len(simulated.layers) == 3
        with get_backend(backend).candidate(replace(tiny_model(), module=module), found, choice) as runner:
            got = runner.run(batch)
        moved = np.linalg.norm(got - simulated.logits) / np.linalg.norm(simulated.logits - truth)
        assert moved < 0.25, backend
