"""What targets share in writing: new nodes behind the tensors they read, constants, weights as integers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ....calibration.adaround import Rounder
from ....calibration.quantize import to_int8
from ....calibration.view import View, bias_behind


class Writer:
    """Collects new nodes and constants, and puts them into a graph where their inputs are made."""

    def __init__(self, graph: onnx.GraphProto, rounder: Rounder | None = None) -> None:
        self._graph, self._rounder = graph, rounder
        self._after: dict[str, list[onnx.NodeProto]] = {}
        self._first: list[onnx.NodeProto] = []

    def finish(self) -> None:
        """Put everything in its place, and drop the weights that integers replaced."""
        nodes = [*self._first]

        def put(made: Iterable[onnx.NodeProto]) -> None:
            for node in made:
                nodes.append(node)
                for name in node.output:
                    put(self._after.pop(name, []))

        for one in self._graph.input:
            put(self._after.pop(one.name, []))
        put(self._graph.node)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        read = {name for node in nodes for name in node.input}
        kept = [one for one in self._graph.initializer if one.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def quantise(self, name: str, scale: np.ndarray | np.generic, zero_point: np.generic) -> str:
        """Q and DQ behind a tensor; the name of the dequantised value."""
        tail = [self.constant(f"{name}_scale", scale), self.constant(f"{name}_zero_point", zero_point)]
        quantised, back = f"{name}_QuantizeLinear", f"{name}_DequantizeLinear"
        self._after[name] = [
            helper.make_node("QuantizeLinear", [name, *tail], [quantised], quantised),
            helper.make_node("DequantizeLinear", [quantised, *tail], [back], back),
        ]
        return back

    def dequantise(self, stem: str, integers: np.ndarray, scales: np.ndarray, axis: int) -> str:
        """Stored integers with their DequantizeLinear; the name of what they stand for."""
        names = [
            self.constant(f"{stem}_quantized", integers),
            self.constant(f"{stem}_scale", scales),
            self.constant(f"{stem}_zero_point", np.zeros(scales.shape, integers.dtype)),
        ]
        made = f"{stem}_DequantizeLinear"
        self._first.append(helper.make_node("DequantizeLinear", names, [made], made, axis=axis))
        return made

    def correct_product(self, node: onnx.NodeProto, view: View, shift: np.ndarray) -> None:
        """Take shifts, one an output, from a matrix product: from the bias added behind it, or with a new one."""
        # the graph as it was: this node reads integers already, and the view's nodes are copies
        added = bias_behind(view, view.producer[node.output[0]])
        if added is None:
            bare, name = f"{node.output[0]}_bare", self.constant(f"{node.name}_bias", (-shift).astype(np.float32))
            self._after[bare] = [helper.make_node("Add", [bare, name], [node.output[0]], f"{node.name}_corrected")]
            node.output[0] = bare
            return
        added = next(one for one in self._graph.node if one.name == added.name)
        index = next(index for index, name in enumerate(added.input) if view.is_constant(name))
        bias = view.value(added.input[index])
        assert bias is not None
        added.input[index] = self.constant(f"{node.name}_bias", (bias - shift).astype(np.float32))

    def integers(self, layer: str, weight: np.ndarray, scales: np.ndarray, axis: int, bits: int) -> np.ndarray:
        """A layer's weights, rounded to the nearest or as the rounder says."""
        if self._rounder is None:
            return to_int8(weight, scales, axis, bits)
        return self._rounder.integers(layer, weight, scales, axis, bits)

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        """An initializer; its name."""
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name
