"""Linear layers in blocks: what the integers stand for, which layers may, and that ONNX Runtime computes just that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from calibration_help import calibrated_model, images
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from zoo.calibration import blocks as numbers
from zoo.calibration.blocks import BLOCK, from_blocks, to_blocks, wide_layers
from zoo.calibration.choice import Choice
from zoo.calibration.view import View
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.onnx import int8 as for_onnx
from zoo.exporter.backends.onnx.blocks import read_in_blocks


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 700), st.floats(1e-3, 1e3), st.integers(0, 9))
def test_each_weight_is_within_half_a_step_of_its_block(outputs: int, inputs: int, size: float, seed: int) -> None:
    weight = (size * np.random.default_rng(seed).normal(size=(outputs, inputs))).astype(np.float32)
    integers, scales = to_blocks(weight)
    assert integers.shape == (outputs, -(-inputs // BLOCK), BLOCK)
    assert integers.min() >= 1, "symmetric: 0 would be -128"
    step = np.repeat(scales, BLOCK, axis=1)[:, :inputs]
    assert (np.abs(from_blocks(integers, scales, inputs) - weight) <= 0.501 * step).all()
    assert (np.abs(integers.astype(int) - 128).max(-1) == 127).all(), "the largest weight of a block is at its end"


def one_layer(op: str, shape: tuple[int, int], **more: float) -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    inputs, outputs = shape[::-1] if more.get("transB") else shape
    node = helper.make_node(op, ["images", "w"], ["logits"], "layer", **more)
    graph = helper.make_graph(
        [node], "one", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_which_layers_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "WIDE", 5_000)
    assert wide_layers(View(one_layer("MatMul", (100, 50)))) == {"layer"}
    assert wide_layers(View(one_layer("Gemm", (50, 100), transB=1))) == {"layer"}
    assert not wide_layers(View(one_layer("Gemm", (50, 100), transB=1, alpha=2.0)))
    assert not wide_layers(View(one_layer("MatMul", (100, 49))))


def test_what_is_added_must_be_a_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """A residual is no bias; one number is, for every output."""
    monkeypatch.setattr(numbers, "WIDE", 5_000)
    for size, may in ((50, True), (1, True)):
        proto = one_layer("Gemm", (100, 50))
        proto.graph.node[0].input.append("c")
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(size, np.float32), "c"))
        assert bool(wide_layers(View(proto))) is may
    proto = one_layer("Gemm", (100, 50))
    proto.graph.node[0].input.append("residual")
    proto.graph.input.append(helper.make_tensor_value_info("residual", TensorProto.FLOAT, ["batch", 50]))
    assert not wide_layers(View(proto))


def test_what_comes_after_has_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX does not know the operator: the layers behind it would have no MACs."""
    monkeypatch.setattr(numbers, "WIDE", 2_000)
    proto = one_layer("MatMul", (100, 50))
    proto.graph.node[0].output[0] = "inner"
    proto.graph.node.append(helper.make_node("MatMul", ["inner", "v"], ["logits"], "after"))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((50, 8), np.float32), "v"))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 8
    before = [(layer.name, layer.macs) for layer in list_layers(proto)]
    integers, scales = to_blocks(numpy_helper.to_array(proto.graph.initializer[0]).T)
    proto.graph.initializer.extend(map(numpy_helper.from_array, (integers, scales), ("q", "s")))
    read_in_blocks(proto, proto.graph.node[0], ["q", "s"], (50, 100))
    assert [(layer.name, layer.macs) for layer in list_layers(proto)] == before == [("layer", 5_000), ("after", 400)]


@pytest.mark.parametrize("inputs", [256, 300, 1024])
def test_onnx_runtime_computes_what_the_integers_stand_for(inputs: int) -> None:
    """Weights as stored, activations in 8 bits by block: within a hundredth of the product in float."""
    proto = one_layer("Gemm", (40, inputs), transB=1)
    (node,) = proto.graph.node
    weight = numpy_helper.to_array(proto.graph.initializer[0])
    integers, scales = to_blocks(weight)
    bias = np.arange(40, dtype=np.float32)
    proto.graph.initializer.extend(map(numpy_helper.from_array, (integers, scales, bias), ("q", "s", "b")))
    read_in_blocks(proto, node, ["q", "s", "b"], weight.shape)
    onnx.checker.check_model(proto, full_check=True)
    (layer,) = list_layers(proto)
    assert (layer.name, layer.op, layer.precision, layer.macs) == ("layer", "MatMulNBits", "int8", 40 * inputs)
    batch = np.random.default_rng(1).normal(size=(3, inputs)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = batch @ from_blocks(integers, scales, inputs).T + bias
    assert np.abs(np.asarray(session.run(None, {"images": batch})[0]) - wanted).max() < 0.01 * np.ptp(wanted)
    next(one for one in node.attribute if one.name == "accuracy_level").i = 0
    (layer,) = list_layers(proto)
    assert layer.precision == "unknown", "at other levels it computes in float"


@pytest.mark.parametrize("corrected", [False, True])
def test_a_network_with_them(corrected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numbers, "WIDE", 1)
    _, made = calibrated_model("alexnet")
    base = for_onnx.prepare(made.graph)
    layers = list_layers(base)
    names = [layer.name for layer in layers]
    proto = for_onnx.render(base, made.table, names, Choice(blocks=True, bias_correction=corrected))
    onnx.checker.check_model(proto, full_check=True)
    listed = list_layers(proto)
    assert [layer.name for layer in listed] == names
    assert {layer.precision for layer in listed} == {"int8"}
    assert [layer.macs for layer in listed[-3:]] == [layer.macs for layer in layers[-3:]]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    counted = Counter(node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node)
    assert (counted["MatMulNBits"], counted["QLinearConv"], counted["QGemm"]) == (3, 5, 0)
    batch = images(4, 1)
    float_one = onnxruntime.InferenceSession(base.SerializeToString(), providers=["CPUExecutionProvider"])
    reference, got = (np.asarray(one.run(None, {"images": batch})[0]) for one in (float_one, session))
    assert np.abs(reference - got).max() < 0.2 * np.ptp(reference)
    keep = {names[-1]: "last"}
    kept = for_onnx.render(base, made.table, names, Choice(blocks=True, keep=keep))
    assert [layer.precision for layer in list_layers(kept)][-2:] == ["int8", "fp32"]
