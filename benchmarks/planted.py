"""Faults that are planted to see which gate finds them: in modules, in preprocessing, in quantised graphs."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional
from zoo.calibration.choice import Choice
from zoo.errors import ZooError
from zoo.exporter.artifact import Golden
from zoo.exporter.backends import get_backend
from zoo.exporter.backends.base import ExportOptions
from zoo.exporter.backends.onnx import OrtRunner
from zoo.exporter.calibrate import calibrate
from zoo.exporter.checks.check import judge_golden
from zoo.exporter.checks.consistency import allowed_difference, judge_consistency, measure_consistency
from zoo.exporter.checks.precision import judge_precision
from zoo.exporter.checks.reference import golden_batch
from zoo.exporter.checks.yardstick import with_yardstick
from zoo.exporter.golden import make_golden
from zoo.exporter.starting import cpu_flags, suitable_bits
from zoo.models.data.dataset import Dataset
from zoo.models.preprocess import prepare
from zoo.models.sources import Model

Plant = Callable[[nn.Module], nn.Module | None]


class _Around(nn.Module):
    def __init__(self, inner: nn.Module, after: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.after = inner, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.inner(x))


def _of(module: nn.Module, *kinds: type[nn.Module]) -> list[tuple[str, Any]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, kinds)]


def _middle(module: nn.Module, *kinds: type[nn.Module]) -> Any:
    found = _of(module, *kinds)
    return found[len(found) // 2][1] if found else None


def _last(module: nn.Module) -> Any:
    return _of(module, nn.Linear)[-1][1]


def _put(module: nn.Module, name: str, new: nn.Module) -> nn.Module:
    module.set_submodule(name, new)
    return module


def _dense(module: nn.Module) -> Any:
    found = [part for _, part in _of(module, nn.Conv2d) if part.groups == 1 and part.kernel_size != (1, 1)]
    found = found or [part for _, part in _of(module, nn.Conv2d) if part.groups == 1]
    return found[len(found) // 2]


def eps_times_ten(module: nn.Module) -> nn.Module | None:
    """Every norm's eps ten times as large."""
    norms = _of(module, nn.BatchNorm2d, nn.LayerNorm)
    for _, part in norms:
        part.eps *= 10
    return module if norms else None


def residual_lost(module: nn.Module) -> nn.Module | None:
    """One block without its shortcut."""
    blocks: list[Any] = [part for _, part in module.named_modules() if getattr(part, "residual", False) is True]
    if blocks:
        blocks[len(blocks) // 2].residual = False
        return module
    skips: list[Any] = [
        part for _, part in module.named_modules() if hasattr(part, "downsample") and hasattr(part, "conv2")
    ]
    if not skips:
        return None
    block = skips[len(skips) // 2]
    block.downsample = _Zero(block.downsample)
    return module


class _Zero(nn.Module):
    def __init__(self, inner: nn.Module | None) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.inner(x) if self.inner is not None else x) * 0


def channels_swapped(module: nn.Module) -> nn.Module | None:
    """Two output channels of one convolution in each other's place."""
    part = _dense(module)
    with torch.no_grad():
        part.weight[[0, 1]] = part.weight[[1, 0]].clone()
    return module


def class_plus_half(module: nn.Module) -> nn.Module | None:
    """0.5 added to one class."""
    with torch.no_grad():
        _last(module).bias[3] += 0.5
    return module


def layer_in_8_bits(module: nn.Module) -> nn.Module | None:
    """One layer's weights rounded to 8 bits, a scale a channel."""
    return _rounded(module, 127)


def layer_in_4_bits(module: nn.Module) -> nn.Module | None:
    """One layer's weights rounded to 4 bits."""
    return _rounded(module, 7)


def _rounded(module: nn.Module, steps: int) -> nn.Module:
    part = _dense(module)
    scale = part.weight.detach().abs().amax((1, 2, 3), keepdim=True) / steps
    part.weight.data = (part.weight.detach() / scale).round() * scale
    return module


def layer_in_bfloat16(module: nn.Module) -> nn.Module | None:
    """One layer's weights rounded to bfloat16."""
    part = _dense(module)
    part.weight.data = part.weight.detach().bfloat16().float()
    return module


def layer_times_1_05(module: nn.Module) -> nn.Module | None:
    """The last layer's weights 5 % too large."""
    with torch.no_grad():
        _last(module).weight *= 1.05
    return module


def layer_of_another_run(module: nn.Module) -> nn.Module | None:
    """One layer's weights drawn anew."""
    part = _dense(module)
    torch.manual_seed(99)
    with torch.no_grad():
        part.weight.copy_(torch.randn_like(part.weight) * part.weight.std())
    return module


def bias_lost(module: nn.Module) -> nn.Module | None:
    """One layer without its bias."""
    part = _middle(module, nn.BatchNorm2d) or _middle(module, nn.Conv2d)
    if part.bias is None or not part.bias.abs().max() > 0:
        part = _last(module)
    if not part.bias.abs().max() > 0:
        return None
    part.bias.data.zero_()
    return module


def norm_mean_lost(module: nn.Module) -> nn.Module | None:
    """One batch norm with a mean of zero."""
    part = _middle(module, nn.BatchNorm2d)
    if part is None:
        return None
    part.running_mean.zero_()
    return module


def gelu_by_tanh(module: nn.Module) -> nn.Module | None:
    """GELU by its approximation."""
    found = [name for name, part in module.named_modules() if "gelu" in type(part).__name__.lower()]
    for name in found:
        _put(module, name, nn.GELU("tanh"))
    return module if found else None


def clip_lost(module: nn.Module) -> nn.Module | None:
    """One ReLU6 that does not clip."""
    return _first(module, nn.ReLU6, nn.ReLU())


def swish_for_hard_swish(module: nn.Module) -> nn.Module | None:
    """One activation replaced by a like one."""
    return _first(module, nn.Hardswish, nn.SiLU())


def sigmoid_for_hard_sigmoid(module: nn.Module) -> nn.Module | None:
    """One gate replaced by a like one."""
    return _first(module, nn.Hardsigmoid, nn.Sigmoid())


def _first(module: nn.Module, kind: type[nn.Module], new: nn.Module) -> nn.Module | None:
    found = _of(module, kind)
    return _put(module, found[len(found) // 2][0], new) if found else None


def gate_lost(module: nn.Module) -> nn.Module | None:
    """One squeeze-and-excitation that lets everything pass."""
    found = [name for name, part in module.named_modules() if "squeeze" in type(part).__name__.lower()]
    return _put(module, found[len(found) // 2], nn.Identity()) if found else None


def padding_on_one_side(module: nn.Module) -> nn.Module | None:
    """One convolution padded on two sides only, as TensorFlow does it."""
    for name, part in _of(module, nn.Conv2d):
        if part.padding == (1, 1) and part.kernel_size == (3, 3):
            part.padding = (0, 0)
            return _put(module, name, nn.Sequential(nn.ZeroPad2d((0, 2, 0, 2)), part))
    return None


def pool_of_averages(module: nn.Module) -> nn.Module | None:
    """A pool of averages for one of maxima."""
    for name, part in _of(module, nn.MaxPool2d):
        return _put(module, name, nn.AvgPool2d(part.kernel_size, part.stride, part.padding, part.ceil_mode))
    return None


def classes_in_another_order(module: nn.Module) -> nn.Module | None:
    """Every class in the next one's place."""
    last = _last(module)
    last.weight.data, last.bias.data = last.weight.data.roll(1, 0), last.bias.data.roll(1, 0)
    return module


def one_class_dead(module: nn.Module) -> nn.Module | None:
    """One class without weights."""
    last = _last(module)
    with torch.no_grad():
        last.weight[2], last.bias[2] = 0, 0
    return module


def probabilities_for_logits(module: nn.Module) -> nn.Module | None:
    """A softmax at the end."""
    return _Around(module, lambda made: made.softmax(1))


def first_answer_for_all(module: nn.Module) -> nn.Module | None:
    """The first image's answer for all of a batch."""
    return _Around(module, lambda made: made[:1].expand(made.shape[0], -1).clone())


def depends_on_the_batch(module: nn.Module) -> nn.Module | None:
    """Answers that depend on small batches."""
    return _Around(module, lambda made: made * (1 + 0.2 * (made.shape[0] < 8)))


def dropout_left_on(module: nn.Module) -> nn.Module | None:
    """Dropout that goes on in evaluation."""
    return _Around(module, lambda made: functional.dropout(made, 0.1, training=True))


def norms_by_the_batch(module: nn.Module) -> nn.Module | None:
    """One batch norm that takes its statistics from the batch."""
    part = _middle(module, nn.BatchNorm2d)
    if part is None:
        return None
    part.running_mean = part.running_var = None
    part.track_running_stats = False
    return module


def computed_in_half(module: nn.Module) -> nn.Module | None:
    """A file that says fp32 and computes in fp16."""
    return _Half(module)


class _Half(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.half()).float()


IN_MODULES: tuple[Plant, ...] = (
    eps_times_ten, residual_lost, channels_swapped, class_plus_half, layer_in_8_bits, layer_in_4_bits,
    layer_in_bfloat16, layer_times_1_05, layer_of_another_run, bias_lost, norm_mean_lost, gelu_by_tanh, clip_lost,
    swish_for_hard_swish, sigmoid_for_hard_sigmoid, gate_lost, padding_on_one_side, pool_of_averages,
    classes_in_another_order, one_class_dead, probabilities_for_logits, first_answer_for_all, depends_on_the_batch,
    dropout_left_on, norms_by_the_batch, computed_in_half,
)  # fmt: skip
IN_LOW_PRECISION = (
    residual_lost, channels_swapped, class_plus_half, layer_in_4_bits, layer_times_1_05, bias_lost, padding_on_one_side,
    classes_in_another_order, gate_lost, eps_times_ten,
)  # fmt: skip
IN_PREPROCESSING: dict[str, dict[str, Any]] = {
    "BGR for RGB": {"channels": "BGR"},
    "bicubic for bilinear": {"interpolation": "bicubic"},
    "nearest for bilinear": {"interpolation": "nearest"},
    "pixels over 256": {"scale": 1 / 256},
    "mean moved by 0.01": {"mean": 0.01},
}


def plant(
    model: Model, data: Dataset, done: set[Any], only: str
) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
    """Each fault with what saw it; those that a network cannot have, or that are done, are left out."""
    base = make_golden(model, data)
    known = {tuple(one[3:]) for one in done}
    for precision, plants in (("fp32", IN_MODULES), ("fp16", IN_LOW_PRECISION), ("bf16", IN_LOW_PRECISION)):
        golden = None
        for fault in plants:
            case = (fault.__name__.replace("_", " "), "torchscript", precision)
            if case in known or (only and precision not in only.split(",")):
                continue
            golden = golden or with_yardstick(base, model, precision)  # type: ignore[arg-type]
            made = fault(copy.deepcopy(model.module))
            if made is not None:
                yield case, of_module(replace(model, module=made.eval()), golden, precision)
    if not only or "preprocessing" in only.split(","):
        golden = with_yardstick(make_golden(model, None), model, "fp32")  # of colours: the digits are grey
        for name, changed in IN_PREPROCESSING.items():
            if (name, "preprocessing", "fp32") not in known:
                yield (name, "preprocessing", "fp32"), of_preprocessing(model, golden, changed)
    if not only or "int8" in only.split(","):
        yield from of_graphs(model, data, base, known)


def verdict(gates: list[Any], golden: Golden, got: Any, precision: str, trained: bool, backend: str) -> dict[str, Any]:
    """What saw it: the first gate that fails."""
    from verdicts import numbers_of

    seen = next((gate for gate in gates if gate.verdict == "fail"), None)
    numbers = numbers_of(golden, got, precision, backend, trained) if got is not None else {}
    shown = seen or gates[0]
    return {"seen_by": seen.name if seen else "", "reason": shown.reason, **numbers}


def of_module(faulty: Model, golden: Golden, precision: str) -> dict[str, Any]:
    """A faulty module exported to TorchScript with the right one's golden answers."""
    backend = get_backend("torchscript")
    with tempfile.TemporaryDirectory() as folder:
        try:
            options = ExportOptions(precision)  # type: ignore[arg-type]
            artifact = backend.export(faulty, golden, options, Path(folder) / "a")
        except ZooError as error:
            return {"seen_by": "export", "reason": str(error)}
        images = golden_batch(golden, artifact)
        try:
            with backend.load(artifact) as runner, backend.load(artifact) as again:
                got = runner.run(images)
                gates = [judge_golden(golden, got, artifact.manifest)]
                gates.append(judge_precision("torchscript", precision, runner.receipt(), artifact.manifest.plan))
                if all(gate.verdict != "fail" for gate in gates):
                    allowed = allowed_difference("torchscript", precision, trained=faulty.meaningful, golden=golden)
                    looks = measure_consistency(runner.run, images, allowed=allowed, again=again.run)
                    gates.append(judge_consistency(looks))
        except ZooError as error:
            return {"seen_by": "consistency", "reason": str(error)}
        return verdict(gates, golden, got, precision, faulty.meaningful, "torchscript")


def of_preprocessing(model: Model, golden: Golden, changed: dict[str, Any]) -> dict[str, Any]:
    """The right module, with a mistake in the preprocessing that artifact.json says."""
    given = dict(changed)
    before = model.spec.preprocess
    if "mean" in given:
        given["mean"] = tuple(value + given["mean"] for value in before.mean)
    images = prepare(list(golden.images), replace(before, **given))
    with torch.inference_mode():
        got = model.module(torch.from_numpy(images)).numpy()
    from zoo.exporter.checks.faithful import judge_faithful

    assert golden.truth is not None and golden.yardstick is not None
    gate = judge_faithful(golden.truth, golden.yardstick, got, "fp32")
    return verdict([gate], golden, got, "fp32", model.meaningful, "eager")


def of_graphs(
    model: Model, data: Dataset, base: Golden, known: set[Any]
) -> Iterator[tuple[tuple[str, str, str], dict[str, Any]]]:
    """Faults in a quantised ONNX graph, judged by the yardstick of the plan that it was rendered from."""
    from zoo.exporter.backends.onnx import _render
    from zoo.exporter.checks.faithful import judge_faithful

    names = [*IN_GRAPHS, "8-bit weights that saturate"]
    if all((name, "onnx", "int8") in known for name in names):
        return
    calibrated = calibrate(model, data, images=64)
    suits = suitable_bits("onnx", cpu_flags())
    for name in names:
        if (name, "onnx", "int8") in known:
            continue
        choice = Choice(weight_bits=suits)
        if name == "8-bit weights that saturate":
            if suits == 8:
                continue  # this CPU does not
            choice = Choice(weight_bits=8)
        golden = with_yardstick(base, model, "int8", target="onnx", calibrated=calibrated, choice=choice)
        if golden.truth is None or golden.yardstick is None:
            continue
        graph = _render(calibrated, choice)
        if name in IN_GRAPHS and IN_GRAPHS[name](graph) is False:
            continue
        images = np.concatenate([model.transform(image) for image in golden.images])
        try:
            with OrtRunner("planted", model.spec, Path("model.onnx"), "cpu", graph.SerializeToString()) as runner:
                got = runner.run(images)
        except ZooError as error:
            yield (name, "onnx", "int8"), {"seen_by": "runtime", "reason": str(error)}
            continue
        gate = judge_faithful(golden.truth, golden.yardstick, got, "int8", jitter=golden.jitter)
        yield (name, "onnx", "int8"), verdict([gate], golden, got, "int8", model.meaningful, "onnx")


def _change(graph: onnx.ModelProto, ending: str, change: Callable[[Any], Any], which: float = 0.5) -> bool:
    """Change a constant whose name ends so, the one in the middle."""
    found = [
        one for one in graph.graph.initializer
        if one.name.endswith(ending) and ("_weight" in one.name) == ("weight" in ending)
        and ("_bias" in one.name) == ("bias" in ending)
    ]  # fmt: skip
    if not found:
        return False
    one = found[int(which * (len(found) - 1))]
    one.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(one).copy()), one.name))
    return True


def _zero_point_of_dq_alone(graph: onnx.ModelProto) -> bool:
    nodes = [
        node for node in graph.graph.node if node.op_type == "DequantizeLinear" and "QuantizeLinear" in node.input[0]
    ]
    if not nodes:
        return False
    node = nodes[len(nodes) // 2]
    point = next(one for one in graph.graph.initializer if one.name == node.input[2])
    value = numpy_helper.to_array(point)
    graph.graph.initializer.append(
        numpy_helper.from_array(
            np.asarray(value + np.uint8(1) if value < 255 else value - np.uint8(1), np.uint8), "moved"
        )
    )
    node.input[2] = "moved"
    return True


def _one_scale_for_all(graph: onnx.ModelProto) -> bool:
    """A layer's weights on the grid of its largest channel."""
    scales = [one for one in graph.graph.initializer if one.name.endswith("_weight_scale")]
    one = scales[len(scales) // 2]
    values = numpy_helper.to_array(one)
    if values.ndim == 0 or len(values) < 2:
        return False
    whole = next(other for other in graph.graph.initializer if other.name == one.name.replace("_scale", "_quantized"))
    integers = numpy_helper.to_array(whole)
    shape = [-1] + [1] * (integers.ndim - 1)
    real = integers.astype(np.float32) * values.reshape(shape)
    steps = np.round(real / values.max()).clip(-127, 127).astype(np.int8)
    whole.CopyFrom(numpy_helper.from_array(steps, whole.name))
    one.CopyFrom(numpy_helper.from_array(np.full_like(values, values.max()), one.name))
    return True


def _fewer_bits(bits: int) -> Callable[[Any], Any]:
    drop = 8 - bits
    return lambda values: ((values.astype(np.int32) >> drop) << drop).astype(np.int8)


IN_GRAPHS: dict[str, Callable[[onnx.ModelProto], bool]] = {
    "one activation scale x 1.05": lambda graph: _change(graph, "_scale", lambda value: value * np.float32(1.05)),
    "one activation scale x 1.2": lambda graph: _change(graph, "_scale", lambda value: value * np.float32(1.2)),
    "one activation scale x 0.8": lambda graph: _change(graph, "_scale", lambda value: value * np.float32(0.8)),
    "one layer's weight scales x 1.05": lambda graph: _change(
        graph, "_weight_scale", lambda value: value * np.float32(1.05)
    ),
    "one layer's weight scales x 1.2": lambda graph: _change(
        graph, "_weight_scale", lambda value: value * np.float32(1.2)
    ),
    "zero point + 1": lambda graph: _change(
        graph, "_zero_point", lambda value: value + np.uint8(1) if value < 255 else value
    ),
    "zero point + 1 where it is read": _zero_point_of_dq_alone,
    "one layer's weights in 4 bits": lambda graph: _change(graph, "_weight_quantized", _fewer_bits(4)),
    "one layer's weights in one scale": _one_scale_for_all,
    "one layer's bias lost (int8)": lambda graph: _change(graph, "_bias_quantized", lambda value: value * 0),
    "two channels swapped (int8)": lambda graph: _change(
        graph, "_weight_quantized", lambda value: value[[1, 0, *range(2, len(value))]]
    ),
    "one class + 0.5 (int8)": lambda graph: _change(
        graph, "_bias_quantized", lambda value: value + (np.arange(len(value)) == 3) * _half_of(graph), 1.0
    ),
}


def _half_of(graph: onnx.ModelProto) -> Any:
    """0.5 in the steps of the last bias."""
    scale = [one for one in graph.graph.initializer if one.name.endswith("_bias_scale")][-1]
    return np.round(0.5 / numpy_helper.to_array(scale)[3]).astype(np.int32)
