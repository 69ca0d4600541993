"""2:4 sparsity, read from the weights of an exported graph: what a builder is told is what the file holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ....calibration.pruning.pattern import holds_2_4
from ....errors import GateError
from .layers import list_layers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx
    from torch import nn


def sparse_layers(proto: onnx.ModelProto) -> tuple[str, ...]:
    """The nodes whose weights have two zeros in every four inputs that follow each other, also as int8 behind Q/DQ.

    Those of fewer than 16 inputs are not looked at: no sparse kernel takes them.
    """
    from onnx import numpy_helper

    constants = {one.name: one for one in proto.graph.initializer}
    produced = {output: node for node in proto.graph.node for output in node.output}

    def value(name: str) -> npt.NDArray[np.generic] | None:
        """A constant as it enters a layer, but for scales; None of what is computed."""
        if name in constants:
            return numpy_helper.to_array(constants[name])
        node = produced.get(name)
        if node is None or node.op_type not in ("DequantizeLinear", "Cast", "Identity", "Transpose", "Constant"):
            return None
        if node.op_type == "Constant":
            return next((numpy_helper.to_array(one.t) for one in node.attribute if one.name == "value"), None)
        inner = value(node.input[0])
        if node.op_type == "Transpose" and inner is not None:
            return inner.transpose(list(_attribute(node, "perm", range(inner.ndim)[::-1])))
        if node.op_type == "DequantizeLinear" and inner is not None and len(node.input) > 2:
            zero = value(node.input[2])
            return None if zero is None or zero.any() else inner  # a zero that is stored as another number is not seen
        return inner

    found: list[str] = []
    for node in proto.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or _attribute(node, "group", 1) != 1:
            continue
        weight = value(node.input[1])
        if weight is None or weight.ndim < 2:
            continue
        axis = 1 if node.op_type == "Conv" or _attribute(node, "transB", 0) else weight.ndim - 2
        if weight.shape[axis] % 16 == 0 and weight.any() and holds_2_4(weight, axis):
            found.append(node.name)
    return tuple(found)


def verified_sparse(module: nn.Module, proto: onnx.ModelProto, name: str) -> tuple[str, ...]:
    """The sparse layers of a graph that was exported from a module.

    Raises:
        GateError: the module has more of them: the export lost zeros.
    """
    from ....calibration.pruning.sparsity import layers_2_4  # needs torch, which a board that only builds has not

    wanted, found = layers_2_4(module), sparse_layers(proto)
    if len(found) < len(wanted):
        raise GateError(
            f"{len(wanted)} layers of {name} are 2:4 sparse, of the exported graph only {len(found)}",
            fix="export without equalisation, or prune again",
        )
    return found


def told_sparse(proto: onnx.ModelProto, sparse: Sequence[str]) -> str:
    """How many layers, and how much of the work; "" for none."""
    if not sparse:
        return ""
    layers = list_layers(proto)
    total = sum(layer.macs for layer in layers) or 1
    share = sum(layer.macs for layer in layers if layer.name in sparse) / total
    return f"2:4 sparse: {len(sparse)} of {len(layers)} layers, {share:.0%} of the MACs, read from the exported graph"


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    import onnx

    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)
