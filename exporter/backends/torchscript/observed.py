"""Which observer a node of a prepared graph is: torch gives one that several tensors share a name for each."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx


def observer_names(prepared: fx.GraphModule) -> Callable[[fx.Node], str]:
    """Return a function that gives the first name of the module that a node calls; "" for a node that calls none.

    Args:
        prepared: of prepare_fx.
    """
    names = {id(part): name for name, part in prepared.named_modules()}

    def observer(node: fx.Node) -> str:
        return names[id(prepared.get_submodule(str(node.target)))] if node.op == "call_module" else ""

    return observer
