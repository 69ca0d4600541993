"""What torch.onnx leaves of weights that could be constants: sums that are done at each run, norms behind a layer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .qdq_sites import LAYERS

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram


def fold_weights(program: ONNXProgram) -> None:
    """Calculate weights that the model makes of its parameters at every call (weight standardisation), once.

    torch.onnx leaves larger ones as operators, which runtimes may do at each run, and which no quantiser takes for
    weights.
    """
    from onnxscript import optimizer

    constants = set(program.model.graph.initializers)
    made = [
        node for node in program.model.graph
        if node.op_type in LAYERS and node.inputs[1] is not None and node.inputs[1].name not in constants
    ]  # fmt: skip
    if any(_is_constant(node.inputs[1]) for node in made):
        optimizer.fold_constants(
            program.model, onnx_shape_inference=False, input_size_limit=sys.maxsize, output_size_limit=sys.maxsize
        )
        optimizer.remove_unused_nodes(program.model)


def fold_norms(program: ONNXProgram) -> None:
    """Fold the batch norms that torch.onnx leaves behind layers whose weights other calls of the layer have too.

    Each call gets weights of its own. Else the norm would be computed at each run, and in float: an int8 layer would be
    rounded before it.
    """
    import onnx_ir as ir
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.rules import common

    graph = program.model.graph
    layers = [
        layer for norm in graph
        if norm.op_type == "BatchNormalization" and norm.inputs[0] is not None
        if (layer := norm.inputs[0].producer()) is not None and len(norm.inputs[0].uses()) == 1
        if layer.op_type in ("Conv", "ConvTranspose", "Gemm")
    ]  # fmt: skip
    for layer in layers:
        for index, value in enumerate(layer.inputs[1:], 1):
            if value is not None and value.is_initializer() and len(value.uses()) > 1:
                name = f"{layer.name}_{value.name}"
                own = ir.Value(name=name, shape=value.shape, type=value.type, const_value=value.const_value)
                graph.register_initializer(own)
                layer.replace_input_with(index, own)
    if layers:
        rules = [
            common.fuse_batchnorm_into_conv_rule,
            common.fuse_batchnorm_into_conv_transpose_rule,
            common.fuse_batchnorm_into_gemm_rule,
        ]
        program.model = rewrite(program.model, pattern_rewrite_rules=rules)


def _is_constant(value: Any) -> bool:
    """Whether no input of the graph reaches a value."""
    waiting, seen = [value], {value}
    while waiting:
        one = waiting.pop()
        if one.is_graph_input():
            return False
        maker = one.producer()
        fresh = {given for given in (maker.inputs if maker is not None else ()) if given is not None} - seen
        seen |= fresh
        waiting += fresh
    return True
