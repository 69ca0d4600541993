"""A graph as rules want to see it: constants by value, types and shapes by name, who makes and who reads a tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import EncodeError
from onnx import inliner, numpy_helper

from ..errors import one_line


class View:
    """A graph with local functions inlined and shapes inferred.

    Attributes:
        problem: why ONNX itself refuses the graph, "" when it does not; types and shapes are then what it says itself.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.problem = ""
        try:
            content = bytes_of(proto)  # none of a graph beyond 2 GiB: it is read without shape inference
            if content and not _external(proto):
                onnx.checker.check_model(content)  # bytes: of a message each of these would serialise it again
            if proto.functions:
                proto = inliner.inline_local_functions(proto)
                content = bytes_of(proto)
            if content:  # weights in another file are not looked at, their types and shapes are
                strict = _external(proto)  # the checker, which needs the file, would have found what strictness finds
                types = {"check_type": strict, "strict_mode": strict}
                proto = onnx.shape_inference.infer_shapes(content, data_prop=True, **types)
        except Exception as error:  # noqa: BLE001 - the checker, the inliner and the inference each have classes of their own
            self.problem = one_line(error)
            proto = type(proto)()
        self.proto = proto
        self.graph = proto.graph
        self.nodes = list(_all_nodes(proto.graph))
        self.opset = next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 0)
        graphs = list(_all_graphs(proto.graph))
        self._tensors: dict[str, Any] = {one.name: one for graph in graphs for one in graph.initializer}
        self.producer: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.output:
                self.producer[name] = node
            for name in node.input:
                self.readers[name].append(node)
            if node.op_type == "Constant" and node.attribute:
                self._tensors[node.output[0]] = next(
                    (one.t for one in node.attribute if one.name == "value"), node.attribute[0]
                )
        self.inputs = [one for one in self.graph.input if one.name not in self._tensors]
        self.types: dict[str, int] = {
            name: one.data_type for name, one in self._tensors.items() if isinstance(one, onnx.TensorProto)
        }
        self.shapes: dict[str, tuple[int | str, ...]] = {}
        for value in (value for graph in graphs for value in (*graph.input, *graph.value_info, *graph.output)):
            tensor = value.type.tensor_type
            self.types.setdefault(value.name, tensor.elem_type)
            if tensor.HasField("shape"):
                dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim]
                self.shapes[value.name] = tuple(dims)
        for one in (one for graph in graphs for one in graph.initializer):
            self.shapes[one.name] = tuple(one.dims)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is an initializer or a Constant."""
        return name in self._tensors

    def value(self, name: str) -> npt.NDArray[Any] | None:
        """A constant's value; None for other tensors, and for weights that are kept in another file."""
        one = self._tensors.get(name)
        if one is None:
            return None
        if isinstance(one, onnx.AttributeProto):
            return np.asarray(onnx.helper.get_attribute_value(one))
        if one.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(one)

    def origin(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, seen through those that only move its elements."""
        node = self.producer.get(name)
        while node is not None and node.op_type in ("Transpose", "Identity", "Reshape", "Flatten", "Squeeze"):
            node = self.producer.get(node.input[0])
        return node

    def type_name(self, name: str) -> str:
        """A tensor's type as ONNX calls it, "" where it is not known."""
        found = self.types.get(name, 0)
        return type_label(found) if found else ""


def bytes_of(proto: onnx.ModelProto) -> bytes:
    """A graph's bytes; none beyond protobuf's 2 GiB."""
    try:
        return proto.SerializeToString()
    except EncodeError:
        return b""


def type_label(kind: int) -> str:
    """An element type as ONNX calls it; its number where ONNX has no such type."""
    known = onnx.TensorProto.DataType
    return known.Name(kind) if kind in known.values() else str(kind)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """A node's attribute, bytes as text."""
    for one in node.attribute:
        if one.name == name:
            value = onnx.helper.get_attribute_value(one)
            return value.decode() if isinstance(value, bytes) else value
    return default


def given(node: onnx.NodeProto, index: int) -> str:
    """The name of an input, "" where it is left out."""
    return node.input[index] if len(node.input) > index else ""


def label(node: onnx.NodeProto) -> str:
    """How a finding names a node."""
    return f"{node.op_type} {node.name or (node.output[0] if node.output else '')}".strip()


def _all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the bodies of its control flow."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _all_graphs(inner)


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes in order, those of control flow's bodies after all of the graph's own."""
    for one in _all_graphs(graph):
        yield from one.node


def _external(proto: onnx.ModelProto) -> bool:
    return any(one.data_location == onnx.TensorProto.EXTERNAL for one in proto.graph.initializer)


def bias_behind(view: View, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The addition of a constant for each output that alone reads a matrix product: how ONNX has a bias of rank 3."""
    readers = view.readers[node.output[0]] if node.op_type == "MatMul" else []
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    others = [name for name in readers[0].input if name != node.output[0]]
    outputs = view.shapes.get(given(node, 1), (0,))[-1]
    bias = view.value(others[0]) if len(others) == 1 else None
    return readers[0] if bias is not None and bias.size == outputs == bias.shape[-1] else None
