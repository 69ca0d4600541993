"""Target trt: symmetric int8 Q/DQ as TensorRT fuses it, float16 for the rest.

The rules (TensorRT's documentation on explicit quantisation and on Q/DQ placement; facts by name in zoo lint):
- activations int8 symmetric, one scale a tensor; weights int8 symmetric, one scale an output channel; zero points 0;
- Q/DQ on what a layer reads, weights too; none on what it writes; biases stay float;
- of a residual addition only the skip branch is quantised: the bare branch's convolution fuses with the addition;
- pools over height and width read quantised tensors where what they pool is read quantised by others;
- inputs of a concatenation share one scale;
- what is not quantised computes in float16, since int8 beside float32 is slow; scales are float16 too, and weights are
  rounded with the scale as float16 holds it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx

from ....calibration.adaround import Rounder
from ....calibration.bias_correction import shift_of
from ....calibration.choice import Choice
from ....calibration.quantize import channel_scales, from_int8, symmetric_scale
from ....calibration.ranges import RangeTable
from ....calibration.view import View, attribute, given
from ..graph.qdq_sites import COMPUTE, edge_of, prepare
from ..graph.qdq_writer import Writer
from ..onnx.int8 import channel_axis

__all__ = ["prepare", "render"]


def render(
    proto: onnx.ModelProto, table: RangeTable, layers: Collection[str], choice: Choice, rounder: Rounder | None = None
) -> onnx.ModelProto:
    """The float32 graph with Q/DQ, its scales such as float16 holds exactly; retype it to float16 afterwards.

    Args:
        proto: from `prepare`.
        table: ranges of its tensors.
        layers: names of compute nodes; those that `choice` keeps stay float.
        choice: how ranges are chosen and weights rounded; weights have 8 bits.
        rounder: of the same graph, for AdaRound.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    view = View(made)
    chosen = {
        node.name for node in view.nodes
        if node.name in set(layers) - set(choice.keep) and node.op_type in COMPUTE and view.is_constant(given(node, 1))
        and edge_of(node.input[0]) in table.edges
    }  # fmt: skip
    writer = _Writer(made, view, table, choice, rounder)
    for node in made.graph.node:
        if node.name in chosen:
            data = node.input[0]
            node.input[0] = writer.activation(data)
            writer.weights(node, data)
    for node in made.graph.node:
        if node.op_type == "Add" and not any(view.is_constant(name) for name in node.input):
            skip = _skip_branch(view, node, chosen)
            if skip is not None and edge_of(node.input[skip]) in table.edges:
                node.input[skip] = writer.activation(node.input[skip])
        elif node.op_type in ("GlobalAveragePool", "AveragePool") and _near(view, node.input[0], chosen):
            if edge_of(node.input[0]) not in table.edges:
                continue
            node.input[0] = writer.activation(node.input[0])
    writer.finish()
    return made


def _skip_branch(view: View, node: onnx.NodeProto, chosen: Collection[str]) -> int | None:
    """Which input of an addition is the skip branch: the one that no int8 convolution alone writes for it.

    With convolutions on both sides (a downsampling block) the longer branch stays bare: the one whose convolution comes
    later in the graph. None when neither side is an int8 convolution.
    """
    order = {one.name: index for index, one in enumerate(view.nodes)}
    made = [view.producer.get(name) for name in node.input]
    bare = [
        order[one.name] if one is not None and one.name in chosen and len(view.readers[name]) == 1 else -1
        for one, name in zip(made, node.input, strict=True)
    ]
    if max(bare) < 0:
        return None
    return 1 - int(np.argmax(bare))


def _near(view: View, name: str, chosen: Collection[str]) -> bool:
    """Whether a tensor comes from an int8 layer, through an activation or an addition."""
    for _ in range(3):
        made = view.producer.get(name)
        if made is None:
            return False
        if made.name in chosen:
            return True
        if made.op_type not in ("Relu", "Clip", "Add", "Concat", "MaxPool"):
            return False
        name = made.input[0]
    return False


class _Writer(Writer):
    """Q/DQ as TensorRT fuses it."""

    def __init__(
        self, proto: onnx.ModelProto, view: View, table: RangeTable, choice: Choice, rounder: Rounder | None
    ) -> None:
        super().__init__(proto.graph, rounder if choice.adaround else None)
        self._view, self._table, self._choice = view, table, choice
        self._scale_of = _shared_scales(view, table, choice)
        self._done: dict[str, str] = {}

    def activation(self, name: str) -> str:
        """The dequantised value of a tensor; Q and DQ are written once for all that read it."""
        if name not in self._done:
            scale = self._scale_of.get(name) or _scale(self._table, name, self._choice)
            self._done[name] = self.quantise(name, _as_half(scale), np.int8(0))
        return self._done[name]

    def weights(self, node: onnx.NodeProto, data: str) -> None:
        """Stored integers and their DequantizeLinear; the bias stays float."""
        axis = channel_axis(node)
        weight = self._view.value(node.input[1])
        assert weight is not None
        scales = _as_half(channel_scales(weight, axis))
        integers = self.integers(node.name, weight, scales, axis, 8)
        node.input[1] = self.dequantise(f"{node.name}_weight", integers, scales, axis)
        mean = self._table.edges[edge_of(data)].channel_mean
        group, shift = attribute(node, "group", 1), None
        if self._choice.bias_correction:
            shift = shift_of(weight, from_int8(integers, scales, axis), mean, group, axis)
        if shift is not None:
            if node.op_type == "MatMul":
                self.correct_product(node, self._view, shift)
                return
            bias = self._view.value(given(node, 2))
            bias = (np.zeros(len(shift)) if bias is None else bias) - shift
            name = self.constant(f"{node.name}_bias", bias.astype(np.float32))
            if len(node.input) < 3:
                node.input.append(name)
            else:
                node.input[2] = name


def _shared_scales(view: View, table: RangeTable, choice: Choice) -> dict[str, float]:
    """One scale for all inputs of a concatenation and its output: that of the widest."""
    found: dict[str, float] = {}
    for node in view.nodes:
        if node.op_type == "Concat":
            names = [name for name in (*node.input, node.output[0]) if name in table.edges]
            if choice.method == "learned":  # a training rounds the output alone
                names = [name for name in names if name in table.learned]
            widest = max((_scale(table, name, choice) for name in names), default=0.0)
            found.update(dict.fromkeys(names, widest))
    return found


def _scale(table: RangeTable, name: str, choice: Choice) -> float:
    return symmetric_scale(table.range(edge_of(name), choice.method, symmetric=True)[1])


def _as_half(value: float | np.ndarray) -> np.ndarray:
    """Rounded to what float16 holds, never to zero: its smallest normal number is a scale of a tensor near zero."""
    half = np.asarray(value, np.float16)
    return np.maximum(half, np.finfo(np.float16).tiny).astype(np.float32)
