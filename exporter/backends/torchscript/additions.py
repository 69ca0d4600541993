"""Residual additions in the convolution before them: torch's operators conv2d_add and conv2d_add_relu.

They save a pass over the sum, and the convolution's result is not rounded to 8 bits before it is added. Only torch's
engine onednn has them, which plain torch does not load a file with.

The operator writes the sum where its other operand lay, and does not tell torch so. An addition is therefore only fused
where nothing reads that memory afterwards, by this name or another:

- Memory is shared by what an operator may pass on instead of allocating, and by equal calculations, which TorchScript
  makes one of.
- An operator that allocates made it, all other readers come before, and the convolution itself is none of them.
- Nothing happens between the convolution and the addition: what it reads is as it was, and the order of the layers is
  the float graph's.
- Both operands have one shape, and nobody else calls the convolution's module.
"""

from __future__ import annotations

from typing import Any

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
    memory = _Memory(module)
    done = 0
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in _ADDITIONS:
            continue
        for conv, operand in (node.args[:2], node.args[1::-1]):
            if isinstance(conv, fx.Node) and isinstance(operand, fx.Node) and _fits(memory, node, conv, operand):
                _fuse(module, node, conv, operand)
                done += 1
                break
    module.recompile()
    return done


class _Memory:
    """What nodes of a graph may share."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self._equal = equal_calculations(module)

    def called(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls."""
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def allocates(self, node: fx.Node) -> bool:
        """Whether a result is memory of its own, which its inputs do not share."""
        if node.op == "call_function":
            return node.target in _ALLOCATE
        return isinstance(self.called(node), _ALLOCATING)

    def shared(self, node: fx.Node) -> set[fx.Node]:
        """The nodes whose result may lie where this one's does, itself among them; none if nobody allocated it."""
        while not self.allocates(node):
            if len(node.all_input_nodes) != 1:
                return set()
            (node,) = node.all_input_nodes
        found, left = set[fx.Node](), [node]
        while left:
            found.add(one := left.pop())
            near = [*self._equal.get(one, ()), *(user for user in one.users if not self.allocates(user))]
            left += [other for other in near if other not in found]
        return found


def equal_calculations(module: fx.GraphModule) -> dict[fx.Node, list[fx.Node]]:
    """Each node's equals, which call the same with equal inputs; TorchScript would do that once for all of them."""
    first: dict[str, fx.Node] = {}
    standing: dict[fx.Node, fx.Node] = {}
    groups: dict[fx.Node, list[fx.Node]] = {}
    for node in module.graph.nodes:
        what = node.target
        if node.op == "call_module":
            called = module.get_submodule(str(what))
            bare = not isinstance(called, Conv2d | Linear) and not [*called.parameters(), *called.buffers()]
            what = (type(called), called.extra_repr()) if bare else id(called)
        elif node.op == "get_attr" and isinstance(held := getattr(module, str(what), None), Tensor):
            what = (held.dtype, held.tolist())
        arguments = fx.map_arg((node.args, node.kwargs), lambda one: standing[one])
        standing[node] = first.setdefault(repr((node.op, what, arguments)), node)
        groups.setdefault(standing[node], []).append(node)
    return {node: groups[one] for node, one in standing.items() if len(groups[one]) > 1}


def _fits(memory: _Memory, addition: fx.Node, conv: fx.Node, operand: fx.Node) -> bool:
    """Whether the sum may be written where the operand lies; see the rules above."""
    called, same, nodes = memory.called(conv), memory.shared(operand), list(memory.module.graph.nodes)
    if type(called) is not Conv2d or called.padding_mode != "zeros" or not same or {conv, *conv.all_input_nodes} & same:
        return False
    places = {node: place for place, node in enumerate(nodes)}
    shapes = [one.meta["tensor_meta"].shape for one in (conv, operand)]
    return (
        shapes[0] == shapes[1]
        and len(conv.users) == 1
        and sum(memory.called(node) is called for node in nodes) == 1
        and all(node.op == "get_attr" for node in nodes[places[conv] + 1 : places[addition]])
        and all(places[user] < places[conv] for one in same for user in one.users if user is not addition)
    )


def _fuse(module: fx.GraphModule, addition: fx.Node, conv: fx.Node, operand: fx.Node) -> None:
    """Put one module for convolution and addition where the addition was."""
    name = str(conv.target)
    before: Any = module.get_submodule(name)
    made: Any = _ADDITIONS[addition.target](
        before.in_channels, before.out_channels, before.kernel_size, before.stride, before.padding, before.dilation,
        before.groups,
    )  # fmt: skip
    made.set_weight_bias(before.weight(), before.bias())
    made.scale, made.zero_point = (float(_value(module, addition.args[2])), int(_value(module, addition.args[3])))
    module.set_submodule(name, made)
    with module.graph.inserting_before(addition):
        both = module.graph.call_module(name, (conv.args[0], operand))
    both.meta = dict(addition.meta)
    addition.replace_all_uses_with(both)
    module.graph.erase_node(addition)
    module.graph.erase_node(conv)


def _value(module: fx.GraphModule, given: Any) -> Any:
    """A scale or zero point: a number, or the node that reads the buffer with it."""
    return getattr(module, str(given.target)) if isinstance(given, fx.Node) else given
