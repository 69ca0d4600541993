"""What is dangerous in a model file is seen before a runtime opens it."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from zoo.errors import IntegrityError
from zoo.exporter.runtime.safety import refuse_dangerous


def graph_with(tensor: TensorProto, where: str) -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["z"])], "inner", [], [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])], [tensor])  # fmt: skip
    nodes, initialisers, functions = [helper.make_node("Add", ["x", "w"], ["y"])], [], []
    if where == "initializer":
        initialisers = [tensor]
    elif where == "constant":
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    elif where == "branch":
        nodes = [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]
    elif where == "function":
        constant = helper.make_node("Constant", [], ["w"], value=tensor)
        functions = [helper.make_function("own", "F", [], ["w"], [constant], [helper.make_opsetid("", 17)])]
    elif where == "sparse":
        nodes.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=helper.make_sparse_tensor(
            tensor, numpy_helper.from_array(np.arange(4)), [4])))  # fmt: skip
    graph = helper.make_graph(nodes, "g", [x], [y], initialisers)
    return helper.make_model(graph, functions=functions).SerializeToString()


def weights() -> TensorProto:
    return numpy_helper.from_array(np.ones(4, np.float32), "w")


@pytest.mark.parametrize("where", ["initializer", "constant", "branch", "sparse"])
@pytest.mark.parametrize("place", ["../../etc/passwd", "/etc/passwd", "weights.bin"])
def test_tensors_in_other_files_are_found_wherever_they_hide(where: str, place: str) -> None:
    refuse_dangerous("m.onnx", graph_with(weights(), where))
    outside = weights()
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", place
    with pytest.raises(IntegrityError, match="keeps tensors in other files"):
        refuse_dangerous("m.onnx", graph_with(outside, where))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_refused_under_any_name(protocol: int) -> None:
    content = pickle.dumps({"a": [1, 2]}, protocol=protocol)
    with pytest.raises(IntegrityError, match="is a pickle"):
        refuse_dangerous("notes/readme.md", content)
    for name in ("a.pkl", "a.PTH", "a.joblib", "a.npy"):
        with pytest.raises(IntegrityError, match="is a pickle"):
            refuse_dangerous(name, b"anything")


def test_torch_save_is_no_torchscript(tmp_path) -> None:
    torch.save({"w": torch.ones(2)}, saved := io.BytesIO())
    with pytest.raises(IntegrityError, match="pickle of torch.save"):
        refuse_dangerous("model.pt", saved.getvalue())
    with pytest.raises(IntegrityError, match="no TorchScript archive"):
        refuse_dangerous("model.pt", b"PK no zip")
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("m/code/a.py", "")
        archive.writestr("m/constants.pkl", "")
    refuse_dangerous("model.pt", (tmp_path / "z").read_bytes())


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_arbitrary_bytes_end_in_words(content: bytes) -> None:
    for name in ("m.onnx", "m.pt", "x"):
        try:
            refuse_dangerous(name, content)
        except IntegrityError as error:
            assert len(str(error).splitlines()) == 1, "a line, and nothing else is raised"


def test_a_graph_in_a_graph_without_end_is_refused() -> None:
    def inside(field: int, content: bytes) -> bytes:
        length, out = len(content), b""
        while length > 127:
            out += bytes([length & 127 | 128])
            length >>= 7
        return bytes([field << 3 | 2]) + out + bytes([length]) + content

    message = b""
    for _ in range(60):  # attribute's graph, its node, its attribute
        message = inside(1, inside(4, b"If") + inside(5, inside(6, message)))
    with pytest.raises(IntegrityError, match="nested more than"):
        refuse_dangerous("m.onnx", inside(7, message))


@pytest.mark.parametrize("field", [1 << 29, 7 | 1 << 29, 99])
def test_a_field_that_another_reader_sees_otherwise_is_refused(field: int) -> None:
    """Protobuf in C++ keeps 32 bits of a tag: field 7 with a bit above them is field 7 there, and unknown here."""
    key, tag = field << 3 | 2, b""
    while key > 127:
        tag, key = tag + bytes([key & 127 | 128]), key >> 7
    content = graph_with(weights(), "initializer") + tag + bytes([key, 0])
    with pytest.raises(IntegrityError, match="corrupt|does not know"):
        refuse_dangerous("m.onnx", content)


def test_every_location_but_inside_is_outside() -> None:
    tensor = weights().SerializeToString() + bytes([14 << 3, 0x81, 0x80, 0x80, 0x80, 0x10])  # 1 in 32 bits
    content = graph_with(weights(), "initializer")
    graph = bytes([5 << 3 | 2, len(tensor)]) + tensor
    with pytest.raises(IntegrityError, match="keeps tensors in other files"):
        refuse_dangerous("m.onnx", content + bytes([7 << 3 | 2, len(graph)]) + graph)
