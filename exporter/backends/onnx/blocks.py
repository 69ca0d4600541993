"""Linear layers that are read in blocks: for one image at a time, whose time is that of reading the weights.

A linear layer of millions of weights reads each of them once for an image, so that its time is the memory's. QGemm
reads 8-bit weights more slowly than the memory gives them; ONNX Runtime's MatMulNBits, made for language models that
answer one word at a time, does not. Its weights have a scale for each 256 in a row, and what it reads is quantised as
it comes, block by block, so that it needs no range and rounds less. From a few images at once on QGemm is faster.

MatMulNBits is an operator of ONNX Runtime's own (com.microsoft): no other runtime reads such a file. The standard's
blocked DequantizeLinear before a MatMul would be read anywhere, but becomes this operator in new versions of ONNX
Runtime alone, and there not before a Relu: elsewhere weights would be dequantised for every image.
"""

from __future__ import annotations

import onnx
from onnx import helper

from ....calibration.blocks import BLOCK

DOMAIN = "com.microsoft"


def read_in_blocks(proto: onnx.ModelProto, node: onnx.NodeProto, names: list[str], shape: tuple[int, int]) -> None:
    """Make a linear layer of K outputs and C inputs (`shape`) a MatMulNBits, in place.

    Args:
        proto: the graph's model; it is told of the operator's domain.
        node: of the layer.
        names: of the integers, the scales, and where there is one the bias.
        shape: K, C.
    """
    outputs, inputs = shape
    integers, scales, *bias = names
    made = helper.make_node(
        "MatMulNBits",
        [node.input[0], integers, scales, *(["", "", *bias] if bias else [])],
        list(node.output),
        node.name,
        domain=DOMAIN,
        K=inputs,
        N=outputs,
        bits=8,
        block_size=BLOCK,
        accuracy_level=4,  # products of 8-bit integers; the others compute in float
    )
    node.CopyFrom(made)
    if DOMAIN not in {one.domain for one in proto.opset_import}:
        proto.opset_import.append(helper.make_opsetid(DOMAIN, 1))
