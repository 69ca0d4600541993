"""Training with fake quantisation: the same network without rounding, and with it what the export will compute."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from calibration_help import images
from conftest import tiny_model
from torch import nn
from zoo.calibration.choice import Choice
from zoo.calibration.qat import FakeQuantised, QatOptions
from zoo.calibration.ranges import RangeTable, collect
from zoo.errors import UnavailableError, UsageError
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import trace_graph
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.infos import rules_of
from zoo.exporter.backends.onnx import int8 as for_onnx
from zoo.exporter.backends.tensorrt import int8 as for_trt
from zoo.exporter.quantize.qat import learned_ranges

TARGETS = {"onnx": for_onnx, "trt": for_trt}


def trained_a_little(name: str, target: str, steps: int = 6) -> tuple[FakeQuantised, nn.Module]:
    """Ranges of a few batches; the weights move a little, so that what is written back is not what was there."""
    model = tiny_model(name)
    made = FakeQuantised(model.module, model.spec.input, QatOptions(target), rules_of(target))
    made.train()
    optimiser = torch.optim.SGD(made.parameters(), lr=1e-4)
    for step in range(steps):
        made.at(step / steps)
        made(torch.from_numpy(images(8, seed=step))).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return made.eval(), model.module


class Noting(RangeTable):
    """A table that notes which ranges were asked for."""

    def range(self, edge: str, method: str = "minmax", *, symmetric: bool = False) -> tuple[float, float]:
        asked.add(edge)
        return super().range(edge, method, symmetric=symmetric)


asked: set[str] = set()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "target"),
    [("resnet18", "onnx"), ("mobilenet_v3_large", "onnx"), ("resnet18", "trt"),
     pytest.param("googlenet", "onnx", marks=SLOW), pytest.param("efficientnet_b0", "onnx", marks=SLOW),
     pytest.param("efficientnet_b0", "trt", marks=SLOW)],
)  # fmt: skip
def test_the_export_computes_what_was_trained(name: str, target: str) -> None:
    """The Q/DQ graph with the learned ranges against the fake-quantised network, beside what rounding changes."""
    trained, module = trained_a_little(name, target)
    trained.write_back(module)
    spec, sample = tiny_model(name).spec, images(4, seed=99)
    graph, program = trace_graph(module.eval(), spec, "fp32", Batch(1, 8, 64))
    ranges, unmatched = learned_ranges(trained, program, sample)
    assert not unmatched
    base = TARGETS[target].prepare(graph)
    table = collect(program, for_onnx.edges(base), iter([images(8)]))
    asked.clear()
    noting = Noting(table.edges, table.images, learned=ranges)
    made = TARGETS[target].render(base, noting, [one.name for one in list_layers(base)], Choice("learned"))
    assert asked <= set(ranges), f"not trained for: {asked - set(ranges)}"

    second = [node.output[0] for node in made.graph.node if "QuantizeLinear" in node.name and node.input[0] in ranges][
        1
    ]
    back = second.replace("_QuantizeLinear", "_DequantizeLinear")
    made.graph.output.append(onnx.helper.make_tensor_value_info(back, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # Q/DQ as it is written
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    got, got_second = session.run(None, {"images": sample})

    rounded_at: list[np.ndarray] = []
    for part in trained.ranges().values():
        part.register_forward_hook(lambda _part, _given, made: rounded_at.append(made.numpy().copy()))
    with torch.inference_mode():
        rounded, exact = trained(torch.from_numpy(sample)).numpy(), module(torch.from_numpy(sample)).numpy()
    low, high = ranges[second.removesuffix("_QuantizeLinear")]
    steps = np.abs(got_second - rounded_at[1]) / ((max(high, -low) / 127) if target == "trt" else (high - low) / 255)
    largest, ties = (2.2, 0.1) if target == "trt" else (1.2, 0.01)  # scales of trt are rounded to float16
    assert steps.max() < largest and (steps > 0.2).mean() < ties, "what a layer reads is rounded alike, but for ties"
    # and at the end: random weights amplify each tie, and still it is nearer than the float network; with the ten times
    # as many ties of trt it is about as near, on one CPU a little nearer and on another a little farther
    most = 1.5 if target == "trt" else 1.0
    assert np.abs(got - rounded).mean() < most * np.abs(rounded - exact).mean()


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "mobilenet_v3_large"])
def test_without_rounding_it_is_the_module(name: str) -> None:
    """Also where eps and momentum of the batch norms are not torch's defaults."""
    model = tiny_model(name)
    made = FakeQuantised(model.module, model.spec.input, QatOptions(), rules_of("onnx"))
    batch = torch.from_numpy(images(4))
    with torch.inference_mode():
        assert torch.allclose(made.in_float(batch), model.module(batch), rtol=1e-4, atol=1e-4)
    assert set(model.module.state_dict()) <= set(made.graph.state_dict())


def test_batch_norms_keep_their_own_momentum_and_stop_when_frozen() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.25), nn.ReLU(), nn.Flatten(1),
                           nn.Linear(4 * 36, 5))  # fmt: skip
    module.eval()
    made = FakeQuantised(module, (3, 8, 8), QatOptions(norms_until=0.5), rules_of("onnx")).train()
    batch = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    made(batch)
    seen = made.graph.state_dict()["1.running_mean"].clone()
    want = 0.25 * module[0](batch).mean((0, 2, 3))
    assert torch.allclose(seen, want, atol=5e-3), "a quarter of the batch's, rounding aside"
    made.at(0.5)
    made(batch)
    assert torch.equal(made.graph.state_dict()["1.running_mean"], seen)


def test_ranges_stop_when_frozen_and_in_eval_mode() -> None:
    model = tiny_model("resnet18")
    made = FakeQuantised(model.module, model.spec.input, QatOptions(ranges_until=0.5), rules_of("onnx")).train()
    made(torch.from_numpy(images(4)))
    before = made.spans()
    for quiet in (made.eval, lambda: made.train().at(0.5)):
        quiet()
        made(torch.from_numpy(10 * images(4)))
        assert made.spans() == before
    assert made.train() and made.spans() == before
    made(torch.from_numpy(10 * images(4)))
    assert made.spans() == before, "a later epoch does not thaw them"


def test_dropout_is_on_in_training_only() -> None:
    module = nn.Sequential(nn.Flatten(1), nn.Dropout(0.5), nn.Linear(12, 3)).eval()
    made = FakeQuantised(module, (3, 2, 2), QatOptions(), rules_of("onnx"))
    batch = torch.ones(64, 3, 2, 2)
    assert made.train()(batch).std(0).max() > 0.01
    assert made.eval()(batch).std(0).max() < 1e-6


def test_torchscript_has_seven_bits_in_depthwise_convolutions_and_its_own_operators() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Hardswish(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(1),
                           nn.Linear(8 * 36, 5)).eval()  # fmt: skip
    made, other = (
        FakeQuantised(module, (3, 8, 8), QatOptions(target), rules_of(target)) for target in ("torchscript", "onnx")
    )
    limits = [[part.quant_max for part in one.modules() if getattr(part, "is_weight", False)] for one in (made, other)]
    assert limits == [[127, 63, 127], [127, 127, 127]]
    assert [len(one.spans()) for one in (made, other)] == [5, 4], "hard-swish and logits are written there"
    fewer = FakeQuantised(module, (3, 8, 8), QatOptions("trt"), rules_of("trt"))
    assert len(fewer.spans()) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norms_until": -0.1}, "norms_until"),
        ({"ranges_until": 0.0}, "ranges_until"),
        ({"bits": 4}, "bits must be 7 or 8"),
    ],
)
def test_wrong_options_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        QatOptions(**options)


def test_a_model_that_cannot_be_traced_is_named() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :3] if x.sum() > 0 else x.flatten(1)[:, 3:6]

    with pytest.raises(UsageError, match=r"torch\.export cannot trace"):
        FakeQuantised(Branches(), (3, 4, 4), QatOptions(), rules_of("onnx"))


def test_without_torchao_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e.quantize_pt2e", None)
    with pytest.raises(UnavailableError, match="zoo-export"):
        FakeQuantised(nn.Sequential(nn.Flatten(1), nn.Linear(12, 3)), (3, 2, 2), QatOptions(), rules_of("onnx"))


def test_what_is_measured_for_rounding_never_waits_for_the_device() -> None:
    """On the meta device there are no numbers to wait for: .item(), bool() and .cpu() raise. Torch's own kernels, which
    round by it, have no meta version."""
    from zoo.calibration.fake_quantize import PerChannelWeight, SymmetricActivation

    weight, activation = PerChannelWeight().to("meta"), SymmetricActivation(0.01).to("meta")
    assert weight.scales(torch.empty(8, 4, 3, 3, device="meta")).shape == (8,)
    activation.enable_fake_quant(False)
    for mode in (True, False):
        activation.enable_observer(mode)
        assert activation(torch.empty(2, 8, 5, 5, device="meta")).shape == (2, 8, 5, 5)
