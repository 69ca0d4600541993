"""What stands between a convolution and its activation, put so that torch's quantiser sees the three as one.

The quantiser fuses modules that read one another and nothing else does. A batch norm that is called as a function, an
assertion that looks at a convolution's result, an nn.Identity or a dropout in between (the norms of timm have all of
these) each leave the convolution in float, for the tensor behind it has no range of its own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ....calibration.constants import constant_of
from .replace import call_module_instead

_IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_NORMS: dict[type[nn.Module], type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]] = {
    nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d,
}  # fmt: skip
_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def drop_idle(made: fx.GraphModule) -> None:
    """Take assertions out, and modules that in evaluation mode give what they are given.

    Args:
        made: in evaluation mode, changed in place.
    """
    for node in list(made.graph.nodes):
        if node.op == "call_function" and node.target is torch._assert:
            made.graph.erase_node(node)
        elif node.op == "call_module" and type(made.get_submodule(str(node.target))) in _IDLE and len(node.args) == 1:
            node.replace_all_uses_with(node.args[0])
            made.graph.erase_node(node)
    made.graph.eliminate_dead_code()  # what only assertions read


def norms_as_modules(made: fx.GraphModule) -> None:
    """Put a module in the place of each batch norm that is called as a function behind a convolution.

    Args:
        made: whose convolutions are modules, changed in place.
    """
    for node in list(made.graph.nodes):
        norm = _norm_of(made, node)
        if norm is not None:
            call_module_instead(made, node, norm, _arguments(node)["input"])
    made.graph.eliminate_dead_code()


def _norm_of(made: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a call of a batch norm stands for; None for other nodes, and for statistics of the batch."""
    if node.op != "call_function" or node.target is not F.batch_norm:
        return None
    given = _arguments(node)
    before = given.get("input")
    if not isinstance(before, fx.Node) or before.op != "call_module":
        return None
    kind = _NORMS.get(type(made.get_submodule(str(before.target))))
    if kind is None or given.get("training", False) is not False or not isinstance(given.get("eps", 1e-5), float):
        return None
    values = {name: constant_of(made, given.get(name)) for name in _ARGUMENTS[1:5]}
    mean, variance = values["running_mean"], values["running_var"]
    if mean is None or variance is None or any(values[name] is None and given.get(name) is not None for name in values):
        return None  # an image reaches one of them
    norm = kind(len(mean), eps=given.get("eps", 1e-5))
    for name, value in (("running_mean", mean), ("running_var", variance)):
        getattr(norm, name).copy_(value)
    _set(norm.weight, values["weight"])
    _set(norm.bias, values["bias"])
    return norm.eval().requires_grad_(False)


def _set(parameter: Tensor, value: Tensor | None) -> None:
    """Copy a value; a new norm has what a missing one stands for."""
    if value is not None:
        parameter.data.copy_(value)


def _arguments(node: fx.Node) -> dict[str, Any]:
    """A call's arguments by name."""
    return {**dict(zip(_ARGUMENTS, node.args, strict=False)), **node.kwargs}
