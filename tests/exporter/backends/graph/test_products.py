"""Linear layers of three dimensions, which ONNX has as a product and an addition: rounded, and corrected."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import onnx
import pytest
import torch
from calibration_help import calibrated
from onnx import numpy_helper
from torch import Tensor, nn
from zoo.calibration.bias_correction import shift_of
from zoo.calibration.choice import Calibrated, Choice
from zoo.calibration.view import View
from zoo.exporter.backends.onnx import int8 as onnx_target
from zoo.exporter.backends.tensorrt import int8 as trt_target


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 12, 8, 8), nn.Linear(12, 24)
        self.bare, self.last = nn.Linear(24, 12, bias=False), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.last(self.bare(torch.relu(self.wide(x)) + 1).mean(1))


@pytest.fixture(scope="module")
def found() -> Calibrated:
    torch.manual_seed(0)
    return calibrated(Tokens().eval())


def added_behind(proto: onnx.ModelProto, product: str) -> np.ndarray:
    """The constant that is added to a product; zero where none is."""
    [node] = [node for node in proto.graph.node if node.name == product]
    readers = [other for other in proto.graph.node if node.output[0] in other.input and other.op_type == "Add"]
    constants = {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}
    return sum((constants[name] for one in readers for name in one.input if name in constants), np.zeros(1))


@pytest.mark.parametrize("target", [onnx_target, trt_target], ids=["onnx", "trt"])
def test_the_bias_of_a_product_takes_back_what_rounding_adds(found: Calibrated, target: ModuleType) -> None:
    graph, view = target.prepare(found.graph), View(found.graph)
    products = [node for node in graph.graph.node if node.op_type == "MatMul"]
    assert len(products) == 2
    layers = [node.name for node in products]
    plain, corrected = (
        target.render(graph, found.table, layers, Choice(bias_correction=wanted)) for wanted in (False, True)
    )
    onnx.checker.check_model(corrected, full_check=True)
    additions = [sum(node.op_type == "Add" for node in one.graph.node) for one in (plain, corrected)]
    assert additions[1] == additions[0] + 1, "behind the product without a bias; the other has a place for it"
    constants = {one.name: numpy_helper.to_array(one) for one in corrected.graph.initializer}
    for node in products:
        weight, stem = view.value(node.input[1]), f"{node.name}_weight"
        assert weight is not None
        rounded = constants[f"{stem}_quantized"] * constants[f"{stem}_scale"]
        mean = found.table.edges[node.input[0]].channel_mean
        assert len(mean) == len(weight), "of the dimension that the product adds up"
        shift = shift_of(weight, rounded, mean, channel_axis=1)
        moved = added_behind(plain, node.name) - added_behind(corrected, node.name)
        assert np.abs(shift).max() > 1e-5
        np.testing.assert_allclose(moved, shift, rtol=1e-3, atol=1e-7)
