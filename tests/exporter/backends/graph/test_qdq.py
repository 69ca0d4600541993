"""Each target's graph answers like the float model, and its runtime makes integer kernels of all that was asked for."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from calibration_help import calibrated_model, images
from zoo.calibration.choice import Choice
from zoo.calibration.view import View
from zoo.exporter.backends.eager.runner import layers_run
from zoo.exporter.backends.graph.layers import count_layers, list_layers
from zoo.exporter.backends.graph.retype import to_float16
from zoo.exporter.backends.onnx import int8 as for_onnx
from zoo.exporter.backends.tensorrt import int8 as for_trt
from zoo.exporter.backends.torchscript import int8 as for_torchscript
from zoo.exporter.lint import lint
from zoo.exporter.quantize.initial import suitable_bits
from zoo.exporter.timing.machine import cpu_flags

NAMES = ["resnet18", "mobilenet_v2", "googlenet", "alexnet", "vgg11_bn", "efficientnet_b0"]


def session(proto: onnx.ModelProto, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def error(reference: np.ndarray, got: np.ndarray) -> float:
    return float(np.abs(reference - got).max() / np.ptp(reference))


PLAIN = Choice()


def rendered(name: str, choice: Choice = PLAIN, target=for_onnx) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    _, made = calibrated_model(name)
    base = target.prepare(made.graph)
    return base, target.render(base, made.table, [layer.name for layer in list_layers(base)], choice)


KERNELS = {"Conv": "QLinearConv", "Add": "QLinearAdd", "Concat": "QLinearConcat", "Gemm": "QGemm",
           "GlobalAveragePool": "QLinearGlobalAveragePool"}  # fmt: skip


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "googlenet", "alexnet", "vgg11_bn"])
def test_onnx_runtime_runs_it_all_in_integers(name: str, tmp_path: Path) -> None:
    """Every operator of the float graph is an integer kernel; beside them there is one QuantizeLinear of the images."""
    base, quantised = rendered(name)
    onnx.checker.check_model(quantised, full_check=True)
    one = session(quantised, tmp_path / "o.onnx")
    before = Counter(node.op_type for node in base.graph.node)
    counted = Counter(node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node)
    assert {kernel: counted[kernel] for kernel in KERNELS.values()} == {
        kernel: before[op] for op, kernel in KERNELS.items()
    }
    assert counted["QuantizeLinear"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "Relu", "Clip", "Add", "DequantizeLinear"} & set(counted), counted
    batch = images(8, 1)
    assert error(session(base).run(None, {"images": batch})[0], one.run(None, {"images": batch})[0]) < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_every_family_on_every_onnx_target(name: str) -> None:
    batch = images(8, 1)
    for target in (for_onnx, for_trt):
        bits = 8 if target is for_trt else suitable_bits("onnx", cpu_flags())
        base, quantised = rendered(name, Choice("percentile", bias_correction=True, weight_bits=bits), target)
        made = to_float16(quantised) if target is for_trt else quantised
        onnx.checker.check_model(made, full_check=True)
        assert count_layers(made) == {"int8": len(list_layers(base))}
        reference = session(base).run(None, {"images": batch})[0]
        assert error(reference, session(made).run(None, {"images": batch})[0]) < 0.35
        stored = {one.name: one.data_type for one in quantised.graph.initializer if len(one.dims) > 1}
        assert set(stored.values()) <= {onnx.TensorProto.INT8}, "weights are stored as integers"


@pytest.mark.parametrize("name", NAMES)
def test_the_trt_graph_keeps_tensorrts_rules(name: str) -> None:
    _, quantised = rendered(name, target=for_trt)
    made = to_float16(quantised)
    assert [one for one in lint(made) if one.level == "error"] == []
    rules = {one.rule for one in lint(made)}
    assert not rules & {"residual-add", "concat", "half-quantised", "float32-rest"}, rules


def test_of_a_residual_addition_only_the_skip_branch_is_quantised_for_trt() -> None:
    _, quantised = rendered("resnet18", target=for_trt)
    view = View(quantised)
    for node in view.nodes:
        if node.op_type == "Add":
            kinds = sorted(view.producer[name].op_type for name in node.input)
            assert kinds == ["Conv", "DequantizeLinear"]


def test_kept_layers_stay_float_and_the_rest_does_not() -> None:
    base, _ = rendered("resnet18")
    layers = list_layers(base)
    keep = {layers[0].name: "first", layers[-1].name: "last"}
    for target in (for_onnx, for_trt):
        _, quantised = rendered("resnet18", Choice(keep=keep), target)
        found = {layer.name: layer.precision for layer in list_layers(quantised)}
        assert {name for name, precision in found.items() if precision == "fp32"} == set(keep)
        assert Counter(found.values())["int8"] == len(layers) - 2


def test_average_pools_of_single_positions_are_left_out() -> None:
    from zoo.exporter.backends.graph.qdq_sites import without_idle_pools

    def pooled(window: int, last: bool, **more: list[int]) -> list[str]:
        value = onnx.helper.make_tensor_value_info
        nodes = [onnx.helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[window] * 2, **more)]
        nodes += [] if last else [onnx.helper.make_node("Relu", ["y"], ["z"])]
        shapes = [value(name, onnx.TensorProto.FLOAT, [1, 1, None, None]) for name in ("x", "y" if last else "z")]
        proto = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", shapes[:1], shapes[1:]))
        without_idle_pools(proto)
        onnx.checker.check_model(proto, full_check=True)
        return [node.op_type for node in proto.graph.node]

    assert pooled(1, last=False) == ["Relu"]
    assert pooled(1, last=True) == ["AveragePool"], "what it writes is the graph's output"
    assert pooled(2, last=False) == pooled(1, last=False, strides=[2, 2]) == ["AveragePool", "Relu"]
    assert pooled(1, last=False, pads=[1, 1, 1, 1]) == ["AveragePool", "Relu"]


def test_seven_bit_weights() -> None:
    _, quantised = rendered("resnet18", Choice(weight_bits=7))
    for one in quantised.graph.initializer:
        if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1:
            assert np.abs(onnx.numpy_helper.to_array(one).astype(int)).max() <= 63


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "googlenet", "alexnet", "efficientnet_b0"])
def test_torchscript_has_integer_kernels(name: str) -> None:
    model, made = calibrated_model(name)
    batch = torch.from_numpy(images(8, 1))
    for choice in (Choice(), Choice("percentile", bias_correction=True)):
        quantised = for_torchscript.render(made, choice)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the scales, which become constants
            traced = torch.jit.freeze(torch.jit.trace(quantised, batch[:2], check_trace=False).eval())
            got, reference = traced(batch).numpy(), model.module(batch).numpy()
        assert error(reference, got) < 0.5
        kinds = Counter(node.kind() for node in traced.inlined_graph.nodes())
        integer = sum(
            count for kind, count in kinds.items() if kind.startswith(("quantized::conv", "quantized::linear"))
        )
        assert integer == len(list_layers(made.graph))
        assert not {"aten::_convolution", "aten::conv2d", "aten::linear"} & set(kinds)


def test_torchscript_keeps_what_it_is_told_to() -> None:
    _, made = calibrated_model("resnet18")
    first = list_layers(made.graph)[0].name
    assert for_torchscript.kept_modules(made, Choice(keep={first: "why"})) == ["conv1"]
    quantised = for_torchscript.render(made, Choice(keep={first: "why"}))
    assert isinstance(quantised.conv1, torch.nn.Conv2d) or "quantized" not in type(quantised.conv1).__module__


def test_what_reads_a_tensor_that_was_not_calibrated_stays_float() -> None:
    from dataclasses import replace

    from zoo.calibration.ranges import RangeTable
    from zoo.errors import UsageError

    _, made = calibrated_model("resnet18")
    fewer = RangeTable({name: seen for name, seen in made.table.edges.items() if "relu" not in name}, 64)
    quantised = for_torchscript.render(replace(made, table=fewer), Choice(weight_bits=7))
    batch = torch.from_numpy(images(8, 1))
    ran = layers_run(lambda: quantised(batch))
    assert len(ran) == len(list_layers(made.graph))
    assert set(ran) == {"fp32", "int8"}
    with torch.inference_mode():
        assert error(made.module(batch).numpy(), quantised(batch).numpy()) < 0.2
    with pytest.raises(UsageError, match="no range of"):
        fewer.range("relu")
    for target in (for_onnx, for_trt):
        base = target.prepare(made.graph)
        names = [layer.name for layer in list_layers(base)]
        session(target.render(base, fewer, names, Choice()))
        read = {node.name: node.input[0] for node in base.graph.node if node.name in names}
        quantised = target.render(base, fewer, names, Choice())
        for layer in list_layers(quantised):
            assert "relu" not in read[layer.name] or layer.precision == "fp32", layer
