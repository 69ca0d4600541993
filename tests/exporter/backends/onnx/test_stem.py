"""The first convolution answers the same, to the last bit, when it reads its colours by fours."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from calibration_help import calibrated_model, images
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from zoo.calibration.choice import Choice
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.onnx import int8 as for_onnx
from zoo.exporter.backends.onnx.stem import Stem, fold_weights, plan_stem, read_by_fours
from zoo.exporter.quantize.initial import suitable_bits
from zoo.exporter.timing.machine import cpu_flags


@settings(deadline=None, max_examples=60)
@given(
    st.integers(8, 40), st.integers(1, 11), st.integers(1, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)
)
def test_folded_it_computes_the_same(width: int, kernel: int, stride: int, left: int, right: int, seed: int) -> None:
    assume(width + left + right >= kernel)
    draw = np.random.default_rng(seed)
    weight = draw.integers(-127, 128, (4, 3, 2, kernel)).astype(np.int8)
    data = torch.from_numpy(draw.integers(-9, 9, (2, 3, 5, width)).astype(np.float64))

    def convolved(data: torch.Tensor, weight: np.ndarray, step: int) -> torch.Tensor:
        return torch.nn.functional.conv2d(data, torch.from_numpy(weight.astype(np.float64)), stride=(1, step))

    wanted = convolved(torch.nn.functional.pad(data, (left, right)), weight, stride)
    stem = plan_stem(width, kernel, stride, (left, right))
    if stem is None:
        assert kernel > 7
        return
    assert (3 + stem.zeros) * stem.fold % 4 == 0
    assert stem.taps * stem.fold <= 1.25 * kernel or stem.fold == 1
    more = (stem.left, stem.right) if stem.fold > 1 else (left, right)
    wide = torch.nn.functional.pad(data, (*more, 0, 0, 0, stem.zeros))
    count, channels, height, columns = wide.shape
    folded = wide.reshape(count, channels, height, columns // stem.fold, stem.fold).permute(0, 4, 1, 2, 3)
    folded = folded.reshape(count, -1, height, columns // stem.fold)
    got = convolved(folded, fold_weights(weight, stem), stride if stem.fold == 1 else 1)
    assert torch.equal(wanted, got)


@pytest.mark.parametrize(
    ("width", "kernel", "stride", "pads", "stem"),
    [
        (224, 11, 4, (2, 2), Stem(4, 0, 2, 2, 3)),  # AlexNet: 12 channels, no zeros
        (224, 7, 2, (3, 3), Stem(2, 1, 3, 3, 4)),  # ResNet, GoogLeNet
        (224, 3, 2, (1, 1), Stem(1, 1, 0, 0, 3)),  # MobileNet: two taps of two columns would be a third too many
        (224, 3, 1, (1, 1), Stem(1, 1, 0, 0, 3)),  # VGG
        (224, 16, 16, (0, 0), Stem(16, 0, 0, 0, 1)),  # patches
        (226, 6, 3, (0, 0), Stem(1, 1, 0, 0, 6)),  # columns would have to go, not to come
        (224, 14, 14, (0, 0), None),  # a third more work
    ],
)
def test_stems_of_the_networks(width: int, kernel: int, stride: int, pads: tuple[int, int], stem: Stem | None) -> None:
    assert plan_stem(width, kernel, stride, pads) == stem


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("googlenet", "vgg11_bn")]


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v2", *SLOW])
def test_runtimes_answer_is_the_same_to_the_bit(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, made = calibrated_model(name)
    base = for_onnx.prepare(made.graph)
    layers = [layer.name for layer in list_layers(base)]
    # 8-bit weights saturate on a CPU without VNNI, elsewhere for another order of the same products
    choice = Choice(weight_bits=suitable_bits("onnx", cpu_flags()))
    ours = for_onnx.render(base, made.table, layers, choice)
    monkeypatch.setattr(for_onnx, "read_by_fours", lambda _proto, _sizes: None)
    plain = for_onnx.render(base, made.table, layers, choice)
    onnx.checker.check_model(ours, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    providers = ["CPUExecutionProvider"]
    runs = [
        onnxruntime.InferenceSession(one.SerializeToString(), *more, providers=providers).run(
            None, {"images": images(3)}
        )
        for one, *more in ((ours, options), (plain,))
    ]
    assert np.array_equal(runs[0][0], runs[1][0])
    optimised = onnx.load(tmp_path / "o.onnx")
    counted = Counter(node.op_type for node in optimised.graph.node)
    assert counted["QLinearConv"] == len([one for one in base.graph.node if one.op_type == "Conv"])
    assert counted["Pad"] == 1
    assert counted["Transpose"] <= 2, "those of folding cancel with the runtime's own"
    stored = {one.name: one.dims for one in optimised.graph.initializer}
    first = next(node for node in optimised.graph.node if node.op_type == "QLinearConv")
    assert 0 in (stored[first.input[3]][1] % 4, stored[first.input[3]][-1] % 4)


def one_convolution(channels: int, group: int = 1, dilation: int = 1, **more: str) -> onnx.ModelProto:
    weight = np.ones((6, channels // group, 3, 3), np.int8)
    constants = [
        numpy_helper.from_array(value, name)
        for name, value in (("w", weight), ("ws", np.ones(6, np.float32)), ("wz", np.zeros(6, np.int8)),
                            ("s", np.float32(1)), ("z", np.uint8(7)))
    ]  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "wd", axis=0),
        helper.make_node("QuantizeLinear", ["images", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "d"),
        helper.make_node("Conv", ["d", "wd"], ["logits"], "conv", group=group, dilations=[dilation] * 2, **more),
    ]
    shape = ["batch", channels, 8, 8]
    graph = helper.make_graph(
        nodes, "one", [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 6, None, None])], constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_other_convolutions_stay_as_they_are() -> None:
    for proto in (
        one_convolution(1), one_convolution(4), one_convolution(3, group=3), one_convolution(3, dilation=2),
        one_convolution(3, auto_pad="SAME_UPPER"),
    ):  # fmt: skip
        before = proto.SerializeToString(deterministic=True)
        read_by_fours(proto, {"conv": ("batch", 3, 8, 8)})
        assert proto.SerializeToString(deterministic=True) == before
    proto = one_convolution(3)
    before = proto.SerializeToString(deterministic=True)
    for unknown in ({}, {"conv": ("batch", 3, "height", "width")}):
        read_by_fours(proto, unknown)
        assert proto.SerializeToString(deterministic=True) == before, "of a size that is not known"
    read_by_fours(proto, {"conv": ("batch", 3, 8, 8)})
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node].count("Pad") == 1


def test_two_that_read_the_same_images_leave_nothing_unread() -> None:
    proto = one_convolution(3)
    other = helper.make_node("Conv", ["d", "wd"], ["more"], "other")
    proto.graph.node.insert(3, other)
    proto.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", 6, None, None]))
    weights = helper.make_node("DequantizeLinear", ["w2", "ws", "wz"], ["wd2"], "wd2", axis=0)
    proto.graph.node.insert(0, weights)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((6, 3, 3, 3), np.int8), "w2"))
    proto.graph.node[4].input[1] = "wd2"
    read_by_fours(proto, dict.fromkeys(("conv", "other"), ("batch", 3, 8, 8)))
    onnx.checker.check_model(proto, full_check=True)
    read = {name for node in proto.graph.node for name in node.input} | {one.name for one in proto.graph.output}
    assert all(set(node.output) <= read for node in proto.graph.node)
    assert [node.op_type for node in proto.graph.node].count("Pad") == 2
