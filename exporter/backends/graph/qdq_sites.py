"""What targets share: which tensors of a graph carry integers when some of its layers do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import onnx

from ....calibration.view import View, attribute, bias_behind, given

COMPUTE = ("Conv", "Gemm", "MatMul")
LAYERS = (*COMPUTE, "ConvTranspose")  # which no target has integers for
ACTIVATIONS = ("Relu", "Clip")  # folded into the layer before them by an integer kernel's own clipping
MOVES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")  # the numbers stay the same
JOINS = ("Add", "Concat")
# no integer kernels for them: float islands between integer layers
FLOAT_ISLANDS = ("Sigmoid", "HardSigmoid", "HardSwish", "Mul", "Gelu", "Mish", "Softplus", "Tanh", "Erf")
AVERAGES = ("GlobalAveragePool", "AveragePool")
POOLED = "_pooled"  # behind the name of a mean over height and width: the pool that it is written as


@dataclass
class Sites:
    """Where integers flow.

    Attributes:
        layers: compute nodes that run in int8, by name.
        produced: tensors that an integer kernel writes; everything that reads them reads the dequantised value.
        entered: tensors that are float where they are made, and are quantised for integer kernels that read them.
        same_as: tensors that must have the scale of another one, because an operator only moves or picks numbers.
        integer: names of all nodes that run on integers, compute or not.
    """

    layers: tuple[str, ...] = ()
    produced: dict[str, None] = field(default_factory=dict)
    entered: dict[str, None] = field(default_factory=dict)
    same_as: dict[str, str] = field(default_factory=dict)
    integer: set[str] = field(default_factory=set)


def name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node without a name one, and every name to one node only."""
    seen: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)


def prepare(proto: onnx.ModelProto, view: View | None = None) -> onnx.ModelProto:
    """A copy of a float graph as the onnx and trt targets want it, with names to plan by; quantise that.

    Who has looked at the graph already gives the view, which takes long to make anew.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    name_nodes(made)
    averages_as_pools(made, view or View(proto))
    without_idle_pools(made)
    return made


def edge_of(name: str) -> str:
    """The tensor of the torch.export graph that a tensor of a prepared graph has the numbers of."""
    return name.removesuffix(POOLED)


def find_sites(
    view: View, layers: Collection[str], carries: Collection[str], known: Collection[str] | None = None
) -> Sites:
    """Follow integers through a graph, in its order.

    A compute layer of `layers` reads and writes integers. An activation that alone reads a layer's output is part of
    it. Operators in `carries` go on with integers when all that they read already is. What reads or writes a tensor
    that is not `known` stays float: operators that the exporter took apart have no name in the torch.export graph.

    Args:
        view: the graph.
        layers: names of compute nodes to run in int8.
        carries: operators beside them that the target runs on integers.
        known: tensors that have a range; None for all.
    """
    sites = Sites()

    def has_range(name: str) -> bool:
        while name in sites.same_as:
            name = sites.same_as[name]
        return known is None or edge_of(name) in known

    chosen: list[str] = []
    for node in view.nodes:
        if node.name in layers and node.op_type in COMPUTE and view.is_constant(given(node, 1)):
            if not (has_range(node.input[0]) and has_range(_end(view, node))):
                continue
            chosen.append(node.name)
            sites.integer.add(node.name)
            data = node.input[0]
            if data not in sites.produced:
                sites.entered[data] = None
            _finish(view, node, sites)
        elif node.op_type in carries:
            data = [name for name in _data_inputs(node) if not view.is_constant(name)]
            whole = data and len(data) == len(_data_inputs(node)) and all(name in sites.produced for name in data)
            if whole and (node.op_type in MOVES or has_range(_end(view, node))):
                sites.integer.add(node.name)
                _finish(view, node, sites)
                if node.op_type in MOVES:
                    sites.same_as[node.output[0]] = data[0]
    sites.layers = tuple(chosen)
    return sites


def _end(view: View, node: onnx.NodeProto) -> str:
    """What the node writes, behind its bias and the activation that is folded into it."""
    added = bias_behind(view, node)
    out = (added or node).output[0]
    readers = view.readers[out]
    folded = len(readers) == 1 and readers[0].op_type in ACTIVATIONS and readers[0].input[0] == out
    return readers[0].output[0] if folded and node.op_type not in MOVES else out


def _finish(view: View, node: onnx.NodeProto, sites: Sites) -> None:
    """Mark what the node writes, and who writes it."""
    out = _end(view, node)
    sites.integer.add(view.producer[out].name)
    if out not in {one.name for one in view.graph.output}:  # the logits stay float: nothing is gained after them
        sites.produced[out] = None


def _data_inputs(node: onnx.NodeProto) -> list[str]:
    """The inputs that carry the numbers, not a shape or axes."""
    return list(node.input) if node.op_type in JOINS else list(node.input[:1])


def averages_as_pools(proto: onnx.ModelProto, view: View) -> None:
    """ReduceMean over height and width as GlobalAveragePool, which runtimes have integer kernels for."""
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        axes = view.value(given(node, 1)) if node.op_type == "ReduceMean" else None
        rank = len(view.shapes.get(node.input[0], ())) if node.input else 0
        if axes is None or rank != 4 or sorted(int(axis) % 4 for axis in axes.ravel()) != [2, 3]:
            nodes.append(node)
            continue
        if attribute(node, "keepdims", 1):
            nodes.append(onnx.helper.make_node("GlobalAveragePool", [node.input[0]], list(node.output), node.name))
        else:
            inner = f"{node.output[0]}{POOLED}"
            nodes.append(onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [inner], node.name))
            nodes.append(onnx.helper.make_node("Flatten", [inner], list(node.output), f"{node.name}_flat", axis=1))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def without_idle_pools(proto: onnx.ModelProto) -> None:
    """Leave out average pools of single positions, which adaptive pools of a network's usual input size become."""
    ends = {one.name for one in proto.graph.output}
    same: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
        if node.op_type == "AveragePool" and _idle(node) and node.output[0] not in ends:
            same[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _idle(pool: onnx.NodeProto) -> bool:
    window = {"kernel_shape": (), "strides": (), "pads": (), **{one.name: tuple(one.ints) for one in pool.attribute}}
    return set(window["kernel_shape"]) == {1} and set(window["strides"]) <= {1} and set(window["pads"]) <= {0}
