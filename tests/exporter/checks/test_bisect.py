"""Networks with one thing wrong in the ONNX graph: the search names the layer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from conftest import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from zoo.calibration.ranges import observe
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import trace_graph
from zoo.exporter.checks.bisect import Finding, first_divergence, relative_error, search

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module", params=["resnet18", "mobilenet_v3_small"])
def traced(request: pytest.FixtureRequest):
    model = tiny_model(request.param)
    graph, program = trace_graph(model.module, model.spec, "fp32", Batch(1, 8, 64))
    kept: dict[str, np.ndarray] = {}
    observe(program, IMAGES, lambda name, value: kept.__setitem__(name, value.numpy()))
    return graph, kept


def changed(graph: onnx.ModelProto, node: onnx.NodeProto, how) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    (weight,) = [one for one in copy.graph.initializer if one.name == node.input[1]]
    weight.CopyFrom(numpy_helper.from_array(how(numpy_helper.to_array(weight)), weight.name))
    return copy


def layers(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in graph.graph.node if node.op_type in ("Conv", "Gemm")]


def find(graph: onnx.ModelProto, fresh: onnx.ModelProto, kept, precision: str = "fp32") -> Finding:
    found = first_divergence(graph, fresh, kept, IMAGES, precision)
    assert isinstance(found, Finding), found
    return found


@pytest.mark.parametrize("which", [0, 3, 9, -4, -1])
def test_a_layer_whose_weights_are_off_by_5_percent(traced, which: int) -> None:
    graph, kept = traced
    node = layers(graph)[which]
    found = find(changed(graph, node, lambda weight: weight * np.float32(1.05)), graph, kept)
    assert (found.layer, found.weight) == (node.name, node.input[1])
    assert "is not the reference's (off by 0.05)" in found.advice
    assert found.input_error < 1e-4
    assert found.error is not None
    assert found.sessions <= 20, "not every tensor was looked at"
    assert f"{found.layer} ({node.op_type} with {node.input[1]})" in str(found)


def test_a_layer_that_gives_nan(traced) -> None:
    graph, kept = traced
    node = layers(graph)[4]
    found = find(changed(graph, node, lambda weight: weight * np.float32("nan")), graph, kept)
    assert (found.layer, found.error) == (node.name, None)


def test_another_attribute_with_the_same_weights(traced) -> None:
    graph, kept = traced
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    node = next(node for node in copy.graph.node if node.op_type == "Conv" and _padded(node))
    for one in node.attribute:
        if one.name == "pads":
            one.ints[:] = [one.ints[0] + 1, one.ints[1], one.ints[2] - 1, one.ints[3]]
    found = find(copy, graph, kept)
    assert found.layer == node.name
    assert "attributes" in found.advice


def _padded(node: onnx.NodeProto) -> bool:
    return any(one.name == "pads" and sum(one.ints) for one in node.attribute)


def test_the_advice_for_other_precisions(traced) -> None:
    graph, kept = traced
    broken = changed(graph, layers(graph)[4], lambda weight: weight * np.float32(3))
    assert "sensitivity" in find(broken, graph, kept, "int8").advice
    large = {name: value * 1e4 for name, value in kept.items()}
    assert "65,504" in find(broken, graph, large, "fp16").advice


def test_nothing_stands_out(traced) -> None:
    graph, kept = traced
    assert "no layer stands out" in str(first_divergence(graph, graph, kept, IMAGES, "fp32"))


def test_tensors_of_other_names(traced) -> None:
    graph, _ = traced
    assert "no layer" in str(first_divergence(graph, graph, {}, IMAGES, "fp32"))


@given(st.integers(1, 200), st.data())
def test_search_finds_the_first(count: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, count - 1))
    asked: list[int] = []
    assert search(count, lambda index: (asked.append(index), index >= first)[1]) == first
    assert len(asked) <= count.bit_length()


def test_relative_error() -> None:
    one = np.array([3.0, 4.0])
    assert relative_error(one, one) == 0
    assert relative_error(one, one * 1.1) == pytest.approx(0.1)
    assert relative_error(one, one[:1]) == np.inf
    assert relative_error(one, one * np.nan) == np.inf
    assert (relative_error(one * 0, one * 0), relative_error(one * 0, one)) == (0, np.inf)
