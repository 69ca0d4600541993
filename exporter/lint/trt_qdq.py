"""TensorRT's rules for explicit quantisation: symmetric int8 by QuantizeLinear and DequantizeLinear (Q/DQ).

Sources: TensorRT's documentation on explicit quantisation and Q/DQ placement, NvInfer.h on IQuantizeLayer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from ...calibration.view import View, attribute, given, label
from .finding import Finding

SOURCE = "TensorRT documentation, Explicit Quantization"
PLACEMENT = "TensorRT documentation, Q/DQ Layer-Placement Recommendations"
_INTEGER = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
_COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_AVERAGES = ("AveragePool", "GlobalAveragePool")


def integer_operators(view: View) -> Iterator[Finding]:
    """ONNX's integer operators are ONNX Runtime's way; TensorRT makes its own from Q/DQ."""
    for node in view.nodes:
        if node.op_type in _INTEGER:
            yield _error("integer-operator", node, f"TensorRT's parser has no {node.op_type}",
                         "quantise in the QDQ format, with symmetric int8")  # fmt: skip


def scales(view: View) -> Iterator[Finding]:
    """Scales constant, positive and of the type of the tensor; zero points 0; int8."""
    for node in _qdq(view):
        scale, zero = view.value(given(node, 1)), given(node, 2)
        if not view.is_constant(given(node, 1)):
            yield _error("scale-constant", node, "its scale is computed, it must be constant", "calibrate once")
        elif scale is not None and not (np.isfinite(scale) & (np.asarray(scale) > 0)).all():
            smallest = float(np.min(scale))
            yield _error("scale-positive", node, f"its scale must be positive and finite, the smallest is {smallest:g}",
                         "calibrate again with images that reach this layer")  # fmt: skip
        kind = view.type_name(node.output[0] if node.op_type == "QuantizeLinear" else node.input[0])
        if kind == "UINT8":
            yield _error("uint8-quantisation", node, "its integers are uint8, TensorRT takes symmetric int8 only",
                         "quantise activations and weights to int8")  # fmt: skip
        elif kind and kind not in ("INT8", "INT4", "FLOAT8E4M3FN"):
            yield _error("quantised-type", node, f"its integers are {kind}, TensorRT takes int8", "quantise to int8")
        if _scale_count(view, node) > 1 and not _of_constant(view, node):
            yield _error("per-channel-activation", node, "an activation is quantised per channel "
                         f"({_scale_count(view, node)} scales)", "quantise activations per tensor")  # fmt: skip
        if zero and kind != "UINT8":
            value = view.value(zero)
            if value is None and not view.is_constant(zero):
                yield _error(
                    "zero-point", node, "its zero point is computed, it must be the constant 0", "calibrate once"
                )
            elif value is not None and np.any(np.asarray(value, np.float32) != 0):
                yield _error("zero-point", node, f"its zero point must be 0, it is {np.ravel(value)[0]}",
                             "quantise symmetrically")  # fmt: skip
        if node.op_type == "QuantizeLinear":
            data, kind = view.type_name(node.input[0]), view.type_name(given(node, 1))
            if data and kind and data != kind:
                yield _error("scale-type", node, f"its scale is {kind}, the tensor it quantises {data}",
                             "store the scale in the tensor's type")  # fmt: skip
            others = [one for one in view.readers[node.output[0]] if one.op_type != "DequantizeLinear"]
            if others:
                yield _error("q-without-dq", node, f"{label(others[0])} reads its int8 output",
                             "put a DequantizeLinear between")  # fmt: skip


def axes(view: View) -> Iterator[Finding]:
    """Activations per tensor; weights per tensor, or per output channel."""
    for node in view.nodes:
        if node.op_type not in _COMPUTE:
            continue
        for index in (0, 1):
            made = view.origin(node.input[index])
            if made is None or made.op_type != "DequantizeLinear":
                continue
            if _scale_count(view, made) <= 1 or not _of_constant(view, made):
                continue
            axis, wanted = _axis_at(view, node.input[index], made), _channel_axis(node)
            rank = len(view.shapes.get(made.input[0], ())) or 4
            if axis is not None and axis % rank != wanted % rank:
                yield _error("weight-axis", made, f"its scales run along axis {axis} of the weights of {label(node)}",
                             f"use axis {wanted}, the output channels")  # fmt: skip


def _scale_count(view: View, node: onnx.NodeProto) -> int:
    shape = view.shapes.get(given(node, 1), ())
    return int(np.prod([size for size in shape if isinstance(size, int)])) if shape else 1


def _of_constant(view: View, node: onnx.NodeProto) -> bool:
    """Whether Q or DQ is of a weight: of a constant, or of one that a QuantizeLinear rounds."""
    made = view.producer.get(node.input[0])
    return view.is_constant(node.input[0]) or (
        made is not None and made.op_type == "QuantizeLinear" and view.is_constant(made.input[0])
    )


def _axis_at(view: View, name: str, made: onnx.NodeProto) -> int | None:
    """The axis of a weight's scales where the layer reads it, behind a Transpose too; None behind another shape."""
    axis = int(attribute(made, "axis", 1))
    node = view.producer.get(name)
    if node is made:
        return axis
    if node is not None and node.op_type == "Transpose" and view.producer.get(node.input[0]) is made:
        turned = list(attribute(node, "perm", []))
        return turned.index(axis % len(turned)) if turned else None
    return None


def operands(view: View) -> Iterator[Finding]:
    """Both operands of a layer quantised or none; its bias in float."""
    for node in view.nodes:
        if node.op_type not in _COMPUTE:
            continue
        data, weight = (_dequantised(view, name) for name in node.input[:2])
        if data != weight:
            one, other = ("weights", "input") if weight else ("input", "weights")
            yield _warning("half-quantised", node, f"its {one} are quantised and its {other} not: it runs in float",
                           "quantise both, or none")  # fmt: skip
        bias = given(node, 2)
        if bias and _dequantised(view, bias):
            yield _error("bias", node, "its bias is quantised", "leave biases in float")
        groups, shape = attribute(node, "group", 1), view.shapes.get(node.input[1], ())
        if data and weight and node.op_type == "Conv" and groups > 1 and shape and int(shape[0]) % 8:
            yield _warning("depthwise", node, f"a grouped int8 convolution with {shape[0]} channels, no multiple of 8, "
                           "falls back to slow kernels", "leave it in float, or prune to a multiple of 8")  # fmt: skip


def joins(view: View) -> Iterator[Finding]:
    """Residual additions and concatenations: where Q/DQ let layers fuse."""
    for node in view.nodes:
        if node.op_type == "Add" and not any(view.is_constant(name) for name in node.input):
            branches = [_branch(view, name) for name in node.input]
            quantised = [_dequantised(view, name) for name in node.input]
            if "conv" in branches and "int8-conv" not in branches:
                yield _warning("residual-add", node, "the branch of its convolution is quantised before the addition, "
                               "so that convolution and addition cannot fuse", "leave that branch bare, "
                               "quantise only the skip branch", PLACEMENT)  # fmt: skip
            elif "int8-conv" in branches and not any(quantised):
                yield _warning("residual-add", node, "its skip branch is not quantised: the int8 convolution before it "
                               "has to write floats", "put Q/DQ on the skip branch", PLACEMENT)  # fmt: skip
        if node.op_type == "Concat":
            made = [view.origin(name) for name in node.input]
            sources = [one for one in made if one is not None and one.op_type == "DequantizeLinear"]
            if not sources:
                continue
            if len(sources) < len(node.input):
                yield _warning("concat", node, f"{len(sources)} of its {len(node.input)} inputs are quantised",
                               "quantise all, or none", PLACEMENT)  # fmt: skip
                continue
            values = {float(np.ravel(value)[0]) for one in sources if (value := view.value(given(one, 1))) is not None}
            if len(values) > 1:
                yield _warning("concat", node, f"its inputs have {len(values)} different scales: each is rescaled",
                               "give all inputs and the output one scale", PLACEMENT)  # fmt: skip


def rest(view: View) -> Iterator[Finding]:
    """What stays float in a quantised graph runs in the graph's float type."""
    if not any(True for _ in _qdq(view)):
        return
    for node in view.nodes:
        if node.op_type in _AVERAGES and not _dequantised(view, node.input[0]) and _after_int8(view, node.input[0]):
            yield _warning("average-pool", node, "its input is not quantised: it runs in float", "quantise its input",
                           PLACEMENT)  # fmt: skip
    floats = [one for one in view.nodes if one.op_type in _COMPUTE and not _dequantised(view, one.input[0])]
    wide = [one for one in floats if view.type_name(one.input[0]) == "FLOAT"]
    if wide:
        yield _warning("float32-rest", wide[0], f"{len(wide)} layers that are not quantised are float32",
                       "write the rest in float16: int8 beside float32 is slow")  # fmt: skip


def _qdq(view: View) -> Iterator[onnx.NodeProto]:
    return (node for node in view.nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear"))


def _after_int8(view: View, name: str) -> bool:
    """Whether a tensor comes from an int8 layer, at most through an activation, an addition or a concatenation."""
    for _ in range(3):
        made = view.producer.get(name)
        if made is None:
            return False
        if made.op_type in _COMPUTE:
            return all(_dequantised(view, one) for one in made.input[:2])
        if made.op_type not in ("Relu", "Clip", "Add", "Concat", "MaxPool"):
            return False
        name = made.input[0]
    return False


def _dequantised(view: View, name: str) -> bool:
    made = view.origin(name)
    return made is not None and made.op_type == "DequantizeLinear"


def _branch(view: View, name: str) -> str:
    """What comes into an addition: a bare int8 convolution, a convolution through Q/DQ, or something else."""
    made = view.producer.get(name)
    if made is not None and made.op_type == "Conv":
        return "int8-conv" if all(_dequantised(view, one) for one in made.input[:2]) else "other"
    if made is not None and made.op_type == "DequantizeLinear":
        quantise = view.producer.get(made.input[0])
        source = view.producer.get(quantise.input[0]) if quantise is not None else None
        if source is not None and source.op_type == "Conv" and len(view.readers[source.output[0]]) == 1:
            return "conv"
    return "other"


def _channel_axis(node: onnx.NodeProto) -> int:
    """The axis of the output channels in a layer's weights."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1 if node.op_type == "ConvTranspose" else -1


def _error(rule: str, node: onnx.NodeProto, why: str, fix: str) -> Finding:
    return Finding("error", rule, label(node), why, fix, SOURCE)


def _warning(rule: str, node: onnx.NodeProto, why: str, fix: str, source: str = SOURCE) -> Finding:
    return Finding("warning", rule, label(node), why, fix, source)


RULES = (integer_operators, scales, axes, operands, joins, rest)
