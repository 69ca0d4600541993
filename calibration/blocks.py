"""Weights of linear layers quantised in blocks of 256, each with a scale: which layers that suits, and the numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .quantize import SMALLEST
from .view import View, attribute, given

BLOCK = 256  # weights to a scale: the largest that the operator's kernels have
WIDE = 4_000_000  # weights of a layer, from which on reading them is what takes the time
ZERO = 128  # stands for zero where no zero points are given


def wide_layers(view: View) -> frozenset[str]:
    """Names of the linear layers that may be read in blocks: plain products with so many constant weights.

    What is added to the product must be constant too, one number or one for each output: MatMulNBits takes a bias.
    """
    found: set[str] = set()
    for node in view.nodes:
        if node.op_type not in ("Gemm", "MatMul") or not view.is_constant(given(node, 1)):
            continue
        plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1 and not attribute(node, "transA", 0)
        shape = view.shapes.get(node.input[1], ())
        if not plain or len(shape) != 2 or int(shape[0]) * int(shape[1]) < WIDE:
            continue
        outputs = shape[0] if node.op_type == "Gemm" and attribute(node, "transB", 0) else shape[1]
        added = given(node, 2)
        bias = view.value(added)
        if not added or (bias is not None and bias.size in (1, outputs)):
            found.add(node.name)
    return frozenset(found)


def to_blocks(weight: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Weights of K outputs from C inputs (K x C) as integers of K x blocks x BLOCK, with K x blocks scales.

    Symmetric around ZERO; what the last block lacks stands for zero.
    """
    outputs, inputs = weight.shape
    padded = np.pad(np.asarray(weight, np.float32), ((0, 0), (0, -inputs % BLOCK)))
    blocks = padded.reshape(outputs, -1, BLOCK)
    scales = np.maximum(np.abs(blocks).max(-1) / 127, SMALLEST).astype(np.float32)
    steps = np.clip(np.round(blocks / scales[..., None]), -127, 127)
    return (steps + ZERO).astype(np.uint8), scales


def from_blocks(
    integers: npt.NDArray[np.uint8], scales: npt.NDArray[np.float32], inputs: int
) -> npt.NDArray[np.float32]:
    """What the integers stand for: K x C."""
    values = (integers.astype(np.float32) - ZERO) * scales[..., None]
    return values.reshape(len(integers), -1)[:, :inputs]
