"""The first convolution's three colours as channels by fours, which ONNX Runtime's integer kernel reads at a time.

MLAS has a convolution kernel that gathers its operands itself, for channels in multiples of four; with three it copies
every window out first. So the colours get a fourth channel of zeros, or, where the stride skips columns anyway, the
columns of a stride become channels: 224 columns of 3 at stride 4 are 56 of 12. Both are exact: what is added meets
weights that are zero, and folding moves numbers. Rows stay, so that folding costs no copy in the kernel's own layout
(N x H x W x C), where it is a Reshape; the transposes around it cancel with those that ONNX Runtime adds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

COLOURS, LANES = 3, 4
WASTE = 1.25  # times as wide as it is a kernel may become by folding
LARGE, MORE = 7, 1.15  # of kernels wider than that, whose windows are cheap to copy, the work may not grow by more


@dataclass(frozen=True)
class Stem:
    """How a convolution reads its images.

    Attributes:
        fold: columns that become channels; 1 for none.
        zeros: channels of zeros that are added before.
        left, right: columns of zeros that are added; all of the convolution's own padding of columns where it folds.
        taps: columns of the folded kernel.
    """

    fold: int
    zeros: int
    left: int
    right: int
    taps: int


def plan_stem(width: int, kernel: int, stride: int, pads: tuple[int, int]) -> Stem | None:
    """How three colours of `width` columns are best read by a convolution; pads are its columns left and right.

    None: as they are.
    """
    found = _best(width, kernel, stride, pads)
    work = (COLOURS + found.zeros) * found.fold * found.taps / (COLOURS * kernel)
    return found if kernel <= LARGE or work <= MORE else None


def _best(width: int, kernel: int, stride: int, pads: tuple[int, int]) -> Stem:
    beside = Stem(1, LANES - COLOURS, 0, 0, kernel)
    if stride == 1:
        return beside
    taps = -(-kernel // stride)
    outputs = (width + sum(pads) - kernel) // stride + 1
    right = (outputs - 1 + taps) * stride - width - pads[0]
    if taps * stride > WASTE * kernel or right < 0:
        return beside
    return Stem(stride, 0 if COLOURS * stride % LANES == 0 else LANES - COLOURS, pads[0], right, taps)


def fold_weights(weight: npt.NDArray[np.int8], stem: Stem) -> npt.NDArray[np.int8]:
    """K x C x H x W weights for images read that way: K x (C + zeros) * fold x H x taps."""
    outputs, _, height, width = weight.shape
    wide = np.pad(weight, ((0, 0), (0, stem.zeros), (0, 0), (0, stem.taps * stem.fold - width)))
    apart = wide.reshape(outputs, -1, height, stem.taps, stem.fold).transpose(0, 4, 1, 2, 3)
    return np.ascontiguousarray(apart.reshape(outputs, -1, height, stem.taps))


def read_by_fours(proto: onnx.ModelProto, sizes: Mapping[str, Sequence[int | str]]) -> None:
    """Rewrite the quantised convolutions that read three channels, in place; others stay as they are.

    Args:
        proto: with Q/DQ.
        sizes: of what each convolution reads, N x C x H x W, by the convolution's name.
    """
    graph = proto.graph
    producers = {name: node for node in graph.node for name in node.output}
    stored = {one.name: one for one in graph.initializer}
    for node in [one for one in graph.node if one.op_type == "Conv"]:
        data, weights = (producers.get(name) for name in node.input[:2])
        if data is None or weights is None or {data.op_type, weights.op_type} != {"DequantizeLinear"}:
            continue
        height, width = [*sizes.get(node.name, ()), 0, 0, 0, 0][2:4]
        tensor = stored.get(weights.input[0])
        if isinstance(height, int) and isinstance(width, int) and height and width and tensor is not None:
            _rewrite(graph, node, data, tensor, (height, width))


def _rewrite(
    graph: onnx.GraphProto, node: onnx.NodeProto, data: onnx.NodeProto, weights: onnx.TensorProto, size: tuple[int, int]
) -> None:
    own = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    plain = own.get("group", 1) == 1 and set(own.get("dilations", ())) <= {1}
    if len(weights.dims) != 4 or weights.dims[1] != COLOURS or not plain or own.get("auto_pad", b"NOTSET") != b"NOTSET":
        return
    (top, left, bottom, right), strides = own.get("pads", (0, 0, 0, 0)), own.get("strides", (1, 1))
    stem = plan_stem(size[1], weights.dims[3], strides[1], (left, right))
    if stem is None:
        return
    nodes = _nodes(graph, stem, data, node.name, *size)
    index = list(graph.node).index(node)
    for one in reversed(nodes):
        graph.node.insert(index, one)
    before, node.input[0] = node.input[0], nodes[-1].output[0]
    if not any(before in one.input for one in graph.node):
        graph.node.remove(data)
    weights.CopyFrom(numpy_helper.from_array(fold_weights(numpy_helper.to_array(weights), stem), weights.name))
    if stem.fold > 1:
        own |= {"strides": [strides[0], 1], "pads": [top, 0, bottom, 0]}
    own["kernel_shape"] = [weights.dims[2], stem.taps]
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(key, value) for key, value in own.items())


def _nodes(
    graph: onnx.GraphProto, stem: Stem, data: onnx.NodeProto, name: str, height: int, width: int
) -> list[onnx.NodeProto]:
    """From the integers that `data` dequantises to a dequantised tensor of the stem's channels."""
    quantised, scale, zero = data.input

    def constant(what: str, values: list[int]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), f"{name}_{what}"))
        return f"{name}_{what}"

    sizes = constant("added", [0, 0, 0, stem.left, 0, stem.zeros, 0, stem.right])
    made = [helper.make_node("Pad", [quantised, sizes, zero], [f"{name}_padded"], f"{name}_pad")]
    if stem.fold > 1:
        columns = (stem.left + width + stem.right) // stem.fold
        shape = constant("folded", [-1, height, columns, (COLOURS + stem.zeros) * stem.fold])
        steps = (("Transpose", [], [0, 2, 3, 1]), ("Reshape", [shape], []), ("Transpose", [], [0, 3, 1, 2]))
        for index, (kind, more, perm) in enumerate(steps):
            out = f"{name}_fold_{index}"
            made.append(helper.make_node(kind, [made[-1].output[0], *more], [out], out))
            made[-1].attribute.extend([helper.make_attribute("perm", perm)] if perm else [])
    back = f"{name}_images_DequantizeLinear"
    made.append(helper.make_node("DequantizeLinear", [made[-1].output[0], scale, zero], [back], back))
    return made
