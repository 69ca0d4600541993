"""Target torchscript: torch's quantised modules, whose integer kernels a traced file runs in plain torch.

torch.ao.quantization.quantize_fx fuses and converts; the ranges are ours, from the same table as every other target's.
An observer of its graph is recognised as an edge of the torch.export graph by what it sees of a few images: shape,
smallest, largest and mean value, and deviation. One that no edge matches is an error, not a guess.

The rules: activations affine uint8, one scale a tensor; weights int8 symmetric, one scale an output channel. Weights
have 7 bits for x86 CPUs without VNNI, where fbgemm's kernels add pairs of products in 16 bits and saturate, and in
depthwise convolutions for any CPU, since fbgemm's kernel for those does so everywhere (measured with 8 bits on
mobilenet_v2: cosine 0.97 to the float model, 0.999 with 7). torch's own way out is 7-bit activations, which cost more.
Convolution, batch norm and ReLU are one module; additions and concatenations are integer where both sides are. With
`Choice.fused` additions are in the convolutions before them (additions.py), which takes torch's engine onednn.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.quantization import QConfig, QConfigMapping
from torch.ao.quantization.observer import MinMaxObserver, PerChannelMinMaxObserver
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from ...errors import UsageError, ZooError, one_line
from ..bias_correction import shift_of
from ..choice import Calibrated, Choice
from ..engine import quantised_engine
from ..quantize import channel_scales, from_int8, to_int8
from ..recognise import ALIKE, apart, known_edges, seen_by
from .additions import fuse_additions

_ADDITIONS = (torch.add, "add", "add_")


def render(calibrated: Calibrated, choice: Choice) -> nn.Module:
    """See `_render`, whose errors of torch this puts into words.

    Raises:
        UnavailableError: this torch has no quantised engine.
        UsageError: torch cannot trace or convert the module, or an observer matches no edge.
    """
    try:
        return _render(calibrated, choice)
    except ZooError:
        raise
    except Exception as error:  # torch.fx and torch.ao have an error class for each way to fail
        raise UsageError(
            f"torch cannot trace or convert the model to int8: {type(error).__name__}: {one_line(error)}",
            fix="export int8 to onnx",
        ) from error


def _render(calibrated: Calibrated, choice: Choice) -> nn.Module:
    """A copy of the calibrated module with quantised submodules, float32 images to logits, to be traced on a CPU.

    Args:
        calibrated: the module, its ranges and a sample of images.
        choice: `keep` names weights of the ONNX graph's layers, which are the module's own.
    """
    sample = torch.from_numpy(calibrated.sample)
    with _quiet(), quantised_engine("onednn" if choice.fused else None):
        mapping = QConfigMapping().set_global(_qconfig(choice.weight_bits))
        for path, part in calibrated.module.named_modules():
            if _bits(part, choice) != choice.weight_bits:
                mapping.set_module_name(path, _qconfig(_bits(part, choice)))
        for path in kept_modules(calibrated, choice):
            mapping.set_module_name(path, None)
        prepared = prepare_fx(copy.deepcopy(calibrated.module).eval(), mapping, (sample,))
        if any(node.kwargs.get("alpha", 1) != 1 for node in prepared.graph.nodes if node.target in _ADDITIONS):
            raise UsageError(
                "torch's integer addition would lose the alpha of torch.add", fix="write a product and a sum"
            )
        edges = _recognise(prepared, calibrated, sample)
        for name, several in edges.items():
            ranges = [calibrated.table.range(edge, choice.method) for edge in several]
            observer: Any = prepared.get_submodule(name)
            observer.min_val = torch.tensor(min(low for low, _ in ranges))
            observer.max_val = torch.tensor(max(high for _, high in ranges))
        if choice.bias_correction or choice.adaround:
            _round(prepared, edges, calibrated, choice)
        converted = convert_fx(prepared).eval()
        if choice.fused:
            fuse_additions(converted, sample)
        return converted


def kept_modules(calibrated: Calibrated, choice: Choice) -> list[str]:
    """Paths of the submodules whose layers stay float."""
    weights = {node.name: node.input[1] for node in calibrated.graph.graph.node if len(node.input) > 1}
    return [weights[name].removesuffix(".weight") for name in choice.keep if name in weights]


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


def _recognise(prepared: nn.Module, calibrated: Calibrated, sample: Tensor) -> dict[str, list[str]]:
    """The edges behind each activation observer, by fingerprints of the same images."""
    known = known_edges(calibrated.program, calibrated.sample)
    observers = [
        (name, part)
        for name, part in prepared.named_modules()
        if isinstance(part, MinMaxObserver) and not name.endswith("weight_fake_quant")
    ]
    prints = seen_by(observers, lambda: prepared(sample))
    found: dict[str, list[str]] = defaultdict(list)
    for name, own in ((name, own) for name, several in prints.items() for own in several):
        distance = {edge: apart(own, other) for edge, other in known.items() if edge in calibrated.table.edges}
        nearest = min(distance, key=lambda edge: distance[edge])
        if distance[nearest] > ALIKE:
            raise UsageError(
                f"int8 for torchscript: tensor {name} of shape {own[0]} was not calibrated", fix="export int8 to onnx"
            )
        found[name].append(nearest)
    return found


def _round(prepared: Any, edges: dict[str, list[str]], calibrated: Calibrated, choice: Choice) -> None:
    """AdaRound and bias correction before conversion, which finds each weight on the grid of its channel's scale."""
    layers = {
        node.input[1].removesuffix(".weight"): node.name
        for node in calibrated.graph.graph.node if len(node.input) > 1
    }  # fmt: skip
    parts = dict(prepared.named_modules())
    for node in prepared.graph.nodes:
        part = parts.get(str(node.target)) if node.op == "call_module" else None
        inner = part[0] if isinstance(part, nn.Sequential) else part
        source = str(node.args[0].target) if node.args and isinstance(node.args[0], torch.fx.Node) else ""
        if not isinstance(inner, (nn.Conv2d, nn.Linear)) or source not in edges:
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
        if choice.bias_correction:
            mean = calibrated.table.edges[edges[source][0]].channel_mean
            shift = shift_of(weight, rounded, mean, getattr(inner, "groups", 1))
            before = inner.bias.detach() if inner.bias is not None else torch.zeros(len(weight))
            inner.bias = nn.Parameter(before - torch.from_numpy(shift).float())
        inner.weight = nn.Parameter(torch.from_numpy(rounded))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """quantize_fx is deprecated in torch 2.14 and still there; docs/decisions/0007 says why it is used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
