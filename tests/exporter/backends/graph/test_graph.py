"""Precision, MACs and the plan are read from the graph; a user's graph is held to the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import tiny_model
from onnx import TensorProto, helper, numpy_helper
from zoo.errors import GateError, UsageError
from zoo.exporter.artifact.folder import load_artifact
from zoo.exporter.artifact.golden import make_golden
from zoo.exporter.artifact.manifest import Batch, Layer
from zoo.exporter.backends.graph.graph import INPUT, OUTPUT, export_graph, read_graph
from zoo.exporter.backends.graph.layers import OWN_CODE, count_layers, list_layers, share_of, wrong_precision
from zoo.exporter.backends.graph.retype import to_bfloat16, widened
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.backends.runner import split
from zoo.exporter.export import export
from zoo.models.fresh import new_model
from zoo.models.preprocess import prepare
from zoo.models.sources import SourceOptions
from zoo.models.spec import ModelSpec, imagenet_preprocess, numbered_labels

BATCH = Batch(1, 4, 8)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def graphs(model) -> dict[str, onnx.ModelProto]:
    return {name: export_graph(model.module, model.spec, name, BATCH) for name in ("fp32", "fp16", "bf16")}


def ranges_of(proto: onnx.ModelProto, batch: np.ndarray) -> dict[str, float]:
    """The largest magnitude of every tensor that a compute node reads, on a batch."""
    import onnxruntime

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    constants = {one.name for one in made.graph.initializer}
    names = {node.input[0] for node in made.graph.node if node.op_type in ("Conv", "Gemm")} - constants
    for name in names:
        made.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(sorted(names), {INPUT: batch})
    return {name: float(np.abs(value).max()) for name, value in zip(sorted(names), found)}


def quantised(proto: onnx.ModelProto, skip: int = 0, ranges: dict[str, float] | None = None) -> onnx.ModelProto:
    """Q/DQ on both operands of every compute node but the first `skip`, symmetric int8, in the graph's float type."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    weights = {one.name: one for one in graph.initializer}
    half = any(one.data_type == TensorProto.FLOAT16 for one in graph.initializer)
    kind = np.float16 if half else np.float32
    added: list[onnx.NodeProto] = []
    compute = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    for node in compute[skip:]:
        for index in (0, 1):
            name, stem = node.input[index], f"{node.name}_{index}"
            values = numpy_helper.to_array(weights[name]) if name in weights else None
            largest = (ranges or {}).get(name, 6.0) if values is None else np.abs(values).max()
            scale = np.asarray(largest / 127, kind)
            graph.initializer.append(numpy_helper.from_array(scale, f"{stem}_scale"))
            graph.initializer.append(numpy_helper.from_array(np.int8(0), f"{stem}_zero"))
            tail = [f"{stem}_scale", f"{stem}_zero"]
            added.append(helper.make_node("QuantizeLinear", [name, *tail], [f"{stem}_q"], f"{stem}_Q"))
            added.append(helper.make_node("DequantizeLinear", [f"{stem}_q", *tail], [f"{stem}_dq"], f"{stem}_DQ"))
            node.input[index] = f"{stem}_dq"
    nodes = list(graph.node)
    del graph.node[:]
    ready = {graph.input[0].name, *weights, *(one.name for one in graph.initializer), ""}
    waiting = [*added, *nodes]
    while waiting:  # in an order in which every input is made before it is read
        node = next(one for one in waiting if set(one.input) <= ready)
        waiting.remove(node)
        graph.node.append(node)
        ready |= set(node.output)
    return made


def test_macs_are_those_of_the_paper() -> None:
    """ResNet-18 at 224: 1.814 GMACs (He et al. 2016 say 1.8), all of it in 21 layers."""
    spec = ModelSpec("resnet18", (3, 224, 224), imagenet_preprocess(), numbered_labels(1000))
    module = new_model("resnet18", spec, SourceOptions()).module
    layers = list_layers(export_graph(module, spec, "fp32", BATCH))
    assert len(layers) == 21
    assert sum(layer.macs for layer in layers) == 1_814_073_344
    assert {layer.op for layer in layers} == {"Conv", "Gemm"}


def test_macs_of_depthwise_convolutions_agree_with_torchs_own_count() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny_model("mobilenet_v2")
    with FlopCounterMode(display=False) as counter:
        model.module(torch.zeros(1, 3, 32, 32))
    layers = list_layers(export_graph(model.module, model.spec, "fp32", BATCH))
    assert 2 * sum(layer.macs for layer in layers) == counter.get_total_flops()


def test_precision_is_read_from_the_operands(graphs) -> None:
    for name, proto in graphs.items():
        assert count_layers(proto) == {name: 21}
    assert count_layers(quantised(graphs["fp16"])) == {"int8": 21}
    mixed = quantised(graphs["fp16"], skip=1)
    assert count_layers(mixed) == {"int8": 20, "fp16": 1}
    weights_only = quantised(graphs["fp32"])
    for node in weights_only.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            node.input[0] = node.input[0].removesuffix("_dq") + "_q"
    assert "int8" not in count_layers(weights_only), "a layer with a float input computes in float"


def test_integer_operators_of_a_runtime_count_as_int8() -> None:
    node = helper.make_node("QLinearConv", list("abcdefgh"), ["y"], "one")
    proto = helper.make_model(helper.make_graph([node], "g", [], []))
    assert list_layers(proto) == (Layer("one", "QLinearConv", "int8"),)


def test_shares_and_their_limits() -> None:
    layers = [Layer("a", "Conv", "int8", 60), Layer("b", "Conv", "fp16", 40)]
    assert share_of(layers, "int8") == 0.6
    assert wrong_precision(layers, "int8", "fp16") == []
    assert "not int8 with fp32" in wrong_precision(layers, "int8", "fp32")[0]
    fewer = [Layer("a", "Conv", "int8", 40), Layer("b", "Conv", "fp16", 60)]
    assert "40% of its MACs" in wrong_precision(fewer, "int8", "fp16")[0]
    assert "not all fp16" in wrong_precision(layers, "fp16", "fp16")[0]
    assert share_of([], "int8") == 0


class Mixed(torch.nn.Module):
    """A network that multiplies in float32 whatever it is in, as attention often does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = torch.nn.Conv2d(3, 8, 8, 8), torch.nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2)
        weigh = (x.float() @ x.float().transpose(1, 2)).softmax(-1).to(x.dtype)
        return self.last((weigh @ x).mean(-1))


def test_layers_that_the_models_own_code_computes_in_float32_are_planned_and_said(model, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = export(replace(model, module=Mixed().eval()), "onnx", ExportOptions("fp16"), out=tmp_path)
    assert rows[0].error is None
    manifest = load_artifact(rows[0].folder).manifest
    assert [one.precision for one in manifest.plan if one.reason == OWN_CODE] == ["fp32"]
    assert any(OWN_CODE in note for note in manifest.notes)
    one = Layer("a", "Conv", "fp32", 60)
    assert wrong_precision([one, Layer("b", "Conv", "fp16", 40)], "fp16", "fp16", {"a"}), "most of it is not in fp16"
    assert wrong_precision([one, Layer("b", "Conv", "fp16", 70)], "fp16", "fp16", {"b"}), "nobody asked for that"


def test_a_users_graph_is_verified_and_gets_our_names(graphs, model, tmp_path: Path) -> None:
    path = tmp_path / "theirs.onnx"
    theirs = quantised(graphs["fp16"], skip=1)
    for node in theirs.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = {INPUT: "x", OUTPUT: "y"}.get(name, name)
    theirs.graph.input[0].name, theirs.graph.output[0].name = "x", "y"
    onnx.save(theirs, path)
    mine = read_graph(path, model.spec, "int8", rest="fp16")
    assert [one.name for one in (*mine.graph.input, *mine.graph.output)] == [INPUT, OUTPUT]
    for precision, rest, words in (("int8", "fp32", "not int8 with fp32"), ("fp16", "fp16", "not all fp16")):
        with pytest.raises(UsageError, match=words):
            read_graph(path, model.spec, precision, rest)
    other = ModelSpec("other", (3, 64, 64), imagenet_preprocess(64), model.spec.labels)
    with pytest.raises(UsageError, match="`images` has shape"):
        read_graph(path, other, "int8", "fp16")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(UsageError, match="not an ONNX file|not valid ONNX"):
        read_graph(tmp_path / "text.onnx", model.spec, "int8", "fp16")
    with pytest.raises(UsageError, match="no such file"):
        read_graph(tmp_path / "nowhere.onnx", model.spec, "int8", "fp16")


def test_int8_by_a_given_graph_goes_to_trt(graphs, model, tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    golden = make_golden(model, None)
    ranges = ranges_of(graphs["fp16"], prepare(list(golden.images), model.spec.preprocess))
    onnx.save(quantised(graphs["fp16"], 1, ranges), path)
    options = ExportOptions("int8", build_later=True, graph=path)
    (row,) = export(model, "trt", options, out=tmp_path / "exports")
    assert row.error is None, row.error
    assert {layer.precision for layer in load_artifact(row.folder).manifest.plan} == {"int8", "fp16"}
    onnx.save(quantised(graphs["fp16"], 1, dict.fromkeys(ranges, 0.1)), path)
    (row,) = export(model, "trt", options, out=tmp_path / "elsewhere")
    assert isinstance(row.error, GateError), "ranges that are far too small"
    kept = {path.parent.name for path in (tmp_path / "elsewhere").rglob("*.onnx")}
    assert kept == {".trt-int8.failed"}, "nothing but what was refused, aside"
    for backend, wrong, words in (
        ("trt", ExportOptions("int8", build_later=True), "give --data, or --graph"),
        ("torchscript", ExportOptions(graph=path), "does not export an ONNX graph"),
    ):
        (row,) = export(model, backend, wrong, out=tmp_path / "exports")
        assert isinstance(row.error, UsageError)
        assert words in str(row.error)


def test_bfloat16_is_the_folded_graph_in_another_type(graphs) -> None:
    kinds = {one.data_type for one in graphs["bf16"].graph.initializer}
    assert TensorProto.FLOAT not in kinds
    assert [node.op_type for node in graphs["bf16"].graph.node if node.op_type != "Cast"] == [
        node.op_type for node in graphs["fp32"].graph.node
    ]
    import onnxruntime

    batch = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)

    def run(proto: onnx.ModelProto) -> np.ndarray:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {INPUT: batch})[0])

    exact, rounded = run(graphs["fp32"]), run(widened(graphs["bf16"]))
    error = np.abs(exact - rounded).max() / np.ptp(exact)
    assert 1e-5 < error < 0.05, "rounded to 8 bits, and nothing else"


def test_scales_of_a_resize_stay_float() -> None:
    nodes = [helper.make_node("Resize", ["x", "", "scales"], ["y"], "resize", mode="nearest")]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")],
    )  # fmt: skip
    made = to_bfloat16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)]))
    assert made.graph.initializer[0].data_type == TensorProto.FLOAT
    onnx.checker.check_model(made, full_check=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1:8:32", Batch(1, 8, 32)), ("32", Batch(1, 8, 32)), ("4", Batch(1, 4, 4)), ("1", Batch(1, 1, 1))],
)
def test_batches_are_parsed(text: str, expected: Batch) -> None:
    assert Batch.parse(text) == expected


@pytest.mark.parametrize("text", ["", "0", "a", "1:2", "8:1:32", "1:64:32", "-1", "1:8:999999999", "1:8:32:64", "²"])
def test_wrong_batches_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="batch"):
        Batch.parse(text)


@pytest.mark.parametrize(("count", "sizes", "parts"), [
    (5, None, [5]), (5, Batch(1, 2, 8), [5]), (5, Batch(1, 2, 2), [2, 2, 1]), (5, Batch(4, 4, 4), [4, 4]),
    (1, Batch(3, 3, 8), [3]), (8, Batch(4, 4, 8), [8]),
])  # fmt: skip
def test_a_batch_is_split_and_filled_up(count: int, sizes: Batch | None, parts: list[int]) -> None:
    batch = np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1)
    made = split(batch, sizes)
    assert [len(part) for part in made] == parts
    joined = np.concatenate(made)
    assert np.array_equal(joined[:count], batch)
    assert (joined[count:] == batch[-1]).all()


def in_a_function(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The whole graph as the body of one local function."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    constants = [helper.make_node("Constant", [], [one.name], value=one) for one in made.graph.initializer]
    body = helper.make_function(
        "hidden", "Everything", [INPUT], [OUTPUT], [*constants, *made.graph.node], list(made.opset_import)
    )
    del made.graph.node[:]
    del made.graph.initializer[:]
    del made.graph.value_info[:]
    made.graph.node.append(helper.make_node("Everything", [INPUT], [OUTPUT], "call", domain="hidden"))
    made.functions.append(body)
    made.opset_import.append(helper.make_opsetid("hidden", 1))
    return made


def test_what_hides_in_a_function_is_seen(graphs) -> None:
    assert count_layers(in_a_function(graphs["fp32"])) == {"fp32": 21}
    assert wrong_precision(list_layers(in_a_function(graphs["fp32"])), "fp16", "fp16")


def test_what_hides_in_control_flow_is_unknown() -> None:
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["z"], "hidden")], "body", [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", "m"])],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], "branch", then_branch=body, else_branch=body)
    proto = helper.make_model(helper.make_graph([node], "g", [], []))
    assert [layer.precision for layer in list_layers(proto)] == ["unknown", "unknown"]


def test_a_graph_without_compute_layers_is_no_model() -> None:
    assert wrong_precision([], "fp16", "fp16") == ["it holds no convolution and no matrix product"]


def test_sixteen_bit_integers_are_not_int8(graphs) -> None:
    made = quantised(graphs["fp32"])
    for one in made.graph.initializer:
        if one.name.endswith("_zero"):
            one.CopyFrom(numpy_helper.from_array(np.int16(0), one.name))
    made.opset_import[0].version = 21
    assert "int8" not in count_layers(made)


def test_macs_where_the_first_dimension_is_not_the_batch() -> None:
    """4,096 rows for one image, by a Reshape: 4096 x 16 x 16 multiply-accumulates."""
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["rows"], "reshape"),
        helper.make_node("Gemm", ["rows", "w"], ["y"], "gemm", transB=1),
    ]
    constants = [
        numpy_helper.from_array(np.array([-1, 16], np.int64), "shape"),
        numpy_helper.from_array(np.zeros((16, 16), np.float32), "w"),
    ]
    ends = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 16, 64, 64]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    proto = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], constants))
    assert list_layers(proto) == (Layer("gemm", "Gemm", "fp32", 4096 * 16 * 16),)


def test_attention_has_a_precision_too() -> None:
    import torch

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = torch.nn.Conv2d(3, 8, 8, 8), torch.nn.Linear(8, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = self.embed(images).flatten(2).transpose(1, 2)
            weights = (tokens @ tokens.transpose(1, 2)).softmax(-1)
            return self.head((weights @ tokens).mean(1))

    spec = ModelSpec("attention", (3, 32, 32), imagenet_preprocess(32), numbered_labels(10))
    for precision in ("fp32", "fp16"):
        layers = list_layers(export_graph(Attention().eval(), spec, precision, BATCH))
        assert {layer.precision for layer in layers} == {precision}
        assert len(layers) == 4
        assert all(layer.macs for layer in layers)


def test_a_users_graph_may_use_our_names_inside(graphs, model, tmp_path: Path) -> None:
    theirs = onnx.ModelProto()
    theirs.CopyFrom(graphs["fp16"])
    first = theirs.graph.node[3].output[0]
    for node in theirs.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = {OUTPUT: "answer", first: OUTPUT}.get(name, name)
        node.name = ""
    theirs.graph.output[0].name = "answer"
    del theirs.graph.value_info[:]
    onnx.save(theirs, tmp_path / "theirs.onnx")
    made = read_graph(tmp_path / "theirs.onnx", model.spec, "fp16", "fp16")
    assert made.graph.output[0].name == OUTPUT
    assert len({node.name for node in made.graph.node}) == len(made.graph.node)


class _OnValue(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.conv(x).mean((2, 3))
        return y * 2 if y.mean() > 0 else y


class _Raising(_OnValue):
    def forward(self, x):
        if torch.compiler.is_exporting():
            raise KeyError("no\nexport")
        return self.conv(x).mean((2, 3))


@pytest.mark.parametrize("kind", [_OnValue, _Raising])
def test_what_torch_export_cannot_follow_is_one_line_with_the_place(kind, capfd) -> None:
    spec = ModelSpec("m", (3, 16, 16), imagenet_preprocess(16), numbered_labels(4))
    with pytest.raises(UsageError, match=r"m cannot be exported to ONNX: .*test_graph.py, line \d+") as raised:
        export_graph(kind().eval(), spec, "fp32", BATCH)
    assert "\n" not in str(raised.value)
    assert "torch.where" in raised.value.fix
    assert capfd.readouterr() == ("", "")
