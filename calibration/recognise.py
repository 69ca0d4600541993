"""Which tensor of one graph is which of another graph of the same model: by what both see of the same few images."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .aten import kind
from .ranges import observe

if TYPE_CHECKING:
    import numpy.typing as npt

    from .choice import Calibrated
    from .observers import Range
    from .ranges import Method

IMAGES = "images"  # what the exporter calls the graph's input
_PADS = ("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d")
_PASS_ON = (*_PADS, "max_pool2d", "flatten", "view", "_unsafe_view", "reshape", "dropout", "clone", "alias", "permute",
            "transpose", "squeeze", "unsqueeze", "slice", "select", "getitem", "split", "split_with_sizes", "chunk",
            "contiguous", "pixel_shuffle", "channel_shuffle", "upsample_nearest2d")  # fmt: skip
ALIKE = 1e-3  # of the spread: batch norm is folded in one graph and not in the other
Print = tuple[tuple[int, ...], tuple[float, ...]]


def fingerprint(tensor: Tensor) -> Print:
    """Shape, smallest and largest value, mean and deviation."""
    values = tensor.detach().double()
    low, high = torch.aminmax(values)
    return tuple(values.shape), tuple(float(one) for one in (low, high, values.mean(), values.std(correction=0)))


def apart(one: Print, other: Print) -> float:
    """How far two fingerprints are apart, over the spread; rounding is all there is between those of one tensor."""
    if math.prod(one[0]) != math.prod(other[0]):
        return math.inf
    low, high = other[1][:2]
    return max(abs(a - b) for a, b in zip(one[1], other[1], strict=True)) / max(high - low, 1e-12)


def known_edges(program: torch.export.ExportedProgram, sample: npt.NDArray[np.float32]) -> dict[str, Print]:
    """The fingerprint of every float tensor of a torch.export graph, by its name."""
    known: dict[str, Print] = {}
    observe(program, sample, lambda name, tensor: known.__setitem__(name, fingerprint(tensor)))
    return known


def known_range(calibrated: Calibrated, edge: str, method: Method) -> tuple[str, Range] | None:
    """Return the range of an edge and the collected edge that it comes from; None where none was collected.

    A tensor that is only moved, cut or padded has no range of its own where the ONNX graph has no such tensor, as with
    a padding that its exporter puts into the convolution behind: its numbers are those of the tensor before it.
    """
    program = calibrated.program
    nodes = {node.name: node for node in program.graph.nodes}
    padded: list[float] = []
    while edge not in calibrated.table.edges:
        node = nodes.get(edge)
        if node is not None and node.name in program.graph_signature.user_inputs and IMAGES in calibrated.table.edges:
            edge = IMAGES
        elif node is not None and node.op == "placeholder":
            return _of_constant(program, edge)
        elif node is None or kind(node) not in _PASS_ON or not node.all_input_nodes:
            return None
        else:
            if kind(node) in _PADS:
                padded.append(_filled_with(node))
            edge = node.all_input_nodes[0].name
    low, high = calibrated.table.range(edge, method)
    return edge, (min(low, *padded, high), max(high, *padded, low))


def _of_constant(program: torch.export.ExportedProgram, edge: str) -> tuple[str, Range] | None:
    """The range of a parameter or another constant, which it tells itself."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers,
             **signature.inputs_to_lifted_tensor_constants}  # fmt: skip
    value = {**program.state_dict, **program.constants}.get(names.get(edge, ""))
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
        return None
    low, high = torch.aminmax(value.detach().float())
    return edge, (float(low), float(high))


def _filled_with(pad: torch.fx.Node) -> float:
    """The constant that a padding adds; zero, which every range holds, for one that repeats what is there."""
    value = pad.kwargs.get("value", next((one for one in pad.args[2:] if isinstance(one, (int, float))), 0.0))
    return float(value) if isinstance(value, (int, float)) else 0.0


def seen_by(observers: Iterable[tuple[str, nn.Module]], run: Callable[[], object]) -> dict[str, list[Print]]:
    """What modules are given while `run` is called, by their name; one may stand at several places of a graph."""
    prints: dict[str, list[Print]] = defaultdict(list)
    hooks = [
        part.register_forward_hook(lambda _part, given, _made, name=name: prints[name].append(fingerprint(given[0])))
        for name, part in observers
    ]
    try:
        with torch.inference_mode():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return prints
