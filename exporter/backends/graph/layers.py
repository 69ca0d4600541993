"""The compute layers of an ONNX graph: what each computes in, read from the types of its operands, and its MACs."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...artifact.manifest import Layer

if TYPE_CHECKING:
    import onnx

_COMPUTE = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "NhwcFusedConv"}
_NAMES = {1: "fp32", 10: "fp16", 16: "bf16", 11: "fp64", 3: "int8", 2: "int8"}  # onnx.TensorProto's numbers
_INTEGER = {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"}
# MatMulIntegerToFloat is ONNX Runtime's own, of a product whose result is not rounded before its bias is added
BLOCKED = "MatMulNBits"  # ONNX Runtime's own, of weights in blocks
_PASSES_ON = ("Transpose", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
INT8_AT_LEAST = 0.5  # of the MACs of an int8 graph
HALF = 0.5  # of the MACs of another graph, where the model's own code computes the rest in float32
OWN_CODE = "the model's own code computes it in float32"
SMALL = 1024  # elements; larger constants are weights, and shapes do not depend on them


def wrong_precision(layers: Collection[Layer], precision: str, rest: str, asked: Collection[str] = ()) -> list[str]:
    """Why layers are not what an export at this precision holds; empty when they are.

    Args:
        layers: of the graph.
        precision: of the export.
        rest: what the layers of an int8 graph compute in that are not int8.
        asked: names of layers that the model's own code computes in float32, whatever the rest of it is in.
    """
    counted = dict(Counter(layer.precision for layer in layers))
    if not layers:
        return ["it holds no convolution and no matrix product"]
    if precision != "int8":
        others = {one.precision for one in layers if not (one.name in asked and one.precision == "fp32")} - {precision}
        if others or share_of(layers, precision) < HALF:
            return [f"compute layers by precision are {counted}, not all {precision}"]
        return []
    problems: list[str] = []
    if set(counted) - {"int8", rest}:
        problems.append(f"compute layers by precision are {counted}, not int8 with {rest} for the rest")
    share = share_of(layers, "int8")
    if share < INT8_AT_LEAST:
        problems.append(f"{share:.0%} of its MACs are int8, at least {INT8_AT_LEAST:.0%} must be")
    return problems


def with_reasons(layers: Sequence[Layer], precision: str) -> tuple[Layer, ...]:
    """A plan in whose half-precision graph those layers say why that the model's own code computes in float32."""
    if precision != "fp16":
        return tuple(layers)
    return tuple(replace(layer, reason=OWN_CODE) if layer.precision == "fp32" else layer for layer in layers)


def asked_in_float32(plan: Collection[Layer]) -> frozenset[str]:
    """Names of the layers of a plan that say so."""
    return frozenset(layer.name for layer in plan if layer.reason == OWN_CODE)


def told_reasons(plan: Collection[Layer], precision: str) -> tuple[str, ...]:
    """A note for each reason why layers of a plan are not in its precision."""
    found: dict[str, list[str]] = {}
    for layer in plan:
        if layer.precision != precision and layer.reason:
            found.setdefault(layer.reason, []).append(layer.name)
    return tuple(
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''} in float: {reason}"
        for reason, names in found.items()
    )


def share_of(layers: Collection[Layer], precision: str) -> float:
    """The share of the MACs in this precision; by count where a shape is missing; 0 for no layers."""
    weigh = all(layer.macs for layer in layers)
    total = sum(layer.macs if weigh else 1 for layer in layers)
    part = sum(layer.macs if weigh else 1 for layer in layers if layer.precision == precision)
    return part / total if total else 0.0


def list_layers(proto: onnx.ModelProto, *, ran: bool = False) -> tuple[Layer, ...]:
    """The convolutions and matrix products of a graph, with the precision of each and its MACs for one image.

    Local functions are inlined. What lies inside control flow is listed with the precision "unknown": nothing here can
    tell how often it runs.

    Args:
        proto: the graph.
        ran: it is what a runtime made of a file, and runs as it is: a float operator that still reads dequantised
            integers computes in float, where in a file it stands for an integer one.
    """
    import onnx

    if proto.functions:
        from onnx import inliner

        proto = inliner.inline_local_functions(proto)
    known = _inferred(proto)
    produced = {output: node for node in proto.graph.node for output in node.output}

    def maker(name: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, seen through those that only change its shape."""
        node = produced.get(name)
        while node is not None and node.op_type in _PASSES_ON:
            node = produced.get(node.input[0])
        return node

    def integer(name: str) -> bool:
        """Whether a tensor is the dequantised value of 8-bit integers."""
        node = maker(name)
        kinds = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
        return node is not None and node.op_type == "DequantizeLinear" and known.types.get(node.input[0]) in kinds

    found: list[Layer] = []
    for node in proto.graph.node:
        if node.op_type == BLOCKED:
            own = {one.name: one.i for one in node.attribute}
            kind = "int8" if own.get("bits") == 8 and own.get("accuracy_level") == 4 else "unknown"
            made = math.prod(known.shapes.get(node.output[0], (0,)))
            found.append(Layer(node.name, node.op_type, kind, made * own.get("K", 0)))
        elif node.op_type in _INTEGER:
            found.append(Layer(node.name, node.op_type, "int8", _macs(node, known.shapes)))
        elif node.op_type in _COMPUTE:
            both = not ran and all(integer(name) for name in node.input[:2])
            told = {known.types.get(name, 0) for name in node.input[:2]} - {0}  # a runtime's own operators tell none
            kinds = {_NAMES.get(kind, "unknown") for kind in told} or {"unknown"}
            precision = "int8" if both else kinds.pop() if len(kinds) == 1 else "unknown"
            found.append(Layer(node.name, node.op_type, precision, _macs(node, known.shapes)))
        else:
            found += [Layer(name, op, "unknown") for name, op in _inside(node)]
    return tuple(found)


def _inside(node: onnx.NodeProto) -> list[tuple[str, str]]:
    """Compute nodes in the bodies of control flow."""
    found: list[tuple[str, str]] = []
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                found += [(inner.name, inner.op_type)] if inner.op_type in _COMPUTE | _INTEGER else _inside(inner)
    return found


def count_layers(proto: onnx.ModelProto) -> dict[str, int]:
    """Compute layers of a graph by precision."""
    return dict(Counter(layer.precision for layer in list_layers(proto)))


@dataclass(frozen=True)
class _Known:
    """Shapes (for one image) and element types of tensors, by name; what cannot be inferred is missing."""

    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]


def _inferred(proto: onnx.ModelProto) -> _Known:
    """Infer with the batch set to 1, on a copy without the large weights, of which only the shapes matter."""
    import onnx

    light = type(proto)()
    light.opset_import.extend(proto.opset_import)
    light.ir_version = proto.ir_version
    light.graph.name = "light"
    light.graph.node.extend(map(_standard, proto.graph.node))
    light.graph.output.extend(proto.graph.output)
    constants = {one.name for one in proto.graph.initializer}
    for one in proto.graph.initializer:
        if math.prod(one.dims) <= SMALL and one.data_location != onnx.TensorProto.EXTERNAL:
            light.graph.initializer.append(one)
        else:
            light.graph.input.append(onnx.helper.make_tensor_value_info(one.name, one.data_type, one.dims))
    for value in proto.graph.input:
        if value.name not in constants:
            fed = light.graph.input.add()
            fed.CopyFrom(value)
            dims = fed.type.tensor_type.shape.dim
            if dims and not dims[0].dim_value:
                dims[0].dim_value = 1
    for node in proto.graph.node:
        if node.op_type == BLOCKED:
            own = {one.name: one.i for one in node.attribute}
            shape = [own.get("K", 0), own.get("N", 0)]
            light.graph.input.append(onnx.helper.make_tensor_value_info(_matrix(node), onnx.TensorProto.FLOAT, shape))
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    with contextlib.suppress(onnx.shape_inference.InferenceError):  # then what is not known counts as unknown
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    shapes = {one.name: tuple(one.dims) for one in proto.graph.initializer}
    types = {one.name: one.data_type for one in proto.graph.initializer}
    for value in (*light.graph.input, *light.graph.value_info, *light.graph.output):
        tensor = value.type.tensor_type
        types.setdefault(value.name, tensor.elem_type)
        if tensor.HasField("shape") and all(dim.dim_value > 0 for dim in tensor.shape.dim):
            shapes.setdefault(value.name, tuple(dim.dim_value for dim in tensor.shape.dim))
    for (
        value
    ) in proto.graph.value_info:  # of tensors that inference did not reach, such as those of a runtime's operators
        types.setdefault(value.name, value.type.tensor_type.elem_type)
    return _Known(shapes, types)


def _matrix(node: onnx.NodeProto) -> str:
    """A name for the weights of a product in blocks, as the matrix that they stand for."""
    return f"{node.output[0]}/matrix"


def _standard(node: onnx.NodeProto) -> onnx.NodeProto:
    """A product in blocks as the plain one, whose shapes ONNX can infer; other nodes as they are."""
    import onnx

    if node.op_type != BLOCKED:
        return node
    return onnx.helper.make_node("MatMul", [node.input[0], _matrix(node)], list(node.output), node.name)


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of a node for one image; 0 where shapes are not known."""
    data, weight = (shapes.get(name) for name in node.input[:2])
    made = shapes.get(node.output[0])
    if made is None or data is None or weight is None or len(weight) < 2:
        return 0
    if node.op_type == "ConvTranspose":  # every input element meets every kernel element of its group
        return math.prod(data) * math.prod(weight[1:])
    if "Conv" in node.op_type:
        return math.prod(made) * math.prod(weight[1:])
    turned = any(one.name == "transA" and one.i for one in node.attribute)
    return math.prod(made) * data[-2 if turned else -1]
