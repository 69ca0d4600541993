"""Clips behind a layer, such as ReLU6: the layer's integers end where the clip does.

torch's converter computes a clip on the integers of the layer before it, with one scale for both. With the range of
what the layer itself writes that scale is often many times too coarse, since a clip is there to cut most of that range
off. With the range behind the clip the layer's own saturation cuts off the same numbers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx, nn

from ....calibration.observers import Range
from .observed import observer_names

_FUNCTIONS = (F.relu6, F.hardtanh, F.hardtanh_, torch.clamp, torch.clip, F.relu, torch.relu)
_METHODS = ("clamp", "clip", "clamp_", "relu", "relu_")
_MODULES = (nn.ReLU6, nn.Hardtanh, nn.ReLU)


def clip_ranges(prepared: fx.GraphModule, edges: dict[str, dict[str, Range]]) -> None:
    """Leave out of an observer's ranges what only a clip behind it reads.

    Args:
        prepared: of prepare_fx.
        edges: the ranges of each observer in the order in which it sees tensors, changed in place.
    """
    observer = observer_names(prepared)
    seen: set[str] = set()
    for node in prepared.graph.nodes:
        name = observer(node)
        if name not in edges or name in seen:
            continue
        seen.add(name)  # what an observer sees first is what the layer writes
        readers = list(node.users)
        if len(readers) != 1 or not _clips(prepared, readers[0]) or len(edges[name]) < 2:
            continue
        if all(observer(behind) == name for behind in readers[0].users):
            first = next(iter(edges[name]))
            edges[name] = {edge: span for edge, span in edges[name].items() if edge != first}


def _clips(prepared: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(prepared.get_submodule(str(node.target)), _MODULES)
    return node.target in (_FUNCTIONS if node.op == "call_function" else _METHODS)
