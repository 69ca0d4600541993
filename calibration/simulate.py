"""What an int8 plan computes, simulated in torch: the yardstick that an int8 file is measured with.

The torch.export graph of the calibrated module runs with its numbers rounded where the target's rules say
(calibration/annotate.py), by the ranges of the RangeTable and the choice of the plan. Nothing is read from the file
that an export wrote: a scale that went wrong there is not wrong here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from ..errors import UsageError, ZooError, one_line
from ..models.arithmetic import logits_in
from .annotate import AVERAGES, JOINED, NATIVE_NORM, NORM, find_places, moves
from .aten import kind, only_reader
from .bias_correction import shift_of
from .blocks import from_blocks, to_blocks, wide_layers
from .constants import constant_of
from .quantize import affine_uint8, channel_scales, from_int8, symmetric_scale, to_int8
from .rules import Affine, Rules
from .view import bias_behind

if TYPE_CHECKING:
    from .choice import Calibrated, Choice

NORMS = (NATIVE_NORM, NORM)
BLUR = 1e-4  # of a step: what a kernel's own factor may be off at the far end of a tensor


@dataclass(frozen=True)
class Simulated:
    """What an int8 plan gives.

    Attributes:
        logits: N x K.
        blurred: the same with blurred rounding.
        layers: names of the layers that round.
    """

    logits: npt.NDArray[np.float64]
    blurred: npt.NDArray[np.float64]
    layers: frozenset[str]


def simulate(calibrated: Calibrated, choice: Choice, rules: Rules, batch: npt.NDArray[np.float32]) -> Simulated:
    """Logits N x K of prepared images N x C x H x W, as an int8 plan gives them; and once more, with blurred rounding.

    Sums of products of integers are exact in float64, as they are in integer kernels: that is the first (where the rest
    of a graph computes in float16, so does it). In the second, values that lie nearly between two integers may fall to
    the other side, as they do in a kernel that multiplies by a rounded factor, and nothing is in float16: how far that
    moves the logits is what no kernel can be blamed for.

    Raises:
        UsageError: the graph cannot be rounded.
    """
    made = Simulation(calibrated, choice, rules)
    arithmetic = "fp16" if made.rest_in_half else "fp64"
    exact = logits_in(made.module, batch, arithmetic)
    for node in made.module.graph.nodes:
        if node.target is rounded_to_grid:
            node.target = blurred_to_grid
    made.module.recompile()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Simulated(exact, logits_in(made.module, batch, "fp64"), made.layers)


class Simulation:
    """A calibrated module that rounds as an int8 plan says.

    Attributes:
        module: float32 images to logits.
        layers: names of the layers that round, as the calibrated ONNX graph calls them.
        edges: names in the RangeTable of the module's tensors, where they are not their node's.
        rest_in_half: whether what is not rounded to integers computes in float16.
    """

    def __init__(self, calibrated: Calibrated, choice: Choice, rules: Rules) -> None:
        """Build it.

        Args:
            calibrated: module, graph and ranges.
            choice: how ranges are chosen and weights rounded, and which layers stay float.
            rules: of the target, which say what is rounded.

        Raises:
            UsageError: the graph cannot be rounded.
        """
        self.rest_in_half = rules.half_scales
        try:
            self.module, self.layers, self.edges = _rounding(calibrated, choice, rules)
        except ZooError:
            raise
        except Exception as error:  # torch has an error class for each way a graph fails
            raise UsageError(f"int8 cannot be simulated: {type(error).__name__}: {one_line(error)}") from error

    def tensors(self, batch: npt.NDArray[np.float32], behind: str) -> dict[str, npt.NDArray[np.float32]]:
        """Every float tensor by its name in the RangeTable; what is rounded is kept rounded, with `behind` added."""
        kept: dict[str, npt.NDArray[np.float32]] = {}
        names = self.edges

        class Keeping(Interpreter):
            def run_node(self, n: Node) -> Any:
                made = super().run_node(n)
                if isinstance(made, Tensor) and made.is_floating_point() and n.op == "call_function":
                    source = n.args[0]
                    if n.target is rounded_to_grid and isinstance(source, Node):
                        kept[names.get(source, source.name) + behind] = made.numpy()
                    else:
                        kept[names.get(n, n.name)] = made.numpy()
                return made

        keeping = Keeping(self.module, garbage_collect_values=True)
        keeping.extra_traceback = False
        with torch.inference_mode():
            keeping.run(torch.from_numpy(np.array(batch)))
        return {name: value for name, value in kept.items() if name + behind not in kept}


@dataclass(frozen=True)
class _Plan:
    """What rounding a graph needs to know.

    Attributes:
        calibrated, choice, rules: as given.
        graph: of aten operators, batch norms folded.
        edges: names of tensors in the table, where they are not their node's.
        layers: names of layers in the calibrated ONNX graph.
        products: names of those that are matrix products there, whose bias is added behind them in float.
    """

    calibrated: Calibrated
    choice: Choice
    rules: Rules
    graph: GraphModule
    edges: Mapping[Node, str]
    layers: Mapping[Node, str]
    products: frozenset[str]

    def edge(self, node: Node) -> str:
        """The name that the table has a node's tensor under; pools and reshapes go on with what they read."""
        return self.edges.get(node, node.name)

    def source(self, node: Node) -> Node:
        """The tensor whose scale a tensor has: what pads, pools and reshapes read."""
        averages = AVERAGES if self.rules.averages_keep_scale else ()
        while (moves(node) or kind(node) in averages) and node.all_input_nodes:
            node = node.all_input_nodes[0]
        return node

    def has_range(self, node: Node) -> bool:
        """Whether the table knows the range of a tensor, or of what it has its scale from."""
        edges, source = self.calibrated.table.edges, self.source(node)
        return self.edge(node) in edges or self.edge(source) in edges or source.op == "get_attr"

    def grid(self, node: Node) -> Affine:
        """The integers that a tensor is rounded to."""
        node = self.source(node)
        if node.op == "get_attr":  # it tells its own range
            value = _value(self.graph, node)
            return affine_uint8((float(value.min()), float(value.max())))
        table, method = self.calibrated.table, self.choice.method
        if self.rules.symmetric:
            scale = symmetric_scale(table.range(self.edge(node), method, symmetric=True)[1])
            return Affine(float(_as_half(np.float32(scale))) if self.rules.half_scales else scale, 0)
        if kind(node) in self.rules.fixed:
            return self.rules.fixed[kind(node)]
        spans = [table.range(self.edge(other), method) for other in self.together(node)]
        return affine_uint8((min(low for low, _ in spans), max(high for _, high in spans)))

    def together(self, node: Node) -> list[Node]:
        """The tensors that one scale is for: a tensor alone, or all of a concatenation, with what is pooled of them."""
        if not self.rules.joined_share_scale:
            return [node]
        joins = [one for one in (node, *node.users) if kind(one) in JOINED]
        found = dict.fromkeys([node, *(self.source(other) for one in joins for other in (one, *one.all_input_nodes))])
        waiting = [*found]
        while waiting:
            pooled = [one for one in waiting.pop().users if kind(one) in ("max_pool2d", *AVERAGES)]
            waiting += pooled
            found |= dict.fromkeys(pooled)
        return [other for other in found if self.edge(other) in self.calibrated.table.edges] or [node]


def _rounding(
    calibrated: Calibrated, choice: Choice, rules: Rules
) -> tuple[GraphModule, frozenset[str], dict[Node, str]]:
    made: Any = calibrated.program.module()
    for node in list(made.graph.nodes):
        if node.op == "call_module" and str(node.target) == "_guards_fn":  # it refuses a batch of another layout
            made.graph.erase_node(node)
    _compute_once(made)
    _settle_weights(made)
    edges = _fold_norms(made)
    products = frozenset(node.name for node in calibrated.graph.graph.node if node.op_type == "MatMul")
    plan = _Plan(calibrated, choice, rules, made, edges, _layers(calibrated, made, edges), products)
    in_blocks = wide_layers(calibrated.view) - choice.keep.keys() if choice.blocks else frozenset[str]()
    kept = {node for node, name in plan.layers.items() if name in choice.keep or name in in_blocks}
    places = find_places(made.graph, plan.rules, {}, choice.weight_bits, kept, plan.has_range)
    for node, bits in places.weights.items():
        _round_layer(plan, node, bits)
    for node, name in plan.layers.items():
        if name in in_blocks:
            _round_blocks(plan, node)
    # before anything is put between a tensor and what it is made of
    grids = {node: plan.grid(node) for node in (*places.written, *(tensor for tensor, _ in places.read))}
    for tensor, reader in places.read:
        reader.replace_input_with(tensor, _rounded_behind(plan, tensor, grids[tensor]))
    for node in places.written:
        readers = [*node.users]
        rounded = _rounded_behind(plan, node, grids[node])
        for reader in readers:
            reader.replace_input_with(node, rounded)
    made.graph.lint()
    made.recompile()
    return made, frozenset({plan.layers.get(node, "") for node in places.weights} | in_blocks), edges


def _compute_once(made: GraphModule) -> None:
    """Leave out what is computed of the same tensors a second time, as the ONNX exporter does: it has no range."""
    seen: dict[str, Node] = {}
    for node in list(made.graph.nodes):
        if node.op == "call_function" and torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
            first = seen.setdefault(f"{node.target} {node.args} {node.kwargs}", node)
            if first is not node:
                node.replace_all_uses_with(first)
                made.graph.erase_node(node)


def _settle_weights(made: GraphModule) -> None:
    """Calculate weights that are made of parameters at each call, once."""
    for node in list(made.graph.nodes):
        weight = node.args[1] if kind(node) in ("conv2d", "linear") else None
        if isinstance(weight, Node) and weight.op != "get_attr":
            value = constant_of(made, weight)
            if value is not None:
                node.update_arg(1, _constant(made, node, f"{node.name}_made", value))


def _fold_norms(made: GraphModule) -> dict[Node, str]:
    """Fold batch norms into the convolutions that they alone read; the names of tensors that differ from their node's.

    The ONNX export does the same, and names what the convolution writes after the norm's result.
    """
    edges: dict[Node, str] = {}
    for norm in [node for node in made.graph.nodes if kind(node) in NORMS]:
        layer, gamma, beta, mean, variance = norm.args[:5]
        eps = norm.args[-1 if kind(norm) == NATIVE_NORM else 7]
        if kind(layer) != "conv2d" or only_reader(layer) is not norm or not isinstance(mean, Node):
            continue
        ends = [reader for reader in norm.users if reader.op == "call_function" and reader.args[1:] == (0,)]
        results = ends if kind(norm) == NATIVE_NORM else [norm]
        weight, bias = _value(made, layer.args[1]), _optional(made, layer, 2)
        factor = torch.rsqrt(_value(made, variance) + eps)
        if isinstance(gamma, Node):
            factor = factor * _value(made, gamma)
        shift = (torch.zeros(len(weight)) if bias is None else bias) - _value(made, mean)
        shift = shift * factor + (_value(made, beta) if isinstance(beta, Node) else 0)
        layer.update_arg(1, _constant(made, layer, f"{layer.name}_weight", weight * factor[:, None, None, None]))
        bias_node = _constant(made, layer, f"{layer.name}_bias", shift)
        layer.args = (*layer.args[:2], bias_node, *layer.args[3:])
        for result in results:
            edges[layer] = str(result.name)
            result.replace_all_uses_with(layer)
            made.graph.erase_node(result)
        if kind(norm) == NATIVE_NORM:
            made.graph.erase_node(norm)
    for node in made.graph.nodes:
        if node.op == "placeholder":
            edges[node] = "images"
        elif node.op == "output":
            edges[node.all_input_nodes[0]] = "logits"
    return edges


def _layers(calibrated: Calibrated, made: GraphModule, edges: Mapping[Node, str]) -> dict[Node, str]:
    """The ONNX graph's name of each convolution and linear layer, found by the tensor that it writes."""
    view = calibrated.view
    by_output = {name: node.name for node in view.nodes for name in node.output}
    for node in view.nodes:
        added = bias_behind(view, node)
        if added is not None:
            by_output[added.output[0]] = node.name
    found: dict[Node, str] = {}
    for node in made.graph.nodes:
        if kind(node) in ("conv2d", "linear"):
            found[node] = by_output.get(edges.get(node, node.name)) or str(node.name)
    return found


def _round_layer(plan: _Plan, node: Node, bits: int) -> None:
    """Round a layer's weights and bias, before anything is put between it and what it reads."""
    made, choice, rules = plan.graph, plan.choice, plan.rules
    weight = _value(made, node.args[1]).numpy()
    scales = channel_scales(weight, 0, bits)
    scales = _as_half(scales) if rules.half_scales else scales
    rounder = plan.calibrated.rounder if choice.adaround else None
    if rounder is not None:
        integers = rounder.integers(plan.layers[node], weight, scales, 0, bits)
    else:
        integers = to_int8(weight, scales, 0, bits)
    rounded = from_int8(integers, scales, 0)
    _replace(plan, node, 1, "rounded", torch.from_numpy(rounded))
    source = node.args[0]
    assert isinstance(source, Node)
    bias = _optional(made, node, 2)
    seen = plan.calibrated.table.edges
    mean = seen[plan.edge(source) if plan.edge(source) in seen else plan.edge(plan.source(source))].channel_mean
    groups: Any = node.args[6] if kind(node) == "conv2d" and len(node.args) > 6 else 1
    shift = shift_of(weight, rounded, mean, groups) if choice.bias_correction else None
    if shift is not None:
        taken = torch.from_numpy(shift).float()
        bias = -taken if bias is None else bias - taken
    if bias is not None and rules.integer_bias and plan.layers[node] not in plan.products:
        steps = torch.from_numpy(scales).double() * plan.grid(source).scale
        bias = ((bias.double() / steps).round() * steps).float()
    if bias is not None:
        _replace(plan, node, 2, "rounded_bias", bias)


def _round_blocks(plan: _Plan, node: Node) -> None:
    weight = _value(plan.graph, node.args[1]).numpy()
    integers, scales = to_blocks(weight)
    _replace(plan, node, 1, "blocks", torch.from_numpy(from_blocks(integers, scales, weight.shape[1])))


def _rounded_behind(plan: _Plan, node: Node, grid: Affine) -> Node:
    """A node that rounds a tensor to an 8-bit grid of the target."""
    low, high = (-128, 127) if plan.rules.symmetric else (0, 255)
    with plan.graph.graph.inserting_after(node):
        return plan.graph.graph.call_function(rounded_to_grid, (node, grid.scale, grid.zero_point, low, high))


def rounded_to_grid(values: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """What the nearest integers of a grid stand for; halves go to the even one, as in QuantizeLinear.

    The quotient is rounded to float32 before: means of integers often lie exactly between two of them, and would
    otherwise fall to one side by the error of the last bit.
    """
    steps = (values.double() / scale).float().round() + zero_point
    return ((steps.clamp(low, high) - zero_point) * scale).to(values.dtype)


def blurred_to_grid(values: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """The same with values moved by up to `BLUR` of a step before."""
    moved = values.double() + (torch.rand(values.shape, dtype=torch.float64) * 2 - 1) * BLUR * scale
    return rounded_to_grid(moved, scale, zero_point, low, high).to(values.dtype)


def _as_half(value: Any) -> npt.NDArray[np.float32]:
    return np.maximum(np.asarray(value, np.float16), np.finfo(np.float16).tiny).astype(np.float32)


def _replace(plan: _Plan, node: Node, index: int, what: str, value: Tensor) -> None:
    """Give a node a constant for an argument, which may have been missing."""
    made = _constant(plan.graph, node, f"{node.name}_{what}", value)
    node.args = (*node.args[:index], made, *node.args[index + 1 :])


def _constant(made: GraphModule, before: Node, name: str, value: Tensor) -> Node:
    name = f"_zoo_{name}"
    made.register_buffer(name, value)
    with made.graph.inserting_before(before):
        node = made.graph.get_attr(name)
    node.meta["val"] = value
    return node


def _optional(made: GraphModule, node: Node, index: int) -> Tensor | None:
    """The tensor of an argument that may be missing."""
    found = node.args[index] if len(node.args) > index else None
    return _value(made, found) if isinstance(found, Node) else None


def _value(made: GraphModule, node: Any) -> Tensor:
    """The tensor that a get_attr node reads."""
    found: Any = made
    for part in str(node.target).split("."):
        found = getattr(found, part)
    return found.detach().float()
