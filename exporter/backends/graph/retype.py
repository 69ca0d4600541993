"""A float32 graph as bfloat16 or float16, and back: types are changed after everything is folded in float32.

torch.onnx's optimiser turns a bfloat16 module's weights into float, and without the optimiser batch norms stay apart
and axes are computed, which TensorRT refuses. So the float32 graph is exported and folded, and retyped here.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# Inputs that are float32 whatever the tensor's type is, by operator: from this index on.
_STAYS_FLOAT = {"Resize": 1, "Upsample": 1}


def to_bfloat16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float32 graph that computes in bfloat16, with a Cast behind its input and before its output."""
    import onnx

    return _narrowed(proto, onnx.TensorProto.BFLOAT16)


def to_float16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float32 graph that computes in float16, the scales of its Q/DQ too; Casts as above."""
    import onnx

    return _narrowed(proto, onnx.TensorProto.FLOAT16)


def _narrowed(proto: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    import onnx

    made = _retyped(proto, onnx.TensorProto.FLOAT, kind)
    graph = made.graph
    (fed,), (given,) = graph.input, graph.output
    inner, outer = f"{fed.name}_narrow", f"{given.name}_narrow"
    for node in graph.node:
        _rename(node.input, fed.name, inner)
        _rename(node.output, given.name, outer)
        _rename(node.input, given.name, outer)
    graph.node.insert(0, onnx.helper.make_node("Cast", [fed.name], [inner], f"{fed.name}_cast", to=kind))
    up = onnx.helper.make_node("Cast", [outer], [given.name], f"{given.name}_cast", to=onnx.TensorProto.FLOAT)
    graph.node.append(up)
    return made


def widened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a bfloat16 graph that computes in float32 with the same (rounded) weights.

    What a CPU without bfloat16 convolutions can check of it: the weights and the wiring, not the arithmetic.
    """
    import onnx

    return _retyped(proto, onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT)


def _retyped(proto: onnx.ModelProto, old: int, new: int) -> onnx.ModelProto:
    """A copy with every tensor of type `old` in type `new`; inputs and outputs keep their types."""
    import onnx

    made = type(proto)()
    made.CopyFrom(proto)
    graph = made.graph
    spared = {
        name
        for node in graph.node
        for name in node.input[_STAYS_FLOAT.get(node.op_type, len(node.input)) :]
        if old == onnx.TensorProto.FLOAT
    }
    for tensor in graph.initializer:
        if tensor.data_type == old and tensor.name not in spared:
            tensor.CopyFrom(_converted(tensor, new))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == old:
                if not set(node.output) & spared:
                    attribute.t.CopyFrom(_converted(attribute.t, new))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == old:
                attribute.i = new
            elif node.op_type == "Constant" and attribute.name == "value_float" and new != onnx.TensorProto.FLOAT:
                tensor = onnx.helper.make_tensor("", onnx.TensorProto.FLOAT, [], [attribute.f])
                attribute.CopyFrom(onnx.helper.make_attribute("value", _converted(tensor, new)))
    del graph.value_info[:]
    return made


def _converted(tensor: onnx.TensorProto, new: int) -> onnx.TensorProto:
    from onnx import helper, numpy_helper

    array = numpy_helper.to_array(tensor)
    return numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(new)), tensor.name)


def _rename(names: MutableSequence[str], old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new
