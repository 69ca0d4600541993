"""A module in the place of a functional call."""

from __future__ import annotations

from torch import fx, nn


def call_module_instead(made: fx.GraphModule, node: fx.Node, part: nn.Module, data: fx.Node) -> None:
    """Let a graph call a module where it called a function, and keep the module under the call's name.

    Args:
        made: changed in place.
        node: the call, which is erased.
        part: the module.
        data: what it is given.
    """
    name = node.name
    while hasattr(made, name):
        name += "_"
    made.add_submodule(name, part)
    with made.graph.inserting_before(node):
        node.replace_all_uses_with(made.graph.call_module(name, (data,)))
    made.graph.erase_node(node)
