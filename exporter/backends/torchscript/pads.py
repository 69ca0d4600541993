"""Paddings between integer layers, computed on integers.

torch's converter does not know paddings: it turns the integers before one into floats, pads these, and rounds them to
integers again. With the same scale on both sides the integers themselves can be padded, which moves a quarter of the
bytes; torch fills with the zero point, which is the integer that stands for zero.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ....calibration.observers import Range
from .observed import observer_names

_MODES = ("constant", "reflect")  # torch pads integers in these ways
_MOVES = ("flatten", "view", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "contiguous")


def fold_pads(made: fx.GraphModule) -> None:
    """Let convolutions pad for themselves where zeros are put before them on both sides alike.

    torch's integer kernels of depthwise convolutions are many times faster with their own padding (fbgemm takes its
    fast path for no other), and networks ported from TensorFlow pad before each convolution.

    Args:
        made: whose layers are modules, changed in place.
    """
    called = Counter(str(node.target) for node in made.graph.nodes if node.op == "call_module")
    for node in list(made.graph.nodes):
        layer = made.get_submodule(str(node.target)) if node.op == "call_module" else None
        before = node.args[0] if node.args else None
        if type(layer) is not nn.Conv2d or not isinstance(before, fx.Node) or called[str(node.target)] > 1:
            continue
        found = _padding(made, before)
        if found is None or found[1] != "constant" or len(found[0]) != 4:
            continue
        left, right, top, bottom = found[0]
        alike = left == right >= 0 and top == bottom >= 0
        if not alike or len(before.users) > 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            continue
        layer.padding = (layer.padding[0] + top, layer.padding[1] + left)
        node.replace_input_with(before, before.all_input_nodes[0])
        made.graph.erase_node(before)


def share_ranges(prepared: fx.GraphModule, edges: dict[str, dict[str, Range]]) -> None:
    """Give what is padded or reshaped the range that it had before; else its integers would be rounded again.

    Args:
        prepared: of prepare_fx.
        edges: the ranges of each observer, changed in place.
    """
    observer = observer_names(prepared)
    for node in prepared.graph.nodes:
        same = _padding(prepared, node) is not None or _moves(prepared, node)
        if same and node.all_input_nodes and observer(node.all_input_nodes[0]) in edges:
            for reader in node.users:
                if observer(reader) in edges:
                    edges[observer(reader)] = edges[observer(node.all_input_nodes[0])]


def pad_integers(module: fx.GraphModule, sample: Tensor) -> int:
    """Pad integers where a converted module pads their floats, and count the places.

    Args:
        module: of convert_fx, changed in place.
        sample: images, to see scales of.
    """
    pads = [(node, how) for node in module.graph.nodes if (how := _padding(module, node)) is not None]
    if not pads:
        return 0
    seen = _Scales(module)
    with torch.inference_mode():
        seen.run(sample)
    done = 0
    for node, (widths, mode) in pads:
        before = node.all_input_nodes[0]
        readers = list(node.users)
        integers = before.all_input_nodes[0] if before.op == "call_method" and before.target == "dequantize" else None
        scale = seen.scales.get(integers) if integers is not None else None
        if scale is None or any(seen.scales.get(reader) != scale or not _rounds(reader) for reader in readers):
            continue
        with module.graph.inserting_before(node):
            padded = module.graph.call_function(F.pad, (integers, widths), {"mode": mode})
        for reader in readers:
            reader.replace_all_uses_with(padded)
            module.graph.erase_node(reader)
        done += 1
    module.graph.eliminate_dead_code()
    module.recompile()
    return done


class _Scales(fx.Interpreter):
    """Runs a graph and keeps scale and zero point of each tensor of integers."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.scales: dict[fx.Node, tuple[float, int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and look at what it makes."""
        made = super().run_node(n)
        if isinstance(made, Tensor) and made.is_quantized and made.qscheme() == torch.per_tensor_affine:
            self.scales[n] = (made.q_scale(), made.q_zero_point())
        return made


def _padding(module: fx.GraphModule, node: fx.Node) -> tuple[tuple[int, ...], str] | None:
    """The widths and the mode of a padding with zeros or by reflection; None for any other node."""
    if node.op == "call_module":
        called = module.get_submodule(str(node.target))
        if isinstance(called, (nn.ZeroPad2d, nn.ConstantPad2d)) and called.value == 0:
            return tuple(called.padding), "constant"
        return (tuple(called.padding), "reflect") if isinstance(called, nn.ReflectionPad2d) else None
    if node.op != "call_function" or node.target is not F.pad:
        return None
    given: dict[str, Any] = {**dict(zip(("input", "pad", "mode", "value"), node.args, strict=False)), **node.kwargs}
    widths, mode = given["pad"], given.get("mode", "constant")
    plain = isinstance(widths, (list, tuple)) and all(isinstance(width, int) for width in widths)
    return (tuple(widths), mode) if plain and mode in _MODES and not given.get("value") else None


def _moves(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node gives the same numbers another shape."""
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), nn.Flatten)
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return node.op.startswith("call_") and name in _MOVES


def _rounds(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is torch.quantize_per_tensor
