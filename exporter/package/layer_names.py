"""The model's layer of each operator that a runtime timed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..runtime.container import Package


def with_layers(found: dict[str, Any], package: Package) -> dict[str, Any]:
    """The same, with the model's layer of each operator where its weights tell: runtimes have names of their own."""
    if not found.get("operators"):
        return found
    import onnx

    from ..backends.onnx.runner import original_names

    paths = {one["name"]: one["model"] for one in package.manifest["artifacts"]}
    graph = onnx.load_from_string(package.read(paths[found["artifact"]]))
    original = original_names(graph)
    layers: dict[str, str] = {}
    for node in graph.graph.node:
        matched = re.match(r"(.+)\.weight", node.input[1]) if len(node.input) > 1 else None
        if matched is not None:
            layers.setdefault(node.name, matched[1])
    named = [{**one, "layer": layers.get(original(one["name"]), "")} for one in found["operators"]]
    return {**found, "operators": named}
