"""Target onnx: Q/DQ as ONNX Runtime's CPU turns it into integer kernels (QLinearConv, QLinearAdd, QGemm, ...).

The rules, from what was measured (docs/benchmarks/quantisation.md):
- activations uint8 affine, one scale a tensor; weights int8 symmetric, one scale an output channel; biases int32 with
  the product of both scales;
- Q/DQ on what a layer reads and on what it writes, behind its ReLU or clip, whose work the clipping of the integers
  does: only then is the layer one QLinearConv. Residual additions, concatenations, pools and reshapes between integer
  layers go on with integers;
- a float tensor that integer layers read gets Q/DQ for them alone: its float readers keep the float;
- ReduceMean over height and width is written as GlobalAveragePool, which has an integer kernel;
- the first convolution reads its three colours as channels in fours (stem.py);
- where one image comes at a time, linear layers of millions of weights may be read in blocks instead (blocks.py);
- 7-bit weights for CPUs without VNNI, whose instruction adds pairs of products in 16 bits and saturates.

TensorRT wants another placement: the same table, written its way, gains nothing here.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx

from ....calibration.adaround import Rounder
from ....calibration.bias_correction import shift_of
from ....calibration.blocks import from_blocks, to_blocks, wide_layers
from ....calibration.choice import Choice
from ....calibration.quantize import affine_uint8, channel_scales, from_int8
from ....calibration.ranges import RangeTable
from ....calibration.view import View, attribute, given
from ..graph.qdq_sites import AVERAGES, JOINS, MOVES, edge_of, find_sites, prepare
from ..graph.qdq_writer import Writer
from .blocks import read_in_blocks
from .stem import read_by_fours

__all__ = ["channel_axis", "edges", "prepare", "render"]
CARRIES = (*MOVES, *JOINS, *AVERAGES)


def edges(proto: onnx.ModelProto) -> set[str]:
    """Tensors whose ranges may be asked for: all but constants and what is computed from shapes."""
    view = View(proto)
    floats = {name for name, kind in view.types.items() if kind == onnx.TensorProto.FLOAT}
    return {name for name in floats if not view.is_constant(name)}


def render(
    proto: onnx.ModelProto, table: RangeTable, layers: Collection[str], choice: Choice, rounder: Rounder | None = None
) -> onnx.ModelProto:
    """The graph with Q/DQ, so that the named layers run in integers.

    Args:
        proto: from `prepare`.
        table: ranges of its tensors.
        layers: names of compute nodes; those that `choice` keeps stay float.
        choice: how ranges are chosen and weights rounded.
        rounder: of the same graph, for AdaRound.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    view = View(made)
    integer = set(layers) - set(choice.keep)
    in_blocks = wide_layers(view) & integer if choice.blocks else frozenset[str]()
    sites = find_sites(view, integer - in_blocks, CARRIES, table.edges)
    writer = _Writer(made, table, choice, rounder)
    for name in (*sites.entered, *sites.produced):
        root = name
        while root in sites.same_as:
            root = sites.same_as[root]
        writer.place(name, edge_of(root))
    read = {node.name: node.input[0] for node in made.graph.node if node.input}
    for node in made.graph.node:
        for index, name in enumerate(node.input):
            if name in sites.produced or (name in sites.entered and node.name in sites.integer):
                node.input[index] = writer.dequantised[name]
        if node.name in sites.layers:
            writer.weights(node, view, read[node.name])
        elif node.name in in_blocks:
            writer.blocks(node, view, read[node.name])
    writer.finish()
    read_by_fours(made, {name: view.shapes.get(data, ()) for name, data in read.items()})
    return made


class _Writer(Writer):
    """Q/DQ as ONNX Runtime's integer kernels want it."""

    def __init__(self, proto: onnx.ModelProto, table: RangeTable, choice: Choice, rounder: Rounder | None) -> None:
        super().__init__(proto.graph, rounder if choice.adaround else None)
        self._proto, self._table, self._choice = proto, table, choice
        self._scales: dict[str, float] = {}
        self.dequantised: dict[str, str] = {}

    def place(self, name: str, root: str) -> None:
        """Q and DQ behind a tensor, with the scale of `root`."""
        spec = affine_uint8(self._table.range(root, self._choice.method))
        back = self.quantise(name, np.float32(spec.scale), np.uint8(spec.zero_point))
        self.dequantised[name] = back
        self._scales[back] = spec.scale

    def weights(self, node: onnx.NodeProto, view: View, data: str) -> None:
        """Integers for a layer's weights and bias; `data` is the tensor it reads, before quantisation."""
        name, axis, bits = node.input[1], channel_axis(node), self._choice.weight_bits
        weight = view.value(name)
        assert weight is not None
        scales = channel_scales(weight, axis, bits)
        integers = self.integers(node.name, weight, scales, axis, bits)
        stem = f"{node.name}_weight"
        node.input[1] = self.dequantise(stem, integers, scales, axis)
        bias = view.value(given(node, 2))
        mean = self._table.edges[edge_of(data)].channel_mean
        group, shift = attribute(node, "group", 1), None
        if self._choice.bias_correction:
            shift = shift_of(weight, from_int8(integers, scales, axis), mean, group, axis)
        if shift is not None:
            if node.op_type == "MatMul":
                self.correct_product(node, view, shift)
                return
            bias = (np.zeros(len(shift)) if bias is None else bias) - shift
            if len(node.input) < 3:
                node.input.append("")
        if bias is not None:
            both = (scales * self._scales[node.input[0]]).astype(np.float32)
            steps = np.clip(np.round(bias.astype(np.float64) / both), -(2**31) + 1, 2**31 - 1).astype(np.int32)
            node.input[2] = self.dequantise(f"{node.name}_bias", steps, both, 0)

    def blocks(self, node: onnx.NodeProto, view: View, data: str) -> None:
        """A linear layer that is read in blocks; `data` is the tensor it reads, before quantisation."""
        weight, bias = view.value(node.input[1]), view.value(given(node, 2))
        assert weight is not None
        weight = weight if channel_axis(node) == 0 else weight.T
        integers, scales = to_blocks(weight)
        stem = f"{node.name}_weight"
        names = [self.constant(f"{stem}_quantized", integers), self.constant(f"{stem}_scale", scales)]
        seen = self._table.edges.get(edge_of(data))
        shift = None
        if self._choice.bias_correction and seen is not None:
            shift = shift_of(weight, from_blocks(integers, scales, weight.shape[1]), seen.channel_mean)
        if shift is not None:
            bias = (np.zeros(len(shift)) if bias is None else bias) - shift
        if bias is not None:
            each = np.broadcast_to(bias.astype(np.float32).ravel(), len(weight))
            names.append(self.constant(f"{node.name}_bias", each))
        read_in_blocks(self._proto, node, names, weight.shape)


def channel_axis(node: onnx.NodeProto) -> int:
    """The axis of a layer's output channels in its weights."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1
