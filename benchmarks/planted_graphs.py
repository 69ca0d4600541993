"""Faults that a quantised ONNX graph can have: each changes the graph, and says False where it has no such place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def _change(graph: onnx.ModelProto, ending: str, change: Callable[[Any], Any], which: float = 0.5) -> bool:
    """Change a constant whose name ends so, the one in the middle."""
    found = [
        one for one in graph.graph.initializer
        if one.name.endswith(ending) and ("_weight" in one.name) == ("weight" in ending)
        and ("_bias" in one.name) == ("bias" in ending)
    ]  # fmt: skip
    if not found:
        return False
    one = found[int(which * (len(found) - 1))]
    one.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(one).copy()), one.name))
    return True


def _zero_point_of_dq_alone(graph: onnx.ModelProto) -> bool:
    nodes = [
        node for node in graph.graph.node if node.op_type == "DequantizeLinear" and "QuantizeLinear" in node.input[0]
    ]
    if not nodes:
        return False
    node = nodes[len(nodes) // 2]
    point = next(one for one in graph.graph.initializer if one.name == node.input[2])
    value = numpy_helper.to_array(point)
    graph.graph.initializer.append(
        numpy_helper.from_array(
            np.asarray(value + np.uint8(1) if value < 255 else value - np.uint8(1), np.uint8), "moved"
        )
    )
    node.input[2] = "moved"
    return True


def _one_scale_for_all(graph: onnx.ModelProto) -> bool:
    """A layer's weights on the grid of its largest channel."""
    scales = [one for one in graph.graph.initializer if one.name.endswith("_weight_scale")]
    one = scales[len(scales) // 2]
    values = numpy_helper.to_array(one)
    if values.ndim == 0 or len(values) < 2:
        return False
    whole = next(other for other in graph.graph.initializer if other.name == one.name.replace("_scale", "_quantized"))
    integers = numpy_helper.to_array(whole)
    shape = [-1] + [1] * (integers.ndim - 1)
    real = integers.astype(np.float32) * values.reshape(shape)
    steps = np.round(real / values.max()).clip(-127, 127).astype(np.int8)
    whole.CopyFrom(numpy_helper.from_array(steps, whole.name))
    one.CopyFrom(numpy_helper.from_array(np.full_like(values, values.max()), one.name))
    return True


def _fewer_bits(bits: int) -> Callable[[Any], Any]:
    drop = 8 - bits
    return lambda values: ((values.astype(np.int32) >> drop) << drop).astype(np.int8)


IN_GRAPHS: dict[str, Callable[[onnx.ModelProto], bool]] = {
    "one activation scale x 1.05": lambda graph: _change(graph, "_scale", lambda value: value * np.float32(1.05)),
    "one activation scale x 1.2": lambda graph: _change(graph, "_scale", lambda value: value * np.float32(1.2)),
    "one activation scale x 0.8": lambda graph: _change(graph, "_scale", lambda value: value * np.float32(0.8)),
    "one layer's weight scales x 1.05": lambda graph: _change(
        graph, "_weight_scale", lambda value: value * np.float32(1.05)
    ),
    "one layer's weight scales x 1.2": lambda graph: _change(
        graph, "_weight_scale", lambda value: value * np.float32(1.2)
    ),
    "zero point + 1": lambda graph: _change(
        graph, "_zero_point", lambda value: value + np.uint8(1) if value < 255 else value
    ),
    "zero point + 1 where it is read": _zero_point_of_dq_alone,
    "one layer's weights in 4 bits": lambda graph: _change(graph, "_weight_quantized", _fewer_bits(4)),
    "one layer's weights in one scale": _one_scale_for_all,
    "one layer's bias lost (int8)": lambda graph: _change(graph, "_bias_quantized", lambda value: value * 0),
    "two channels swapped (int8)": lambda graph: _change(
        graph, "_weight_quantized", lambda value: value[[1, 0, *range(2, len(value))]]
    ),
    "one class + 0.5 (int8)": lambda graph: _change(
        graph, "_bias_quantized", lambda value: value + (np.arange(len(value)) == 3) * _half_of(graph), 1.0
    ),
}


def _half_of(graph: onnx.ModelProto) -> Any:
    """0.5 in the steps of the last bias."""
    scale = [one for one in graph.graph.initializer if one.name.endswith("_bias_scale")][-1]
    return np.round(0.5 / numpy_helper.to_array(scale)[3]).astype(np.int32)
