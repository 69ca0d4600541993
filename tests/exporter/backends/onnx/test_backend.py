"""The graph that is exported is the graph that was asked for; planted faults are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from zoo.errors import UnavailableError, UsageError
from zoo.exporter.artifact.folder import load_artifact
from zoo.exporter.backends.graph.graph import verify_graph
from zoo.exporter.backends.graph.layers import count_layers
from zoo.exporter.backends.onnx import backend
from zoo.exporter.backends.onnx import runner as runner_module


@pytest.fixture(scope="module")
def proto(exported_folders: dict[str, Path]) -> onnx.ModelProto:
    return onnx.load(exported_folders["onnx"] / "model.onnx")


@pytest.fixture
def spec(exported_folders):
    return load_artifact(exported_folders["onnx"]).manifest.spec


def test_the_exported_graph_holds_what_was_asked(proto, spec, exported_folders) -> None:
    verify_graph(proto, spec, "fp32", {20})
    assert count_layers(proto) == {"fp32": 21}
    assert sorted(path.name for path in exported_folders["onnx"].iterdir()) == [
        "artifact.json", "golden", "model.onnx", "weights.safetensors",
    ]  # fmt: skip


def freeze_batch(proto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def rename_input(proto) -> None:
    proto.graph.input[0].name = "x"


def break_edge(proto) -> None:
    proto.graph.node[3].input[0] = "nowhere"


def older_opset(proto) -> None:
    proto.opset_import[0].version = 19


def one_layer_in_half(proto) -> None:
    """A weight stored in fp16 and cast up: the graph would call itself fp32."""
    name = next(node.input[1] for node in proto.graph.node if node.op_type == "Gemm")
    index = next(i for i, one in enumerate(proto.graph.initializer) if one.name == name)
    array = onnx.numpy_helper.to_array(proto.graph.initializer[index])
    half = onnx.numpy_helper.from_array(array.astype(np.float16), name + "_half")
    del proto.graph.initializer[index]
    proto.graph.initializer.append(half)
    proto.graph.node.insert(0, onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (freeze_batch, "batch of `images` is fixed to 1|not valid"),
        (rename_input, "not valid|expected one `images`"),
        (break_edge, "not valid ONNX"),
        (older_opset, "opset is 19|not valid"),
    ],
)
def test_planted_faults_are_found(proto, spec, fault, words: str) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(proto)
    fault(broken)
    with pytest.raises(UsageError, match=words):
        verify_graph(broken, spec, "fp32", {20})


def test_a_graph_that_calls_itself_fp16(proto, spec) -> None:
    with pytest.raises(UsageError, match="not all fp16"):
        verify_graph(proto, spec, "fp16", {20})
    mixed = onnx.ModelProto()
    mixed.CopyFrom(proto)
    one_layer_in_half(mixed)
    assert count_layers(mixed) == {"fp32": 21}, "a cast weight counts as what it is cast to"


def test_falling_back_to_another_provider_is_an_error(exported_folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime silently takes the CPU when CUDA cannot be loaded."""
    monkeypatch.setattr(backend, "_has_nvidia_gpu", lambda: True)
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built without CUDA")
    with pytest.raises(UnavailableError, match="fell back to CPUExecutionProvider"):
        backend.Onnx().load(exported_folders["onnx"], "cuda").__enter__()


def test_cuda_needs_a_gpu(exported_folders) -> None:
    if backend._has_nvidia_gpu():
        pytest.skip("this machine has one")
    with pytest.raises(UnavailableError, match="no device cuda"):
        backend.Onnx().load(exported_folders["onnx"], "cuda")


@pytest.mark.parametrize(("asked", "limit", "expected"), [(None, 3, 3), (None, None, 0), (1, 3, 1), (5, 3, 5)])
def test_a_session_is_held_to_the_containers_quota(
    exported_folders, monkeypatch: pytest.MonkeyPatch, asked: int | None, limit: int | None, expected: int
) -> None:
    """What a person asks for stays; 0 is what ONNX Runtime counts by itself."""
    monkeypatch.setattr(runner_module, "limited_cpus", lambda: limit)
    artifact = load_artifact(exported_folders["onnx"])
    runner = backend.OrtRunner("x", artifact.manifest.spec, artifact.model_path, "cpu")
    runner.threads = asked
    assert runner._make_session().get_session_options().intra_op_num_threads == expected
