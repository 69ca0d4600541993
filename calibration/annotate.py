"""Where fake quantisation goes for each target, on a torch.export graph: the same places as the target's own writer.

    onnx         uint8 affine on what layers read and on what they write, behind their ReLU or clip; residual additions,
                 concatenations and average pools between integer layers have a scale of their own
    torchscript  the same, and hard-swish, sigmoids, products, norms and others, integer kernels there, which round
                 what else they read; 7-bit weights in depthwise convolutions
    trt          int8 symmetric on what layers and average pools read, and on the skip branch of residual additions

Weights have a scale an output channel and are symmetric. A tensor is quantised once: what reads it reads that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch.fx import Graph, Node

from .aten import kind, only_reader
from .rules import Rules

COMPUTE = ("conv2d", "linear")
ACTIVATIONS = ("relu", "relu6", "hardtanh", "clamp")
MOVES = ("max_pool2d", "flatten", "view", "reshape", "dropout", "clone", "alias", "permute", "squeeze", "unsqueeze")
AVERAGES = ("adaptive_avg_pool2d", "avg_pool2d", "mean")
JOINED = ("cat", "stack")
JOINS = ("add", *JOINED, *AVERAGES)
NORM = "batch_norm"
NATIVE_NORM = "_native_batch_norm_legit_no_training"  # gives three results, of which the first is the norm


@dataclass(frozen=True)
class Places:
    """Where fake quantisation goes.

    Attributes:
        weights: the bits of each compute node's weights.
        read: tensors that one node alone reads quantised: (tensor, reader).
        written: tensors that all their readers read quantised.
    """

    weights: dict[Node, int]
    read: list[tuple[Node, Node]]
    written: list[Node]


def find_places(
    graph: Graph,
    rules: Rules,
    ends: Mapping[Node, Node],
    bits: int = 8,
    keep: Collection[Node] = (),
    has_range: Callable[[Node], bool] = lambda _node: True,
) -> Places:
    """Follow integers through a graph, in its order, as backends/graph/qdq_sites.py does through an ONNX graph.

    Args:
        graph: of aten operators, in eval mode.
        rules: of the target.
        ends: of a convolution with a batch norm, that batch norm.
        bits: of weights.
        keep: layers that stay float.
        has_range: whether a tensor's range is known; what reads or writes another stays float.
    """
    places = Places({}, [], [])
    carried: set[Node] = set()
    own = {*ends.values()}
    order = {node: index for index, node in enumerate(graph.nodes)}

    def end(node: Node) -> Node:
        """The tensor that a node's kernel writes, behind the activation that is folded into it."""
        reader = only_reader(node)
        return reader if reader is not None and kind(reader) in ACTIVATIONS else node

    def finish(node: Node) -> None:
        node = end(node)
        if rules.logits or all(reader.op != "output" for reader in node.users):  # nothing is gained after the logits
            places.written.append(node)
            carried.add(node)

    for node in graph.nodes:
        name, data = _operator(node, rules.reads_floats)
        if name in COMPUTE:
            last = end(ends.get(node, node))
            if node in keep or not has_range(node.args[0]) or (rules.written and not has_range(last)):
                continue
            depthwise = name == "conv2d" and node.args[1].meta["val"].shape[1] == 1 != node.args[1].meta["val"].shape[0]
            places.weights[node] = (rules.depthwise_bits or bits) if depthwise else bits
            if node.args[0] not in carried:
                places.read.append((node.args[0], node))
            if rules.written:
                finish(ends.get(node, node))
        elif moves(node):
            if data and data[0] in carried:
                carried.add(node)
        elif _stays_float(node, name, rules):
            continue
        elif rules.written and name in (*JOINS, *rules.more) and node not in own:
            floats = [one for one in data if one not in carried]
            if not data or not has_range(end(node)) or (floats and not rules.reads_floats):
                continue
            if all(has_range(one) for one in floats):
                places.read.extend((one, node) for one in floats)
                finish(node)
        elif not rules.written and name == "add" and len(data) == 2:
            bare = [_layer_behind(one, ends) for one in data]
            where = [order[one] if one is not None else -1 for one in bare]
            if max(where) >= 0:
                skip = data[0] if where[1] > where[0] else data[1]
                if not has_range(skip):
                    continue
                places.read.append((skip, node))
        elif not rules.written and name in AVERAGES and _near_a_layer(data[0], ends) and has_range(data[0]):
            places.read.append((data[0], node))
    return places


def _operator(node: Node, with_constants: bool) -> tuple[str, list[Node]]:
    """What a node computes, and of what; the first result of torch's native batch norm is the norm itself.

    Weights are no data; a constant that is added or multiplied with is, if asked for.
    """
    name, source = kind(node), node.args[0] if node.args else None
    if name == "getitem" and isinstance(source, Node) and kind(source) == NATIVE_NORM and node.args[1] == 0:
        name, node = NORM, source
    if with_constants and name in ("add", "mul", *JOINED):
        return name, node.all_input_nodes
    return name, [one for one in node.all_input_nodes if one.op != "get_attr"]


def _stays_float(node: Node, name: str, rules: Rules) -> bool:
    """Whether an operator that may be integer is not in this form: a mean that is no pool, a sum with a number."""
    with_a_number = name in ("add", "mul") and not all(isinstance(one, Node) for one in node.args[:2])
    return with_a_number or (name == "mean" and not (rules.any_mean or _is_pool(node)))


def _is_pool(mean: Node) -> bool:
    """Whether a mean is over height and width of images, which is an average pool."""
    data, dims = mean.args[:2]
    assert isinstance(data, Node)
    rank = data.meta["val"].dim()
    return rank == 4 and isinstance(dims, (list, tuple)) and sorted(int(str(one)) % 4 for one in dims) == [2, 3]


def moves(node: Node) -> bool:
    """Whether an operator only picks or moves numbers, or puts zeros beside them, which every grid holds.

    So does a product with 1, which the ONNX exporter leaves out.
    """
    name = kind(node)
    if name == "mul":
        return isinstance(node.args[1], (int, float)) and node.args[1] == 1
    if name == "constant_pad_nd":  # input, widths, value
        return bool(len(node.args) < 3 or node.args[2] in (0, None))
    if name == "pad":  # input, widths, mode, value
        constant = bool(len(node.args) < 3 or node.args[2] == "constant")
        return constant and bool(len(node.args) < 4 or node.args[3] in (0, None))
    return name in MOVES


def _layer_behind(node: Node, ends: Mapping[Node, Node]) -> Node | None:
    """The layer that alone writes a tensor for a single reader."""
    owner = {end: layer for layer, end in ends.items()}.get(node, node)
    return owner if kind(owner) in COMPUTE and only_reader(node) is not None else None


def _near_a_layer(node: Node, ends: Mapping[Node, Node]) -> bool:
    """Whether a tensor comes from a layer, through an activation or an addition."""
    layers = {*ends.values()}
    for _ in range(3):
        if node in layers or kind(node) in COMPUTE:
            return True
        if kind(node) not in (*ACTIVATIONS, "add", "cat", "max_pool2d"):
            return False
        node = node.all_input_nodes[0]
    return False
