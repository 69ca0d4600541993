"""The table holds what the tensors look like, whatever the batches; bad tensors are named."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from calibration_help import calibrated_model, images
from torch import nn
from zoo.calibration.ranges import ALL_METHODS, RangeTable, collect
from zoo.errors import IntegrityError, UsageError
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import trace_graph
from zoo.exporter.quantize.calibrate import graph_digest


def test_ranges_are_those_of_the_onnx_graphs_tensors() -> None:
    """One name, one tensor: ONNX Runtime's values of each edge lie in its range, and reach it."""
    _, made = calibrated_model("resnet18")
    graph = onnx.ModelProto()
    graph.CopyFrom(made.graph)
    names = [name for name in made.table.edges if name not in ("images", "logits")]
    for name in names:
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, value in zip(names, session.run(names, {"images": images(64)}), strict=True):
        low, high = made.table.edges[name].low, made.table.edges[name].high
        spread = high - low
        assert value.min() == pytest.approx(low, abs=1e-4 * spread), name
        assert value.max() == pytest.approx(high, abs=1e-4 * spread), name
        axes = tuple(axis for axis in range(value.ndim) if axis != 1)
        assert np.allclose(value.mean(axes), made.table.edges[name].channel_mean, atol=1e-4 * spread)


def test_batches_do_not_matter() -> None:
    _, made = calibrated_model("resnet18")
    other = collect(made.program, set(made.table.edges), [images(64)])
    for name, seen in made.table.edges.items():
        again = other.edges[name]
        assert again.low == pytest.approx(seen.low, abs=1e-4)
        assert again.histogram.sum() == pytest.approx(seen.histogram.sum(), rel=1e-3)
        assert again.range("mse") == pytest.approx(seen.range("mse"), abs=0.05 * (seen.high - seen.low))


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    _, made = calibrated_model("resnet18")
    made.table.save(tmp_path / "ranges")
    again = RangeTable.load(tmp_path / "ranges")
    assert again.range("relu", "entropy") == made.table.range("relu", "entropy")
    assert (again.images, again.data) == (64, made.table.data)
    with pytest.raises(UsageError, match="no range of nothing"):
        again.range("nothing")
    (tmp_path / "ranges" / "ranges.safetensors").write_bytes(b"x")
    with pytest.raises(IntegrityError, match="corrupt"):
        RangeTable.load(tmp_path / "ranges")
    with pytest.raises(UsageError, match="holds no ranges"):
        RangeTable.load(tmp_path)


@pytest.mark.parametrize(("value", "words"), [(float("nan"), "NaN"), (float("inf"), "infinity|NaN")])
def test_a_layer_that_breaks_is_named(value: float, words: str) -> None:
    model, _ = calibrated_model("resnet18")
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        module.layer3[0].conv1.weight[0, 0, 0, 0] = value
    graph, program = trace_graph(module, model.spec, "fp32", Batch(1, 8, 64))
    with pytest.raises(UsageError, match=rf"layer \w+ \(in module [\w.]+\) gives ({words}); [^\n]*$"):
        collect(program, {name for node in graph.graph.node for name in node.output}, [images(4)])


def test_a_constant_layer_and_no_images() -> None:
    model, made = calibrated_model("resnet18")
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        for part in (module.fc.weight, module.fc.bias):
            part.zero_()
    _, program = trace_graph(module, model.spec, "fp32", Batch(1, 8, 64))
    with pytest.raises(UsageError, match="answers 0 for every class of every one of 4 images"):
        collect(program, {"logits"}, [images(4)])
    with pytest.raises(UsageError, match="got none"):
        collect(made.program, {"relu"}, [])


def test_a_branch_that_is_dead_has_any_scale() -> None:
    """A norm whose gamma and beta are zero, as zero initialisation leaves it, refused the whole export."""
    model, _ = calibrated_model("resnet18")
    module = copy.deepcopy(model.module)
    with torch.no_grad():
        module.layer3[0].bn2.weight.zero_()
        module.layer3[0].bn2.bias.zero_()
    graph, program = trace_graph(module, model.spec, "fp32", Batch(1, 8, 64))
    table = collect(program, {name for node in graph.graph.node for name in node.output}, [images(4)])
    assert len(table.constant) == 1
    for method in ALL_METHODS:
        assert table.range(table.constant[0], method) == (0.0, 0.0)


def test_a_graph_has_another_digest_when_anything_that_it_computes_changes() -> None:
    """A number in forward, a buffer that is not saved: no weight and no name of a tensor tells of them."""

    class Scaled(nn.Module):
        def __init__(self, scale: float, shift: float) -> None:
            super().__init__()
            self.layer, self.scale = nn.Conv2d(3, 4, 3), scale
            self.register_buffer("shift", torch.tensor(shift), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.layer(x) * self.scale + self.shift).mean((2, 3))

    def digest_of(scale: float, shift: float) -> str:
        torch.manual_seed(0)
        module = Scaled(scale, shift).eval()
        return graph_digest(torch.export.export(module, (torch.zeros(2, 3, 8, 8),)))

    assert digest_of(2, 0) == digest_of(2, 0)
    assert len({digest_of(2, 0), digest_of(3, 0), digest_of(2, 1)}) == 3
