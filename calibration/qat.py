"""Quantisation-aware training: a module's graph with fake quantisation where its target will have integers.

The graph is torch.export's, torchao's pt2e puts the fake quantisation in (calibration/annotate.py says where), and
gradients pass it straight through (Jacob et al. 2018, arXiv 1712.05877, section 3). A convolution and its batch norm
are trained as they will run: its weights are scaled by what the norm's running statistics will fold into them, rounded,
and scaled back before the norm sees them (the same, section 3.2; Krishnamoorthi 2018, arXiv 1806.08342, section 3.2).
torchao has that too, for an eps of 1e-5 and a momentum of 0.1 only, which are not those of MobileNet V3, GoogLeNet and
EfficientNet; so it is written here, with each norm's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..errors import UnavailableError, UsageError, one_line
from .annotate import find_places
from .aten import kind, only_reader
from .rules import Rules

MOMENTUM = 0.01  # of the moving average of an activation's extremes, as in calibration/observers.py
TINY = 1e-12  # a batch norm's factor below it is that: zero-initialised norms would divide by zero


@dataclass(frozen=True)
class QatOptions:
    """How a model is trained for integers.

    Attributes:
        target: whose rules say where they are.
        norms_until: share of the steps after which batch norms keep their statistics, and compute what folding them
            into the convolutions will.
        ranges_until: share of the steps after which the ranges of activations stay as they are.
        bits: of weights, 8 or 7.
    """

    target: str = "onnx"
    norms_until: float = 0.4
    ranges_until: float = 0.6
    bits: int = 8

    def __post_init__(self) -> None:
        if not (0 <= self.norms_until <= 1 and 0 < self.ranges_until <= 1):
            raise UsageError(
                f"norms_until must be in [0, 1] and ranges_until in (0, 1], got {self.norms_until} and "
                f"{self.ranges_until}"
            )
        if self.bits not in (7, 8):
            raise UsageError(f"bits must be 7 or 8, got {self.bits}")


class FakeQuantised(nn.Module):
    """A module's graph with fake quantisation, to be trained in its place: N x C x H x W -> logits N x K.

    It holds its own copy of the parameters, under the module's names; `write_back` hands them over. What the module
    does only in training, other than dropout and batch norm, is not in it: auxiliary heads, stochastic depth.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, int, int], options: QatOptions, rules: Rules) -> None:
        """Trace a module (float32, on the CPU) for images of C x H x W.

        Raises:
            UnavailableError: torchao is not installed.
            UsageError: torch.export cannot trace it.
        """
        super().__init__()
        self.options = options
        exported = _exported(module, shape)
        ends = _scale_by_norms(exported)
        self.graph: Any = _prepare(exported, ends, rules, options.bits)
        self._norms_live = self._ranges_live = True
        self.train(module.training)

    def forward(self, images: Tensor) -> Tensor:
        """Logits as the integers will give them."""
        return self.graph(images)

    def train(self, mode: bool = True) -> FakeQuantised:
        """Dropout is on in training, and so are batch norms until they are frozen; ranges are watched in training."""
        self.training = mode
        for node in self.graph.graph.nodes:
            if kind(node) == "batch_norm" and node.args[3] is not None:  # without statistics it is always live
                node.update_arg(5, mode and self._norms_live)
            elif kind(node) == "dropout":
                node.update_arg(2, mode)
        self.graph.recompile()
        for part in self.ranges().values():
            part.enable_observer(mode and self._ranges_live)
        return self

    def freeze_norms(self) -> None:
        """Batch norms keep their statistics from now on."""
        if self._norms_live:
            self._norms_live = False
            self.train(self.training)

    def freeze_ranges(self) -> None:
        """Ranges of activations stay as they are from now on; weights are always rounded by their own extremes."""
        if self._ranges_live:
            self._ranges_live = False
            self.train(self.training)

    def at(self, share: float) -> None:
        """Freeze what is to be frozen once this share of the steps is done."""
        if share >= self.options.norms_until:
            self.freeze_norms()
        if share >= self.options.ranges_until:
            self.freeze_ranges()

    def ranges(self) -> dict[str, Any]:
        """The fake quantisation of activations, by its name in the graph."""
        return {
            name: part
            for name, part in self.graph.named_modules()
            if getattr(part, "fake_quant_enabled", None) is not None and not getattr(part, "is_weight", False)
        }

    def spans(self) -> dict[str, tuple[float, float]]:
        """The range of each, with zero in it."""
        found: dict[str, tuple[float, float]] = {}
        for name, part in self.ranges().items():
            low, high = part.extremes()
            found[name] = min(low, 0.0), max(high, 0.0)
        return found

    def in_float(self, images: Tensor) -> Tensor:
        """Logits without rounding, in eval mode."""
        was = self.training
        self.eval()
        quantisers = [part for part in self.graph.modules() if hasattr(part, "enable_fake_quant")]
        for part in quantisers:
            part.enable_fake_quant(False)
        try:
            return self.graph(images)
        finally:
            for part in quantisers:
                part.enable_fake_quant(True)
            self.train(was)

    def write_back(self, module: nn.Module) -> None:
        """Copy weights and statistics to the module that this was made of."""
        own = self.graph.state_dict()
        state = {name: own.get(name, value) for name, value in module.state_dict().items()}
        module.load_state_dict(state)


def _exported(module: nn.Module, shape: tuple[int, int, int]) -> GraphModule:
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    was = module.training
    try:
        batch = torch.export.Dim("batch", min=1, max=4096)
        made: Any = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: batch},)).module()
    except Exception as error:  # torch.export has its own error class for each way a trace fails
        raise UsageError(
            f"torch.export cannot trace the model for training with fake quantisation: {one_line(error)}",
            fix="write it without control flow on tensors",
        ) from error
    finally:
        module.train(was)
    for node in list(made.graph.nodes):
        if node.op == "call_module" and str(node.target) == "_guards_fn":  # it would refuse a batch of another layout
            made.graph.erase_node(node)
    made.recompile()
    return made


def _scale_by_norms(made: GraphModule) -> dict[Node, Node]:
    """Let each convolution compute with the weights that its batch norm will be folded into; pairs of these two."""
    ends: dict[Node, Node] = {}
    for norm in list(made.graph.nodes):
        if kind(norm) != "batch_norm":
            continue
        norm.target = batch_norm
        if norm.args[6] == 0.0:  # a cumulative average (momentum None) leaves this in evaluation, and would stand still
            norm.update_arg(6, 0.1)
        layer = norm.args[0]
        if (
            norm.args[3] is None
            or not isinstance(layer, Node)
            or kind(layer) != "conv2d"
            or only_reader(layer) is not norm
        ):
            continue
        _, gamma, _, _, variance, *_, eps, _ = norm.args
        weight: Any = layer.args[1]
        bias = layer.args[2] if len(layer.args) > 2 else None
        with made.graph.inserting_before(layer):
            factor = made.graph.call_function(_factor, (gamma, variance, eps))
            scaled = made.graph.call_function(_scaled, (weight, factor))
            scaled.meta["val"] = weight.meta["val"]
        layer.update_arg(1, scaled)
        if bias is not None:
            layer.update_arg(2, None)
        with made.graph.inserting_before(norm):
            back = made.graph.call_function(_unscaled, (layer, factor, bias))
        norm.update_arg(0, back)
        ends[layer] = norm
    made.recompile()
    return ends


def batch_norm(*arguments: Any) -> Tensor:
    """aten's, under a name that torchao does not know: it would look for what is done here already."""
    return torch.ops.aten.batch_norm.default(*arguments)


def _factor(gamma: Tensor | None, variance: Tensor, eps: float) -> Tensor:
    factor = torch.rsqrt(variance + eps)
    factor = factor if gamma is None else factor * gamma
    return torch.where(factor.abs() < TINY, TINY, factor)


def _scaled(weight: Tensor, factor: Tensor) -> Tensor:
    return weight * factor[:, None, None, None]


def _unscaled(made: Tensor, factor: Tensor, bias: Tensor | None) -> Tensor:
    made = made / factor[:, None, None]
    return made if bias is None else made + bias[:, None, None]


def _prepare(made: GraphModule, ends: Mapping[Node, Node], rules: Rules, bits: int) -> Any:
    """Fake quantisation into the graph: the part of torchao."""
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # torchao 0.18 registers enums that torch knows
    try:
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
        from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

        from .fake_quantize import PerChannelWeight
        from .fake_quantize import activation as rounds
    except ImportError as error:
        raise UnavailableError(
            f"training with fake quantisation needs torchao ({one_line(error)})", fix="pip install 'zoo-export[qat]'"
        ) from error

    low, high = (-127, 127) if rules.symmetric else (0, 255)
    activation = QuantizationSpec(
        torch.int8 if rules.symmetric else torch.uint8,
        rounds(rules.symmetric, MOMENTUM),
        low,
        high,
        torch.per_tensor_symmetric if rules.symmetric else torch.per_tensor_affine,
    )

    constructor: Any = PerChannelWeight.with_args(half=rules.half_scales)

    def weight(own: int) -> QuantizationSpec:
        limit = 2 ** (own - 1) - 1
        return QuantizationSpec(
            torch.int8, constructor, -limit, limit, torch.per_channel_symmetric, ch_axis=0
        )  # fmt: skip

    class Annotator(Quantizer):
        def annotate(self, model: GraphModule) -> GraphModule:
            # what an operator reads in float has no range of its own that training could learn
            places = find_places(model.graph, replace(rules, reads_floats=False), ends, bits)
            notes: dict[Node, Any] = {}
            for layer, own in places.weights.items():
                notes.setdefault(layer, QuantizationAnnotation(_annotated=True)).input_qspec_map[layer.args[1]] = (
                    weight(own)
                )
            for tensor, reader in places.read:
                notes.setdefault(reader, QuantizationAnnotation(_annotated=True)).input_qspec_map[tensor] = activation
            for node in places.written:
                notes.setdefault(node, QuantizationAnnotation(_annotated=True)).output_qspec = activation
            for node, note in notes.items():
                node.meta["quantization_annotation"] = note
            return model

        def validate(self, model: GraphModule) -> None: ...

    return prepare_qat_pt2e(made, Annotator())
