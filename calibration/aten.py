"""Nodes of a torch.export graph, as rules want to see them: operators without namespace, readers, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def kind(node: torch.fx.Node) -> str:
    """An operator's name without namespace, overload and the underscore of the in-place one; "" for other nodes."""
    if node.op != "call_function":
        return ""
    name = str(getattr(node.target, "__name__", node.target))
    return name.split(".")[0].removesuffix("_")


def only_reader(node: torch.fx.Node) -> torch.fx.Node | None:
    """The node that reads this one, where it is the only one."""
    readers = list(node.users)
    return readers[0] if len(readers) == 1 else None


def parameters(node: torch.fx.Node, names: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Names of a layer's weight and bias in the module."""
    weight, bias = (str(one) for one in [*node.args[1:3], None][:2])
    return names.get(weight, ""), ((names[bias],) if bias in names else ())
