"""Target torchscript: torch's quantised modules, whose integer kernels a traced file runs in plain torch.

torch.ao.quantization.quantize_fx fuses and converts; the ranges are ours, from the same table as every other target's.
An observer of its graph is recognised as an edge of the torch.export graph by what it sees of a few images: shape,
smallest, largest and mean value, and deviation. What reads or makes one that no edge matches stays float.

The rules: activations affine uint8, one scale a tensor; weights int8 symmetric, one scale an output channel. Weights
have 7 bits for x86 CPUs without VNNI, where fbgemm's kernels add pairs of products in 16 bits and saturate, and in
depthwise convolutions for any CPU, since fbgemm's kernel for those does so everywhere (measured with 8 bits on
mobilenet_v2: cosine 0.97 to the float model, 0.999 with 7). torch's own way out is 7-bit activations, which cost more.
Convolution, batch norm and ReLU are one module; additions and concatenations are integer where both sides are. With
`Choice.fused` additions are in the convolutions before them (additions.py), which takes torch's engine onednn.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.ao.nn.quantized.modules.utils import WeightedQuantizedModule
from torch.ao.quantization import QConfig, QConfigMapping
from torch.ao.quantization.observer import MinMaxObserver, PerChannelMinMaxObserver
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from ....calibration.bias_correction import shift_of
from ....calibration.choice import Calibrated, Choice
from ....calibration.engine import quantised_engine
from ....calibration.observers import Range
from ....calibration.quantize import channel_scales, from_int8, to_int8
from ....calibration.ranges import Method
from ....calibration.recognise import ALIKE, Print, apart, known_edges, known_range, seen_by
from ....calibration.view import given
from ....errors import UsageError, ZooError
from ....models.copies import copy_of
from ....models.user_code import described
from .additions import fuse_additions
from .as_modules import FUNCTIONAL, LAYERS, as_modules, layer_paths, weight_makers
from .clips import clip_ranges
from .observed import observer_names
from .pads import pad_integers, share_ranges

_ADDITIONS = (torch.add, "add", "add_")
_PADDED = ("zeros", "reflect")  # the padding modes of torch's integer convolutions
# No integer kernel here: weights that images change; a scale for each output channel of a transposed convolution
FLOAT_ONLY = (*FUNCTIONAL, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
Edges = dict[str, dict[str, Range]]  # of each observer, the ranges of the edges that it sees


def render(calibrated: Calibrated, choice: Choice) -> nn.Module:
    """A copy of the calibrated module with quantised submodules, float32 images to logits, to be traced on a CPU.

    Args:
        calibrated: the module, its ranges and a sample of images.
        choice: `keep` names layers of the ONNX graph.

    Raises:
        UnavailableError: this torch has no quantised engine.
        UsageError: torch cannot trace or convert the module, or an observer matches no edge.
    """
    sample = torch.from_numpy(calibrated.sample)
    with _in_words(), quantised_engine("onednn" if choice.fused else None):
        prepared, edges, paths = _prepare(calibrated, choice, sample)
        clip_ranges(prepared, edges)
        share_ranges(prepared, edges)
        for name, ranges in edges.items():
            observer: Any = prepared.get_submodule(name)
            observer.min_val = torch.tensor(min(low for low, _ in ranges.values()))
            observer.max_val = torch.tensor(max(high for _, high in ranges.values()))
        if choice.bias_correction or choice.adaround:
            _round(prepared, edges, calibrated, choice, {path: layer for layer, path in paths.items()})
        converted = convert_fx(prepared).eval()
        pad_integers(converted, sample[:1])
        if choice.fused:
            fuse_additions(converted, sample)
        return converted


def float_layers(calibrated: Calibrated, choice: Choice) -> frozenset[str]:
    """Layers of the ONNX graph that have no integer kernel in what `render` makes, though `keep` does not name them.

    Raises: as `render`.
    """
    with _in_words(), quantised_engine("onednn" if choice.fused else None):
        prepared, _, paths = _prepare(calibrated, choice, torch.from_numpy(calibrated.sample))
        parts = dict(convert_fx(prepared).named_modules())
    return frozenset(
        node.name for node in calibrated.graph.graph.node
        if node.op_type in LAYERS and node.name not in choice.keep
        and not isinstance(parts.get(paths.get(node.name, "")), WeightedQuantizedModule)
    )  # fmt: skip


def _prepare(calibrated: Calibrated, choice: Choice, sample: Tensor) -> tuple[fx.GraphModule, Edges, dict[str, str]]:
    """The module with observers, the ranges of each, and the module of each layer of the ONNX graph.

    An operator of which no range is known stays float, and with it what it alone would have fed.
    """
    graph = as_modules(calibrated.module)
    paths = layer_paths(graph, calibrated)
    stay = {paths[layer] for layer in choice.keep if layer in paths}
    float_nodes = {node.name for node in weight_makers(graph)}
    known = known_edges(calibrated.program, calibrated.sample)
    while True:
        made = copy_of(graph)
        prepared = prepare_fx(made, _mapping(graph, stay, float_nodes, choice), (sample,))
        if any(node.kwargs.get("alpha", 1) != 1 for node in prepared.graph.nodes if node.target in _ADDITIONS):
            raise UsageError(
                "torch's integer addition would lose the alpha of torch.add", fix="write a product and a sum"
            )
        edges, strangers = _recognise(prepared, calibrated, choice.method, known, sample)
        fresh = {name for stranger in strangers for name in _around(prepared, graph, stranger)} - float_nodes
        if not strangers:
            return prepared, edges, paths
        if not fresh:
            shape = " x ".join(map(str, next(iter(strangers.values()))[1:]))
            raise UsageError(
                f"int8 for torchscript: a tensor of {shape} an image was not calibrated, and what reads it cannot be "
                "kept in float",
                fix="export int8 to onnx",
            )
        float_nodes |= fresh


def _mapping(graph: fx.GraphModule, stay: set[str], float_nodes: set[str], choice: Choice) -> QConfigMapping:
    """What torch is to quantise, and how."""
    mapping = QConfigMapping().set_global(_qconfig(choice.weight_bits))
    for kind in FLOAT_ONLY:
        mapping.set_object_type(kind, None)
    for path, part in graph.named_modules():
        if path in stay or _padded_otherwise(part):
            mapping.set_module_name(path, None)
        elif _bits(part, choice) != choice.weight_bits:
            mapping.set_module_name(path, _qconfig(_bits(part, choice)))
    calls: Counter[Any] = Counter()
    for node in graph.graph.nodes:
        if node.name in float_nodes:
            if node.op == "call_module":
                mapping.set_module_name(str(node.target), None)
            elif node.op == "call_function":  # torch counts the calls of each function
                mapping.set_module_name_object_type_order("", node.target, calls[node.target], None)
            elif node.op == "call_method":
                mapping.set_object_type(str(node.target), None)
        if node.op == "call_function":
            calls[node.target] += 1
    return mapping


def why_float(calibrated: Calibrated) -> Callable[[str], str]:
    """Return a function that says why a layer of the ONNX graph has no integer kernel in what `render` makes."""
    graph, view = as_modules(calibrated.module), calibrated.view
    paths, nodes = layer_paths(graph, calibrated), {node.name: node for node in view.nodes}

    def why(layer: str) -> str:
        node = nodes.get(layer)
        if node is not None and node.op_type == "ConvTranspose":
            return "torch's transposed convolution of integers has one scale for all channels"
        if node is not None and not view.is_constant(given(node, 1)):
            return "its weights are computed from the images"
        if layer in paths and _padded_otherwise(graph.get_submodule(paths[layer])):
            return "torch's convolution of integers has no such padding"
        return "torch has no integer kernel for it, or no range is known of what it reads or writes"

    return why


def _padded_otherwise(part: nn.Module) -> bool:
    """Whether torch's integer convolutions have no such padding: by another mode, or not the same on both sides."""
    named = isinstance(getattr(part, "padding", 0), str)
    return named or getattr(part, "padding_mode", "zeros") not in _PADDED


def _around(prepared: fx.GraphModule, graph: fx.GraphModule, stranger: str) -> set[str]:
    """The nodes of the float graph that make and read the tensor of an observer."""
    own = {node.name for node in graph.graph.nodes if node.op.startswith("call_")}
    found: set[str] = set()
    for node in prepared.graph.nodes:
        if node.op == "call_module" and node.target == stranger:
            found |= {other.name for other in (*node.all_input_nodes, *node.users)}
    return found & own


def kept_modules(calibrated: Calibrated, choice: Choice) -> list[str]:
    """Paths of the submodules whose layers stay float by choice."""
    paths = layer_paths(as_modules(calibrated.module), calibrated)
    return [paths[layer] for layer in choice.keep if layer in paths]


def _bits(part: nn.Module, choice: Choice) -> int:
    """Of a module's weights."""
    depthwise = isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1
    return 7 if depthwise else choice.weight_bits


def _qconfig(bits: int) -> QConfig:
    limit = 2 ** (bits - 1) - 1
    activation = MinMaxObserver.with_args(dtype=torch.quint8, reduce_range=False)
    weight = PerChannelMinMaxObserver.with_args(
        dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-limit, quant_max=limit
    )
    return QConfig(activation=activation, weight=weight)


def _recognise(
    prepared: fx.GraphModule, calibrated: Calibrated, method: Method, known: dict[str, Print], sample: Tensor
) -> tuple[Edges, dict[str, tuple[int, ...]]]:
    """The ranges of each activation observer by edge, by fingerprints of the same images; and those without any."""
    observers = [
        (name, part)
        for name, part in prepared.named_modules()
        if isinstance(part, MinMaxObserver) and not name.endswith("weight_fake_quant")
    ]
    prints = seen_by(observers, lambda: prepared(sample))
    found: Edges = {name: {} for name, _ in observers}
    strangers: dict[str, tuple[int, ...]] = {}
    for name, own in ((name, own) for name, several in prints.items() for own in several):
        alike = sorted((apart(own, other), edge) for edge, other in known.items())
        ranges = (known_range(calibrated, edge, method) for distance, edge in alike if distance <= ALIKE)
        nearest = next((edge_and_range for edge_and_range in ranges if edge_and_range is not None), None)
        if nearest is None:
            strangers[name] = own[0]
        else:
            found[name][nearest[0]] = nearest[1]
    return {name: ranges for name, ranges in found.items() if ranges}, strangers


def _round(prepared: Any, edges: Edges, calibrated: Calibrated, choice: Choice, layers: dict[str, str]) -> None:
    """AdaRound and bias correction before conversion, which finds each weight on the grid of its channel's scale."""
    observer = observer_names(prepared)  # a pool's is its input's
    read = {node.name: node.input[0] for node in calibrated.graph.graph.node if node.input}
    for node in prepared.graph.nodes:
        part = prepared.get_submodule(str(node.target)) if node.op == "call_module" else None
        inner = part[0] if isinstance(part, nn.Sequential) else part
        if not isinstance(inner, (nn.Conv2d, nn.Linear)):
            continue
        source = observer(node.all_input_nodes[0])
        if source not in edges:
            continue
        weight = inner.weight.detach().numpy()
        bits = _bits(inner, choice)
        scales = channel_scales(weight, 0, bits)
        layer = layers.get(str(node.target))
        if choice.adaround and calibrated.rounder is not None and layer is not None:
            integers = calibrated.rounder.integers(layer, weight, scales, 0, bits)
        else:
            integers = to_int8(weight, scales, 0, bits)
        rounded = from_int8(integers, scales, 0)
        around = (read.get(layer or "", ""), *edges[source])
        seen = next((known for edge in around if (known := calibrated.table.edges.get(edge)) is not None), None)
        mean = seen.channel_mean if seen is not None else np.zeros(0)
        groups = getattr(inner, "groups", 1)
        shift = shift_of(weight, rounded, mean, groups) if choice.bias_correction else None
        if shift is not None:
            before = inner.bias.detach() if inner.bias is not None else torch.zeros(len(weight))
            inner.bias = nn.Parameter(before - torch.from_numpy(shift).float())
        inner.weight = nn.Parameter(torch.from_numpy(rounded))


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Put torch's errors into words; it has a class for each way to fail.

    quantize_fx is deprecated in torch 2.14 and still there; docs/decisions/0007 says why it is used.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ZooError:
        raise
    except Exception as error:
        raise UsageError(
            f"torch cannot trace or convert the model to int8: {described(error)}", fix="export int8 to onnx"
        ) from error
