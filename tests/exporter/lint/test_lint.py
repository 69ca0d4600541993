"""Each rule finds its planted fault, says what to do, and keeps quiet about our own graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import tiny_model
from onnx import TensorProto, helper, numpy_helper
from zoo.errors import GateError, UsageError
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import export_graph
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.export import export
from zoo.exporter.lint import TARGETS, lint, lint_errors, lint_file
from zoo.exporter.lint.trt import operators


class Sketch:
    """A small graph, written node by node; `x` is N x 8 x 8 x 8."""

    def __init__(self, kind: int = TensorProto.FLOAT, shape: tuple[Any, ...] = ("n", 8, 8, 8), opset: int = 20) -> None:
        self.kind, self.shape, self.opset = kind, shape, opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.last = "x"

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        made = [name, *(f"{name}_{index}" for index in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), made, name, domain=domain, **attributes))
        self.last = name
        return name

    def weight(self, name: str, shape: tuple[int, ...]) -> str:
        return self.constant(name, np.random.default_rng(0).normal(size=shape))

    def qdq(self, name: str, scale: Any = 0.1, zero: Any = 0, kind: Any = np.int8, **attributes: Any) -> str:
        stem = f"{name}_{len(self.nodes)}"
        tail = [self.constant(f"{stem}_s", scale), self.constant(f"{stem}_z", np.full(np.shape(scale), zero), kind)]
        return self.node(
            "DequantizeLinear", self.node("QuantizeLinear", name, *tail, **attributes), *tail, **attributes
        )

    def build(self, *outputs: str) -> onnx.ModelProto:
        kinds = [helper.make_empty_tensor_value_info(name) for name in (outputs or (self.last,))]
        fed = helper.make_tensor_value_info("x", self.kind, list(self.shape))
        graph = helper.make_graph(self.nodes, "sketch", [fed], kinds, self.constants)
        domains = {node.domain for node in self.nodes} - {""}
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        made = helper.make_model(graph, opset_imports=imports, ir_version=10)
        inferred = onnx.shape_inference.infer_shapes(made)
        known = {one.name: one for one in inferred.graph.value_info}
        for index, one in enumerate(kinds):
            if one.name in known:
                made.graph.output[index].CopyFrom(known[one.name])
            elif not one.type.HasField("tensor_type") or not made.graph.output[index].type.tensor_type.elem_type:
                made.graph.output[index].CopyFrom(inferred.graph.output[index])
            found = made.graph.output[index].type.tensor_type
            if not found.elem_type or not found.HasField("shape"):
                made.graph.output[index].CopyFrom(
                    helper.make_tensor_value_info(one.name, TensorProto.FLOAT, list("abcd"))
                )
        return made


def conv(sketch: Sketch, data: str, name: str = "w", **attributes: Any) -> str:
    return sketch.node("Conv", data, sketch.weight(name, (8, 8, 1, 1)), **attributes)


def other_domain(s: Sketch) -> None:
    s.node("Swirl", "x", domain="com.example")


def no_such_operator(s: Sketch) -> None:
    s.node("Det", "x")


def fp64(s: Sketch) -> None:
    s.node("Relu", "x")


def uint8_without_cast(s: Sketch) -> None:
    s.node("Transpose", "x", perm=[0, 2, 3, 1])


def uint8_inside(s: Sketch) -> None:
    s.node("Cast", s.node("Cast", "x", to=TensorProto.UINT8), to=TensorProto.FLOAT)


def int32_softmax(s: Sketch) -> None:
    s.node("Clip", "x")


def dilated_pool(s: Sketch) -> None:
    s.node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])


def indices(s: Sketch) -> None:
    s.node("MaxPool", "x", outputs=2, kernel_shape=[2, 2])


def antialias(s: Sketch) -> None:
    s.node("Resize", "x", "", s.constant("scales", [1, 1, 2, 2]), mode="linear", antialias=1)


def cubic(s: Sketch) -> None:
    s.node("Resize", "x", "", s.constant("scales", [1, 1, 2, 2]), mode="cubic")


def computed_axes(s: Sketch) -> None:
    axes = s.node("Add", s.constant("one", [1], np.int64), s.constant("two", [1], np.int64))
    s.node("ReduceMean", "x", axes)


def unsorted(s: Sketch) -> None:
    s.node("TopK", "x", s.constant("k", [2], np.int64), outputs=2, sorted=0)


def many(s: Sketch) -> None:
    s.node("TopK", s.node("Flatten", "x"), s.constant("k", [4000], np.int64), outputs=2)


def training_norm(s: Sketch) -> None:
    names = [s.constant(name, np.ones(8)) for name in "abcd"]
    s.node("BatchNormalization", "x", *names, outputs=3, training_mode=1)


def training_dropout(s: Sketch) -> None:
    s.node("Dropout", "x", s.constant("ratio", 0.5), s.constant("on", True, np.bool_))


def scattered(s: Sketch) -> None:
    s.node("ScatterND", "x", s.constant("i", [[0]], np.int64), s.constant("u", np.zeros((1, 8, 8, 8))), reduction="add")


def integer_operator(s: Sketch) -> None:
    s.node("DynamicQuantizeLinear", "x", outputs=3)


def uint8_scale(s: Sketch) -> None:
    s.node("Conv", s.qdq("x", kind=np.uint8), s.qdq(s.weight("w", (8, 8, 1, 1))))


def zero_point(s: Sketch) -> None:
    s.node("Conv", s.qdq("x", zero=3), s.qdq(s.weight("w", (8, 8, 1, 1))))


def negative_scale(s: Sketch) -> None:
    s.node("Conv", s.qdq("x", scale=-0.1), s.qdq(s.weight("w", (8, 8, 1, 1))))


def zero_scale(s: Sketch) -> None:
    s.node("Conv", s.qdq("x"), s.qdq(s.weight("w", (8, 8, 1, 1)), scale=[0.1] * 7 + [0.0], axis=0))


def computed_scale(s: Sketch) -> None:
    scale = s.node("Add", s.constant("a", 0.1), s.constant("b", 0.1))
    zero = s.constant("z", 0, np.int8)
    s.node("DequantizeLinear", s.node("QuantizeLinear", "x", scale, zero), scale, zero)


def per_channel_activation(s: Sketch) -> None:
    s.node("Conv", s.qdq("x", scale=[0.1] * 8, axis=1), s.qdq(s.weight("w", (8, 8, 1, 1))))


def wrong_axis(s: Sketch) -> None:
    s.node("Conv", s.qdq("x"), s.qdq(s.weight("w", (8, 8, 1, 1)), scale=[0.1] * 8, axis=1))


def wrong_gemm_axis(s: Sketch) -> None:
    flat = s.node("Flatten", "x")
    s.node("Gemm", s.qdq(flat), s.qdq(s.weight("w", (10, 512)), scale=[0.1] * 512, axis=1), transB=1)


def quantised_bias(s: Sketch) -> None:
    bias = s.node("DequantizeLinear", s.constant("b", np.zeros(8), np.int32), s.constant("bs", 0.01))
    s.node("Conv", s.qdq("x"), s.qdq(s.weight("w", (8, 8, 1, 1))), bias)


def q_without_dq(s: Sketch) -> None:
    zero = s.constant("z", 0, np.int8)
    s.node("Cast", s.node("QuantizeLinear", "x", s.constant("s", 0.1), zero), to=TensorProto.FLOAT)


def half_quantised(s: Sketch) -> None:
    s.node("Conv", "x", s.qdq(s.weight("w", (8, 8, 1, 1))))


def quantised_branch(s: Sketch) -> None:
    branch = s.qdq(s.node("Conv", s.qdq("x"), s.qdq(s.weight("w", (8, 8, 1, 1)))))
    s.node("Add", branch, s.qdq(s.node("Relu", "x")))


def bare_skip(s: Sketch) -> None:
    s.node("Add", s.node("Conv", s.qdq("x"), s.qdq(s.weight("w", (8, 8, 1, 1)))), s.node("Relu", "x"))


def two_scales(s: Sketch) -> None:
    s.node("Concat", s.qdq("x", scale=0.1), s.qdq(s.node("Relu", "x"), scale=0.2), axis=1)


def half_concat(s: Sketch) -> None:
    s.node("Concat", s.qdq("x"), s.node("Relu", "x"), axis=1)


def float_pool(s: Sketch) -> None:
    s.node("GlobalAveragePool", s.node("Conv", s.qdq("x"), s.qdq(s.weight("w", (8, 8, 1, 1)))))


def float_rest(s: Sketch) -> None:
    conv(s, s.node("Conv", s.qdq("x"), s.qdq(s.weight("w", (8, 8, 1, 1)))), "w2")


def int16(s: Sketch) -> None:
    s.node("Conv", s.qdq("x", kind=np.int16), s.qdq(s.weight("w", (8, 8, 1, 1)), kind=np.int16))


def uint8_weights(s: Sketch) -> None:
    weight = s.node("DequantizeLinear", s.constant("w", np.ones((8, 8, 1, 1)), np.uint8), s.constant("ws", 0.1))
    s.node("Conv", s.qdq("x"), weight)


def per_channel_addition(s: Sketch) -> None:
    s.node("Add", s.qdq("x", scale=[0.1] * 8, axis=1), s.node("Relu", "x"))


def transposed_axis(s: Sketch) -> None:
    weight = s.node("Transpose", s.qdq(s.weight("w", (8, 8, 1, 1)), scale=[0.1] * 8, axis=0), perm=[1, 0, 2, 3])
    s.node("Conv", s.qdq("x"), weight)


def inside_a_branch(s: Sketch) -> None:
    hidden = helper.make_node("Det", ["x"], ["z"], "hidden")
    body = helper.make_graph([hidden], "b", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 8])])
    s.node("If", s.constant("c", True, np.bool_), then_branch=body, else_branch=body)


def uint8_beside(s: Sketch) -> None:
    s.node("Where", s.constant("c", True, np.bool_), "x", s.constant("y", np.ones((1, 8, 8, 8)), np.uint8))


def aspect(s: Sketch) -> None:
    s.node("Resize", "x", "", s.constant("scales", [2, 2]), mode="linear", axes=[2, 3])


def computed_depth(s: Sketch) -> None:
    depth = s.node("Add", s.constant("a", 1, np.int64), s.constant("b", 1, np.int64))
    s.node("OneHot", s.node("ArgMax", "x", axis=1), depth, s.constant("v", [0.0, 1.0]))


def odd_depthwise(s: Sketch) -> None:
    s.node("Conv", s.qdq("x"), s.qdq(s.weight("w", (4, 2, 1, 1))), group=4)


FAULTS: list[tuple[Callable[[Sketch], object], str, str, dict[str, Any]]] = [
    (other_domain, "error", "operator", {}),
    (no_such_operator, "error", "operator", {}),
    (fp64, "warning", "double", {"kind": TensorProto.DOUBLE}),
    (uint8_without_cast, "error", "uint8", {"kind": TensorProto.UINT8}),
    (uint8_inside, "error", "uint8", {}),
    (int32_softmax, "error", "type", {"kind": TensorProto.INT32}),
    (fp64, "error", "opset", {"opset": 8}),
    (fp64, "warning", "opset", {"opset": 22}),
    (fp64, "error", "dynamic-dimension", {"shape": ("n", 8, "h", "w")}),
    (lambda s: conv(s, "x"), "error", "dynamic-channels", {"shape": ("n", "c", 8, 8)}),
    (dilated_pool, "error", "maxpool-limit", {}),
    (indices, "error", "maxpool-limit", {}),
    (antialias, "error", "resize-limit", {}),
    (cubic, "error", "resize-limit", {}),
    (computed_axes, "error", "constant-axes", {}),
    (unsorted, "error", "topk-limit", {}),
    (many, "error", "topk-limit", {"shape": ("n", 80, 8, 8)}),
    (training_norm, "error", "batchnormalization-limit", {}),
    (training_dropout, "error", "dropout-limit", {}),
    (scattered, "error", "scatternd-limit", {"shape": (1, 8, 8, 8)}),
    (integer_operator, "error", "integer-operator", {}),
    (uint8_scale, "error", "uint8-quantisation", {}),
    (zero_point, "error", "zero-point", {}),
    (negative_scale, "error", "scale-positive", {}),
    (zero_scale, "error", "scale-positive", {}),
    (computed_scale, "error", "scale-constant", {}),
    (per_channel_activation, "error", "per-channel-activation", {}),
    (wrong_axis, "error", "weight-axis", {}),
    (wrong_gemm_axis, "error", "weight-axis", {}),
    (quantised_bias, "error", "bias", {}),
    (q_without_dq, "error", "q-without-dq", {}),
    (half_quantised, "warning", "half-quantised", {}),
    (quantised_branch, "warning", "residual-add", {}),
    (bare_skip, "warning", "residual-add", {}),
    (two_scales, "warning", "concat", {}),
    (half_concat, "warning", "concat", {}),
    (float_pool, "warning", "average-pool", {}),
    (float_rest, "warning", "float32-rest", {}),
    (odd_depthwise, "warning", "depthwise", {}),
    (int16, "error", "quantised-type", {"opset": 21}),
    (uint8_weights, "error", "uint8-quantisation", {}),
    (per_channel_addition, "error", "per-channel-activation", {}),
    (transposed_axis, "error", "weight-axis", {}),
    (inside_a_branch, "error", "operator", {"shape": ("n", 8, 8)}),
    (uint8_beside, "error", "uint8", {"kind": TensorProto.UINT8}),
    (aspect, "error", "resize-limit", {}),
    (computed_depth, "error", "constant-axes", {}),
]


@pytest.mark.parametrize(("fault", "level", "rule", "options"), FAULTS, ids=lambda one: getattr(one, "__name__", None))
def test_planted_faults_are_found(fault, level: str, rule: str, options: dict[str, Any]) -> None:
    sketch = Sketch(**options)
    fault(sketch)
    found = lint(sketch.build())
    assert (level, rule) in {(one.level, one.rule) for one in found}, found
    for one in found:
        assert one.why
        assert one.fix
        assert one.source
    assert [one.level for one in found] == sorted((one.level for one in found), key=lambda one: one != "error")


def well_quantised(s: Sketch) -> None:
    """As TensorRT's documentation places Q/DQ: on inputs and weights, on the skip branch only."""
    first = s.node("Relu", s.node("Conv", s.qdq("x"), s.qdq(s.weight("w1", (8, 8, 1, 1)), scale=[0.1] * 8, axis=0)))
    branch = s.node("Conv", s.qdq(first), s.qdq(s.weight("w2", (8, 8, 1, 1)), scale=[0.1] * 8, axis=0))
    joined = s.node("Relu", s.node("Add", branch, s.qdq(first)))
    pooled = s.node("Flatten", s.node("GlobalAveragePool", s.qdq(joined)))
    s.node("Gemm", s.qdq(pooled), s.qdq(s.weight("w3", (10, 8)), scale=[0.1] * 10, axis=0), transB=1)


def downsampled(s: Sketch) -> None:
    """Both branches are convolutions: the shorter one is quantised, the longer one bare."""
    short = s.qdq(s.node("Conv", s.qdq("x"), s.qdq(s.weight("w1", (8, 8, 1, 1)))))
    s.node("Add", s.node("Conv", s.qdq("x"), s.qdq(s.weight("w2", (8, 8, 1, 1)))), short)


@pytest.mark.parametrize("good", [well_quantised, downsampled, fp64])
def test_what_is_right_finds_nothing(good) -> None:
    sketch = Sketch()
    good(sketch)
    assert lint(sketch.build()) == []


@pytest.mark.parametrize(
    "precision", [pytest.param("fp32", marks=pytest.mark.slow), "fp16", pytest.param("bf16", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ["mobilenet_v3_small"])
def test_a_family_in_every_precision_is_taken(name: str, precision: str) -> None:
    """The others are exported in fp16 and bf16, and linted with that, in backends/tensorrt/test_backend.py."""
    model = tiny_model(name)
    found = lint(export_graph(model.module, model.spec, precision, Batch(1, 4, 8)))
    assert [one.rule for one in found] == (["opset"] if precision == "bf16" else [])


def test_a_fault_in_a_local_function_is_found() -> None:
    body = helper.make_function("mine", "Inner", ["a"], ["b"], [helper.make_node("Det", ["a"], ["b"], "hidden")],
                                [helper.make_opsetid("", 20)])  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Inner", ["x"], ["y"], "call", domain="mine")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)]
    proto = helper.make_model(graph, functions=[body], opset_imports=imports, ir_version=10)
    assert "TensorRT's parser has no Det" in [one.why for one in lint(proto)]


def test_the_table_of_operators_holds_what_classifiers_are_made_of() -> None:
    needed = {"Conv", "Relu", "Gemm", "MaxPool", "ReduceMean", "HardSwish", "HardSigmoid", "Sigmoid", "Mul", "Concat"}
    assert needed <= set(operators())
    assert not {"Det", "QLinearConv", "ConvInteger", "MaxUnpool", "ImageDecoder"} & set(operators())
    schemas = {schema.name for schema in onnx.defs.get_all_schemas()}
    old = {"ImageScaler", "ParametricSoftplus", "ScaledTanh", "Scatter", "Upsample"}
    assert set(operators()) - old <= schemas, "every name is an ONNX operator's"


def broken(**fields: Any) -> onnx.ModelProto:
    """A graph that ONNX's checker refuses."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    node = helper.make_node(
        fields.get("op", "Conv"), fields.get("inputs", []), ["y"], "n", **fields.get("attributes", {})
    )
    return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]))


@pytest.mark.parametrize(
    "proto",
    [
        broken(), broken(inputs=["x"]), broken(op="Relu", inputs=["y"]), broken(op="Constant"),
        broken(op="Cast", inputs=["x"], attributes={"to": 999}), broken(op="Transpose"),
        broken(op="MaxPool", inputs=["x"], attributes={"kernel_shape": 3}), onnx.ModelProto(),
    ],
)  # fmt: skip
def test_what_onnx_refuses_is_one_finding_and_no_traceback(proto: onnx.ModelProto) -> None:
    found = lint(proto)
    assert {one.level for one in found} == {"error"}, found


def test_weights_in_another_file_do_not_turn_the_rules_off(tmp_path: Path) -> None:
    sketch = Sketch()
    conv(sketch, "x")
    sketch.node("Det", sketch.node("Conv", "x", sketch.weight("w2", (8, 8, 1, 1))))
    onnx.save(sketch.build(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    assert "operator" in [one.rule for one in lint_file(tmp_path / "m.onnx")]


def test_export_refuses_what_lint_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from zoo.exporter.backends.tensorrt import backend as tensorrt

    bad = Sketch()
    antialias(bad)
    monkeypatch.setattr(tensorrt, "lint_errors", lambda _proto, target: lint_errors(bad.build(), target))
    (row,) = export(tiny_model(), "trt", ExportOptions("fp16", build_later=True), out=tmp_path)
    assert isinstance(row.error, GateError)
    assert "antialias is not taken" in str(row.error)
    assert not list(tmp_path.rglob("model.onnx"))


def test_what_is_no_graph_or_no_target(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x00\x01nonsense")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for path in (tmp_path / "x.onnx", tmp_path / "empty.onnx"):
        with pytest.raises(UsageError, match="not an ONNX file"):
            lint_file(path)
    with pytest.raises(UsageError, match="no such file"):
        lint_file(tmp_path)
    sketch = Sketch()
    fp64(sketch)
    with pytest.raises(UsageError, match='did you mean "trt"'):
        lint(sketch.build(), "trtt")
    sketch.nodes[0].input[0] = "nowhere"
    assert "onnx" in [one.rule for one in lint(sketch.build())], "what ONNX itself refuses is a finding too"
    assert set(TARGETS) == {"trt"}
