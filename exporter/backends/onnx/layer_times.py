"""Node times of ONNX Runtime's profile as times of the layers of the graph that was written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from .runner import original_names

if TYPE_CHECKING:
    import onnx


_PARTS = ("_QuantizeLinear", "_DequantizeLinear")
_BRINGS = ("DequantizeLinear", "Pad", "Reshape", "Transpose")  # between Q and a layer: stem.py of the target


def by_layer(times: Mapping[str, float], graph: onnx.ModelProto, layers: Collection[str]) -> dict[str, float]:
    """Node times as layer times: a layer has its own kernel and the Q/DQ on what it writes.

    Q/DQ on what no layer wrote, and what then brings it into a layer's shape, is shared by the layers that read it.
    Other nodes are nobody's.
    """
    original = original_names(graph)
    nodes = {node.name: node for node in graph.graph.node}
    readers: dict[str, list[str]] = defaultdict(list)
    for node in graph.graph.node:
        for name in node.input:
            readers[name].append(node.name)

    def sharing(node: onnx.NodeProto) -> list[str]:
        after = [one for out in node.output for one in readers[out]]
        return [
            name
            for one in after
            for name in ([one] if one in layers else sharing(nodes[one]) if nodes[one].op_type in _BRINGS else [])
        ]

    found: dict[str, float] = defaultdict(float)
    for name, time in times.items():
        own = original(name)
        stem = next((own.removesuffix(part) for part in _PARTS if own.endswith(part)), None)
        if own in layers:
            found[own] += time
        elif stem is not None and original(stem) in layers:
            found[original(stem)] += time
        elif own in nodes and (stem is not None or nodes[own].op_type in _BRINGS):
            several = sharing(nodes[own])
            for one in several:
                found[one] += time / len(several)
    return dict(found)
