"""A module's graph with every convolution and linear layer of constant weights as a module of torch.nn.

torch's quantiser converts modules. Of a functional call, such as F.conv2d(x, self.weight), or of weights that are
computed from parameters (weight standardisation, a parametrisation), it makes operators that its kernels do not take.
What such weights come to is therefore calculated once, here, and kept by an ordinary module in the call's place.
"""

from __future__ import annotations

import copy
import operator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.ao.quantization.fx.tracer import QuantizationTracer
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ....calibration.choice import Calibrated
from ....calibration.constants import constant_of
from ....calibration.view import given
from ....models.copies import copy_of
from ..graph.qdq_sites import LAYERS
from .norms import drop_idle, norms_as_modules
from .pads import fold_pads
from .replace import call_module_instead

CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
LINEAR = ("input", "weight", "bias")
_CONVOLUTIONS: dict[Any, type[nn.Module]] = {
    F.conv1d: nn.Conv1d, F.conv2d: nn.Conv2d, torch.conv1d: nn.Conv1d, torch.conv2d: nn.Conv2d,
}  # fmt: skip
FUNCTIONAL = (
    *_CONVOLUTIONS, F.linear, F.conv3d, torch.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
    torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d,
)  # fmt: skip
_WITH_A_NUMBER: dict[Any, Any] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), torch.ops.aten.add.Scalar),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), torch.ops.aten.mul.Scalar),
}
_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


def as_modules(module: nn.Module) -> fx.GraphModule:
    """Return a copy of a module as a graph whose layers with constant weights are modules.

    Raises:
        Exception: torch.fx cannot record the module's forward; each way to fail has its own class.
    """
    root = copy_of(module).eval()
    for part in list(root.modules()):
        _settle(part)
    # the quantiser's own tracer: the modules that it keeps whole here are those that it will look for
    made = fx.GraphModule(root, QuantizationTracer([], []).trace(root))
    drop_idle(made)
    _one_call_each(made)
    _numbers_apart(made)
    for node in list(made.graph.nodes):
        layer = _layer_of(made, node)
        if node.op == "call_module" and isinstance(made.get_submodule(str(node.target)), nn.PReLU):
            # torch's integer PReLU answers wrongly (0.7 relative distance in torch 2.14), and only modules become one
            with made.graph.inserting_before(node):
                slopes = made.graph.get_attr(f"{node.target}.weight")
            _call_instead(made, node, F.prelu, (node.args[0], slopes))
        elif node.op == "call_module" and isinstance(part := made.get_submodule(str(node.target)), nn.Softmax):
            # of the module torch keeps steps of 1/256, which are few for many positions; the function stays float
            _call_instead(made, node, F.softmax, (node.args[0], part.dim))
        elif layer is not None:
            call_module_instead(made, node, layer, _arguments(node)["input"])
    norms_as_modules(made)
    fold_pads(made)
    made.graph.eliminate_dead_code()
    made.recompile()
    return made


def layer_paths(made: fx.GraphModule, calibrated: Calibrated) -> dict[str, str]:
    """Return the module of `as_modules` that each layer of the ONNX graph is, by the layer's name.

    Both list the layers with constant weights in the order in which they run. Where one lists other layers than the
    other, what is left are those whose weights have the module's name in both.
    """
    view = calibrated.view
    layers = [
        node for node in view.nodes
        if node.op_type in LAYERS and view.is_constant(given(node, 1))
    ]  # fmt: skip
    parts = dict(made.named_modules())
    called = [
        str(node.target) for node in made.graph.nodes
        if node.op == "call_module" and isinstance(parts[str(node.target)], _WEIGHTED)
    ]  # fmt: skip
    sizes = [int(torch.tensor(view.shapes[node.input[1]]).prod()) for node in layers]
    if sizes == [_weight(parts[path]).numel() for path in called]:
        return {node.name: path for node, path in zip(layers, called, strict=True)}
    named = {node.name: node.input[1].removesuffix(".weight") for node in layers}
    return {layer: path for layer, path in named.items() if path in called}


def weight_makers(made: fx.GraphModule) -> set[fx.Node]:
    """Return the nodes that only the weights and biases of functional layers are made of.

    Quantising these would round the weights twice, with one scale for all channels.
    """
    found: set[fx.Node] = set()
    for node in reversed(made.graph.nodes):
        if node.users and all(
            reader in found or (reader.target in FUNCTIONAL and node not in _data(reader)) for reader in node.users
        ):
            found.add(node)
    return found


def _data(layer: fx.Node) -> tuple[Any, ...]:
    """What a functional layer reads beside its weight and bias."""
    return tuple(value for name, value in _arguments(layer).items() if name not in ("weight", "bias"))


def _settle(part: nn.Module) -> None:
    """Make a copied module an ordinary one of torch.nn.

    What a parametrisation, or torch's older weight_norm, computes before each call becomes a parameter. A padding by
    name becomes numbers where these are the same on both sides, which torch's integer convolutions ask for.
    """
    if isinstance(part, (nn.Conv1d, nn.Conv2d)) and part.padding_mode == "zeros" and isinstance(part.padding, str):
        total = [dilation * (size - 1) for dilation, size in zip(part.dilation, part.kernel_size, strict=True)]
        if part.padding == "valid" or not any(one % 2 for one in total):
            part.padding = tuple(0 if part.padding == "valid" else one // 2 for one in total)
    if parametrize.is_parametrized(part):
        values = {name: getattr(part, name) for name in cast("Any", part.parametrizations)}
        # torch's own way to remove it takes the weights from the class, which the user's module still has
        part.__class__ = type(part).__bases__[0]
        del part.parametrizations
        for name, value in values.items():
            part.register_parameter(name, nn.Parameter(value.detach().clone(), requires_grad=False))
    for hook in list(part._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(part, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(part, hook.name)


def _call_instead(made: fx.GraphModule, node: fx.Node, function: Any, arguments: tuple[Any, ...]) -> None:
    """Let a graph call a function in the place of a node, which is erased."""
    with made.graph.inserting_before(node):
        node.replace_all_uses_with(made.graph.call_function(function, arguments))
    made.graph.erase_node(node)


def _one_call_each(made: fx.GraphModule) -> None:
    """Give each call after a module's first one a module of its own, with the same parameters.

    An integer module writes on one grid: what it is called with first and last may have other ranges.
    """
    called: set[str] = set()
    for node in made.graph.nodes:
        if node.op != "call_module":
            continue
        if node.target in called:
            part = made.get_submodule(node.target)
            other = copy.copy(part)
            for name in ("_parameters", "_buffers", "_modules"):
                setattr(other, name, dict(getattr(part, name)))
            node.target = node.name  # so that the call has the same name when the quantiser records the graph again
            while hasattr(made, node.target):
                node.target += "_"
            made.add_submodule(node.target, other)
        called.add(node.target)


def _numbers_apart(made: fx.GraphModule) -> None:
    """Write sums and products of a tensor and a number so that the quantiser leaves them in float.

    It would derive the grid of the result from the tensor's: of a sum it may be several times as coarse as it need be,
    and where something else shares it, it fits one of them alone. A product with 1 is left out.
    """
    for node in list(made.graph.nodes):
        called = _WITH_A_NUMBER.get(node.target) if node.op in ("call_function", "call_method") else None
        if called is None or len(node.all_input_nodes) != 1 or len(node.args) != 2 or node.kwargs:
            continue
        tensor, number = node.args if isinstance(node.args[0], fx.Node) else reversed(node.args)
        if not isinstance(number, (int, float)) or _is_size(tensor):
            continue
        if called is torch.ops.aten.mul.Scalar and number == 1:
            node.replace_all_uses_with(tensor)
            made.graph.erase_node(node)
        else:
            _call_instead(made, node, called, (tensor, number))


def _is_size(node: fx.Node) -> bool:
    """Whether a node is a size of a tensor, or is computed of sizes alone, and no tensor."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel")
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    made_of = node.all_input_nodes
    return bool(made_of) and getattr(node.target, "__module__", "") == "_operator" and all(map(_is_size, made_of))


def _weight(part: nn.Module) -> Tensor:
    weight = part.weight
    assert isinstance(weight, Tensor)
    return weight


def _layer_of(made: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a functional call stands for; None for other nodes, and for weights that images change."""
    if node.op != "call_function" or node.target not in (*_CONVOLUTIONS, F.linear):
        return None
    arguments = _arguments(node)
    if not isinstance(arguments.get("input"), fx.Node):
        return None
    weight, bias = (constant_of(made, arguments.get(name)) for name in ("weight", "bias"))
    others = [value for name, value in arguments.items() if name not in LINEAR]
    if not isinstance(weight, Tensor) or (bias is None and arguments.get("bias") is not None):
        return None
    if any(isinstance(inner, fx.Node) for value in others for inner in _flat(value)):
        return None
    if node.target is F.linear:
        layer: Any = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    else:
        groups = arguments.get("groups", 1)
        layer = _CONVOLUTIONS[node.target](
            weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]), bias=bias is not None,
            **{name: value for name, value in arguments.items() if name not in LINEAR},
        )  # fmt: skip
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if isinstance(bias, Tensor):
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    _settle(layer)
    return layer.eval()


def _arguments(node: fx.Node) -> dict[str, Any]:
    """A call's arguments by name."""
    return {**dict(zip(LINEAR if node.target is F.linear else CONV, node.args, strict=False)), **node.kwargs}


def _flat(value: Any) -> list[Any]:
    return [inner for item in value for inner in _flat(item)] if isinstance(value, (tuple, list)) else [value]
