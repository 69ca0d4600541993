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
from zoo.calibration.ranges import RangeTable, collect
from zoo.errors import IntegrityError, UsageError
from zoo.exporter.artifact import Batch
from zoo.exporter.backends.graph import trace_graph


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
        assert again.histogram.sum() == seen.histogram.sum()
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
    with pytest.raises(UsageError, match="logits is the same for every one of 4 images"):
        collect(program, {"logits"}, [images(4)])
    with pytest.raises(UsageError, match="got none"):
        collect(made.program, {"relu"}, [])
