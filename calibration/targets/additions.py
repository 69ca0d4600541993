"""Residual additions in the convolution before them: torch's operators conv2d_add and conv2d_add_relu.

They save a pass over the sum, and the convolution's result is not rounded to 8 bits before it is added. Only torch's
engine onednn has them, which plain torch does not load a file with.

The operator writes the sum where its other operand lay. An addition is therefore only fused where nothing reads that
memory afterwards, by this name or by that of an operator which may pass its input on: it comes from an operator that
allocates its result, all other readers come before, and the convolution itself is none of them. Both operands have one
shape. Between the convolution and the addition there is no other layer, so that the order of the layers is the float
graph's.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.ao.nn.intrinsic import quantized as fused_modules
from torch.ao.nn.quantized import Conv2d, Linear
from torch.fx.passes.shape_prop import ShapeProp

_ADDITIONS: dict[Any, type[Conv2d]] = {
    torch.ops.quantized.add: fused_modules.ConvAdd2d,
    torch.ops.quantized.add_relu: fused_modules.ConvAddReLU2d,
}
_ALLOCATE = (*_ADDITIONS, torch.ops.quantized.cat)
_ALLOCATING = (Conv2d, Linear, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AvgPool2d)


def fuse_additions(module: fx.GraphModule, sample: Tensor) -> int:
    """Move the additions of a converted module into its convolutions, where that is safe, and count them.

    Args:
        module: of convert_fx, changed in place, packed with the engine onednn, which has to be set.
        sample: images, to see shapes of.
    """
    with torch.inference_mode():
        ShapeProp(module).propagate(sample)
    done = 0
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in _ADDITIONS:
            continue
        for ours, other in ((0, 1), (1, 0)):
            conv, operand = node.args[ours], node.args[other]
            if _fits(module, node, conv, operand):
                _fuse(module, node, conv, operand)
                done += 1
                break
    module.recompile()
    return done


def _fits(module: fx.GraphModule, addition: fx.Node, conv: fx.Node, operand: fx.Node) -> bool:
    """Whether the sum may be written where the operand lies; see the rules above."""
    called, same = _called(module, conv), _same_memory(module, operand)
    if type(called) is not Conv2d or called.padding_mode != "zeros" or not same or conv in same or conv.args[0] in same:
        return False
    calls = [one for one in module.graph.nodes if _called(module, one) is called]
    if len(conv.users) > 1 or len(calls) > 1:
        return False
    places = {node: place for place, node in enumerate(module.graph.nodes)}
    between = list(places)[places[conv] + 1 : places[addition]]
    shapes = [one.meta["tensor_meta"].shape for one in (conv, operand)]
    return (
        shapes[0] == shapes[1]
        and not any(isinstance(_called(module, one), Conv2d | Linear) for one in between)
        and all(places[user] < places[conv] for one in same for user in one.users if user is not addition)
    )


def _same_memory(module: fx.GraphModule, node: fx.Node) -> set[fx.Node]:
    """The nodes whose result may be in the memory of this one's, itself among them; none where nobody allocated it."""
    while not _allocates(module, node):
        if len(node.all_input_nodes) != 1:
            return set()
        (node,) = node.all_input_nodes
    found, left = set[fx.Node](), [node]
    while left:
        found.add(one := left.pop())
        left += [user for user in one.users if not _allocates(module, user) and user not in found]
    return found


def _fuse(module: fx.GraphModule, addition: fx.Node, conv: fx.Node, operand: fx.Node) -> None:
    """Put one module for convolution and addition where the addition was."""
    before = cast("Any", _called(module, conv))
    made: Any = _ADDITIONS[addition.target](
        before.in_channels, before.out_channels, before.kernel_size, before.stride, before.padding, before.dilation,
        before.groups, padding_mode=before.padding_mode,
    )  # fmt: skip
    made.set_weight_bias(before.weight(), before.bias())
    made.scale, made.zero_point = (float(_value(module, addition.args[2])), int(_value(module, addition.args[3])))
    name = str(conv.target)
    module.set_submodule(name, made)
    with module.graph.inserting_before(addition):
        both = module.graph.call_module(name, (conv.args[0], operand))
    both.meta = dict(addition.meta)
    addition.replace_all_uses_with(both)
    module.graph.erase_node(addition)
    module.graph.erase_node(conv)


def _called(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _allocates(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether its result is memory of its own, which its inputs do not share."""
    return isinstance(_called(module, node), _ALLOCATING) or (node.op == "call_function" and node.target in _ALLOCATE)


def _value(module: fx.GraphModule, given: Any) -> Any:
    """A scale or zero point: a number, or the node that reads the buffer with it."""
    return getattr(module, str(given.target)) if isinstance(given, fx.Node) else given
