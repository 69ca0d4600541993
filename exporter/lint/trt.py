"""What TensorRT 10.3 to 11.x takes: operators and their limits, types, opset, dimensions.

Sources: onnx-tensorrt's docs/operators.md (trt_operators.toml), TensorRT's documentation on data types and shapes.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx

from ...calibration.view import View, attribute, given, label, type_label
from .finding import Finding

OPERATORS = "onnx-tensorrt, docs/operators.md"
TYPES = "TensorRT documentation, Data Types"
SHAPES = "TensorRT documentation, Working with Dynamic Shapes"
OPSETS = range(9, 25)
WIDEST = 20  # TensorRT 10.1's parser documents opsets 9 to 20, 10.15's 9 to 24
MOST_TOPK = 3839
NAMES = {
    "FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16", "INT32": "INT32", "INT64": "INT64", "BOOL": "BOOL",
    "UINT8": "UINT8", "INT8": "INT8", "INT4": "INT4", "FLOAT8E4M3FN": "FP8",
}  # fmt: skip
# Operators whose axes (or repeats) must be known when the engine is built, and at which input they come.
CONSTANT_INPUT = {
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
         "ReduceProd", "ReduceSum", "ReduceSumSquare", "Squeeze", "Unsqueeze", "CumSum"), 1,
    ),
    "Slice": 3,
    "Pad": 3,
    "OneHot": 1,
}  # fmt: skip


@lru_cache(maxsize=1)
def operators() -> dict[str, frozenset[str]]:
    """Operators that the parser takes, with the types it takes them in."""
    data = tomllib.loads((Path(__file__).parent / "trt_operators.toml").read_text(encoding="utf-8"))
    return {name: frozenset(group["types"]) for group in data["group"] for name in group["operators"]}


def opset(view: View) -> Iterator[Finding]:
    """ONNX's own operators of a version that the parser knows."""
    if view.opset not in OPSETS:
        yield Finding(
            "error", "opset", "the graph", f"opset {view.opset}, TensorRT reads {OPSETS[0]} to {OPSETS[-1]}",
            "export with opset 17 to 20", OPERATORS,
        )  # fmt: skip
    elif view.opset > WIDEST:
        yield Finding(
            "warning", "opset", "the graph",
            f"opset {view.opset}: the parsers of TensorRT 10.1 and of JetPack 6 document opsets up to {WIDEST}",
            "use --fp16 for JetPack 6; bf16 needs opset 22 and a later parser", OPERATORS,
        )  # fmt: skip
    if not view.nodes:
        yield Finding("error", "empty", "the graph", "it holds no nodes", "export it again", OPERATORS)


def known_operators(view: View) -> Iterator[Finding]:
    """Operators that the parser has, in a type that it has them for."""
    for node in view.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield Finding(
                "error", "operator", label(node), f"domain {node.domain} is not ONNX's own",
                "write it with ONNX operators, or bring a TensorRT plugin", OPERATORS,
            )  # fmt: skip
        elif node.op_type not in operators() and node.op_type not in _INTEGER:
            yield Finding(
                "error", "operator", label(node), f"TensorRT's parser has no {node.op_type}",
                "write it with other operators", OPERATORS,
            )  # fmt: skip
        elif node.op_type in ("If", "Loop", "Scan"):
            yield Finding(
                "warning", "control-flow", label(node), "control flow keeps TensorRT from fusing across it",
                "export a model without it", OPERATORS,
            )  # fmt: skip


def types(view: View) -> Iterator[Finding]:
    """Each operator's first operand in a type it is taken in."""
    for node in view.nodes:
        taken = operators().get(node.op_type)
        if taken is None or not node.input or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        found = view.type_name(node.input[0])
        if found == "DOUBLE":
            yield Finding(
                "warning", "double", label(node), "float64 is cast down to float32, and clamped to its range",
                "export in float32", TYPES,
            )  # fmt: skip
        elif node.op_type != "Cast" and "UINT8" in {view.type_name(name) for name in node.input}:
            yield Finding(
                "error", "uint8", label(node), "uint8 may only be a network's input or output, and feed a Cast",
                "cast it to float32 or float16 first", TYPES,
            )  # fmt: skip
        elif found and found != "UINT8" and NAMES.get(found, found) not in taken:
            yield Finding(
                "error", "type", label(node),
                f"{node.op_type} is not taken in {found}, only in {', '.join(sorted(taken))}",
                "cast its input", OPERATORS,
            )  # fmt: skip
        to = attribute(node, "to") if node.op_type == "Cast" else None
        if to is not None:
            name = type_label(to)
            ends = node.output[0] in {one.name for one in view.graph.output}
            if NAMES.get(name, name) not in taken and name != "DOUBLE":
                yield Finding(
                    "error", "type", label(node), f"TensorRT casts to no {name}", "cast to another type", TYPES
                )
            elif name == "UINT8" and not ends:
                yield Finding(
                    "error", "uint8", label(node), "uint8 may only be a network's input or output",
                    "keep it in float inside the graph", TYPES,
                )  # fmt: skip


def dimensions(view: View) -> Iterator[Finding]:
    """Only the batch may be dynamic: zoo builds one profile, over the batch."""
    for one in view.inputs:
        shape = view.shapes.get(one.name, ())
        dynamic = [index for index, size in enumerate(shape) if isinstance(size, str) and index > 0]
        if dynamic:
            yield Finding(
                "error", "dynamic-dimension", f"input {one.name}",
                f"dimensions {dynamic} of {list(shape)} are dynamic, only the first may be",
                "export with a fixed image size", SHAPES,
            )  # fmt: skip
    for node in view.nodes:
        if node.op_type in ("Conv", "ConvTranspose"):
            shape = view.shapes.get(node.input[0], ())
            if len(shape) > 1 and isinstance(shape[1], str):
                yield Finding(
                    "error", "dynamic-channels", label(node), "its number of channels is not known at build time",
                    "export with a fixed number of channels", SHAPES,
                )  # fmt: skip


def constants(view: View) -> Iterator[Finding]:
    """What must be known when the engine is built."""
    for node in view.nodes:
        name = given(node, CONSTANT_INPUT.get(node.op_type, 99))
        if name and not view.is_constant(name):
            yield Finding(
                "error", "constant-axes", label(node), f"its axes or depth ({name}) are computed, not constant",
                "export with fixed ones", OPERATORS,
            )  # fmt: skip


def limits(view: View) -> Iterator[Finding]:
    """Attributes that an operator is taken with."""
    for node in view.nodes:
        for why, fix in _limits_of(node, view):
            yield Finding("error", f"{node.op_type.lower()}-limit", label(node), why, fix, OPERATORS)


def _limits_of(node: onnx.NodeProto, view: View) -> Iterator[tuple[str, str]]:
    match node.op_type:
        case "AveragePool" | "MaxPool" | "LpPool":
            if set(attribute(node, "dilations", [1])) != {1}:
                yield f"dilations {list(attribute(node, 'dilations'))} are not taken", "use dilations of 1"
            if node.op_type != "LpPool" and len(attribute(node, "kernel_shape", [1, 1])) not in (2, 3):
                yield "only pooling over 2 or 3 dimensions is taken", "add a dimension of 1"
            if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
                yield "its Indices output is not taken", "do without return_indices"
        case "BatchNormalization":
            if attribute(node, "training_mode", 0):
                yield "it is in training mode", "export after model.eval()"
        case "Dropout":
            training = given(node, 2)
            value = view.value(training)
            if training and (value is None or bool(np.any(value))):
                yield "it may be in training mode", "export after model.eval()"
        case "Resize":
            yield from _resize_limits(node)
        case "TopK":
            count = view.value(given(node, 1))
            if not attribute(node, "sorted", 1):
                yield "sorted=0 is not taken", "sort its output"
            if count is not None and count.size and int(count.max()) > MOST_TOPK:
                yield f"K is {int(count.max())}, at most {MOST_TOPK} is taken", "take fewer"
        case "LayerNormalization":
            if any(node.output[1:]):
                yield "only its first output is taken", "do without mean and inverse deviation"
        case "ScatterND":
            if attribute(node, "reduction", "none") != "none":
                yield f"reduction={attribute(node, 'reduction')} is not taken", "reduce in another way"
        case "Pad":
            if attribute(node, "mode", "constant") not in ("constant", "reflect", "edge", "wrap"):
                yield f"mode {attribute(node, 'mode')} is not taken", "pad with constants"
        case "LSTM":
            if attribute(node, "layout", 0) or attribute(node, "input_forget", 0):
                yield "layout and input_forget must be 0", "export it with time first"
        case "Constant":
            if {one.name for one in node.attribute} & {"sparse_value", "value_string", "value_strings"}:
                yield "sparse and text constants are not taken", "export without them"
        case "DeformConv":
            pads = list(attribute(node, "pads", []))
            if pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
                yield f"pads {pads} differ between the ends of an axis", "pad evenly"
        case "Conv" | "ConvTranspose":
            shape = view.shapes.get(node.input[1], ())
            if shape and math.prod(size for size in shape if isinstance(size, int)) == 0:
                yield f"its kernel of shape {list(shape)} is empty", "remove the layer"
        case _:
            pass


def _resize_limits(node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    mode = attribute(node, "mode", "nearest")
    where = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if attribute(node, "antialias", 0):
        yield "antialias is not taken", "resize before the model, as zoo's preprocessing does"
    if mode not in ("nearest", "linear"):
        yield f"mode {mode} is not taken, only nearest and linear", "resize before the model"
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch" or attribute(node, "axes") is not None:
        yield "axes and an aspect ratio policy are not taken", "give scales of every dimension"
    if where not in ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"):
        yield f"coordinate transformation {where} is not taken", "use half_pixel"


_INTEGER = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")  # trt_qdq.py's

RULES = (opset, known_operators, types, dimensions, constants, limits)
