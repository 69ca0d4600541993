"""What a TorchScript archive or an ONNX graph of a package names is read, and nothing of it is run."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from hostile_packages import scripted as archive
from onnx import TensorProto, helper
from torch import nn
from zoo.errors import IntegrityError
from zoo.exporter.runtime.operators import ATEN, ONNX
from zoo.exporter.runtime.programs import acts, refuse_acting
from zoo.exporter.runtime.safety import refuse_dangerous
from zoo.models.registry import create_model


class Saves(nn.Module):
    def forward(self, x):
        torch.save(x, "written-by-a-model")
        return x


class SavesWhileLoading(nn.Module):
    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):  # pyright: ignore[reportIncompatibleMethodOverride] - TorchScript's own kind
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        torch.save(torch.zeros(1), "written-by-a-model")


class HidesBehindAMethod(nn.Module):
    """A tensor's method is an operator, also where the module has a harmless method of that name."""

    def save(self, x):
        return x

    def forward(self, x):
        return self.save(x)


class ReadsFiles(nn.Module):
    def forward(self, x):
        return torch.from_file("secret", False, 4) + x


class Prints(nn.Module):
    def forward(self, x):
        print(x)
        return x


class Warns(nn.Module):
    def forward(self, x):
        warnings.warn("hello", stacklevel=2)
        return x


class Seeds(nn.Module):
    def forward(self, x):
        torch.manual_seed(1)
        return x


class Computes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        y = x
        for _ in range(2):
            y = torch.relu(self.layer(y))
        if y.sum() > 0:
            y = nn.functional.gelu(y, approximate="tanh")
        return torch.cat([y, x], 1).view(-1, 8)[:, :4]


def rewritten(change: Callable[[str], str]) -> bytes:
    """An archive whose code another wrote."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive(Computes()))) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content.decode()).encode() if name.endswith(".py") else content)
    return made.getvalue()


@pytest.mark.parametrize(
    ("module", "named"),
    [(Saves, "save"), (HidesBehindAMethod, "save"),
      (SavesWhileLoading, "save"), (ReadsFiles, "from_file"), (Prints, "print"), (Warns, "warn"),
     (Seeds, "manual_seed|ops")],
)  # fmt: skip
def test_what_acts_is_refused(module: type[nn.Module], named: str) -> None:
    with pytest.raises(IntegrityError, match=named):
        refuse_acting("model.pt", archive(module()))


def test_what_computes_is_not() -> None:
    assert acts("model.pt", archive(Computes())) == []


@pytest.mark.parametrize(
    "line",
    [
        "import os", "ops.aten.save(x, 'here')", "ops.mine.act(x)", "y = torch.save", "eval('1')", "x.tofile('here')",
        "__torch__.torch.classes.dist_c10d.Store()", "y = (lambda: 1)()", "exec('1')", "getattr(x, 'a')(1)",

        "x.save('here')", "(x).save('here')", "self.layer.weight.save('here')",
        "ops.aten.set_(x, x)", "torch.ops.load_library('x.so')", "open('a')", "ops.image.read_file('a')",
    ],
)  # fmt: skip
def test_lines_that_another_wrote(line: str) -> None:
    made = rewritten(lambda text: text.replace("    return ", f"    {line}\n    return ", 1))
    with pytest.raises(IntegrityError):
        refuse_acting("model.pt", made)


@pytest.mark.parametrize(
    "line",
    ["o = torch; sum = o.save; sum(x, 'here')", "sum = x; sum(x)", "o = torch", "o = ops", "torch = x",
     "getattr = x; getattr(x, 'a')"],
)  # fmt: skip
def test_names_that_mean_something_else_there(line: str) -> None:
    made = rewritten(lambda text: text.replace("    return ", f"    {line}\n    return ", 1))
    with pytest.raises(IntegrityError, match="names"):
        refuse_acting("model.pt", made)


def again(change: Callable[[zipfile.ZipFile, zipfile.ZipFile], None]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive(Computes()))) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        change(old, new)
    return made.getvalue()


def _code(old: zipfile.ZipFile) -> str:
    return next(name for name in old.namelist() if name.endswith(".py"))


@pytest.mark.parametrize(
    "made",
    [
        lambda: again(lambda old, new: new.writestr(_code(old).replace(".py", ".PY"), "x")),
        lambda: again(lambda old, new: new.writestr(f"{_code(old).partition('/')[0]}/code/evil.pyc", "x")),
        lambda: again(lambda _old, new: new.writestr("other/code/__torch__.py", "x")),
        lambda: b"before" + archive(Computes()),
        lambda: archive(Computes()) + b"behind",
        lambda: archive(Computes()) + archive(Computes()),
        lambda: again(lambda old, new: new.writestr(zipfile.ZipInfo("a/code/b.py"), "x", zipfile.ZIP_BZIP2)),
    ],
)
def test_archives_that_can_be_read_in_two_ways(made: Callable[[], bytes]) -> None:
    with pytest.raises(IntegrityError, match="read in two ways|no TorchScript archive"):
        refuse_acting("model.pt", made())


def test_code_that_is_nested_too_deeply() -> None:
    made = rewritten(lambda text: text.replace("    return ", f"    ({'-' * 1200}x)(x)\n    return ", 1))
    with pytest.raises(IntegrityError, match="nested too deeply|cannot be read"):
        refuse_acting("model.pt", made)


def test_code_that_cannot_be_read() -> None:
    for text in ("def f(:", "(" * 5000, "\0"):
        with pytest.raises(IntegrityError, match="cannot be read"):
            refuse_acting("model.pt", rewritten(lambda _text, text=text: text))
    with pytest.raises(IntegrityError, match="no TorchScript archive"):
        refuse_acting("model.pt", b"nothing")


def test_our_own_exports_only_compute(exported_folders: dict[str, Path]) -> None:
    assert acts("model.pt", (exported_folders["torchscript"] / "model.pt").read_bytes()) == []


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11_bn", "googlenet", "resnet18", "mobilenet_v3_small", "efficientnet_b0"]
)
def test_no_family_names_anything_else(name: str) -> None:
    made = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = create_model(name, num_classes=3).eval()
        traced = torch.jit.trace(module, torch.zeros(1, 3, 64, 64), check_trace=False)
        torch.jit.save(torch.jit.freeze(traced), made)
    assert acts("model.pt", made.getvalue()) == []


def test_no_listed_operator_takes_a_file() -> None:
    """As torch's schemas say."""
    for schema in torch._C._jit_get_all_schemas():
        space, _, name = schema.name.partition("::")
        if space == "aten" and name in ATEN:
            texts = [one.name for one in schema.arguments if "str" in str(one.type)]
            assert not [one for one in texts if "file" in one or "path" in one], schema
    assert not ATEN & {"save", "from_file", "warn", "set_", "set_data", "manual_seed", "as_strided", "data_ptr", "load"}


def graph(op: str, domain: str = "", **attributes: object) -> bytes:
    node = helper.make_node(op, ["images"], ["logits"], domain=domain, **attributes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("images", "logits")]
    made = helper.make_graph([node], "g", ends[:1], ends[1:])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


def test_graphs_are_read_by_what_they_are() -> None:
    body = helper.make_graph([], "body", [], [])
    for content, words in (
        (graph("Loop", body=body), "Loop, which may run without end"),
        (graph("Scan", body=body, num_scan_inputs=1), "Scan, which may run without end"),
        (graph("Mine", "my.domain"), r"operators of 'my.domain'"),
    ):
        for name, backend in (("model.onnx", ""), ("model.dat", "onnx")):
            with pytest.raises(IntegrityError, match=words):
                refuse_dangerous(name, content, backend)
    refuse_dangerous("model.dat", graph("Relu"), "onnx")
    outside = onnx.load_from_string(graph("Relu"))
    tensor = outside.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(IntegrityError, match="keeps tensors in other files"):
        refuse_dangerous("model.dat", outside.SerializeToString(), "onnx")


def test_a_graph_within_a_graph_is_read_too() -> None:
    inner = helper.make_node("Loop", [], [], body=helper.make_graph([], "body", [], []))
    branch = helper.make_graph([inner], "then", [], [])
    with pytest.raises(IntegrityError, match="Loop"):
        refuse_dangerous("model.onnx", graph("If", then_branch=branch, else_branch=branch))


def test_the_standard_is_known() -> None:
    standard = {one.name for one in onnx.defs.get_all_schemas_with_history() if one.domain == ""}
    assert standard - ONNX <= {"Loop", "Scan", "SequenceMap"}, "an operator of a later onnx: does it only compute?"


@pytest.mark.parametrize(
    ("op", "domain"), [("BeamSearch", "com.microsoft"), ("EPContext", "com.microsoft"), ("Relu", "com.microsoft"),
                       ("Unheard", ""), ("LabelEncoder", "ai.onnx.ml")],
)  # fmt: skip
def test_operators_that_nobody_listed(op: str, domain: str) -> None:
    with pytest.raises(IntegrityError, match="not known only to compute|nobody knows"):
        refuse_dangerous("model.onnx", graph(op, domain))


def test_an_operator_named_twice_is_each_of_them() -> None:
    """Protobuf takes the last of a field that is there twice; a reader that takes the first sees another operator."""
    model = onnx.load_from_string(graph("Relu"))
    node = model.graph.node[0].SerializeToString()
    twice = node + bytes([4 << 3 | 2, 4]) + b"Loop"
    body = bytes([1 << 3 | 2, len(twice)]) + twice
    content = model.SerializeToString() + bytes([7 << 3 | 2, len(body)]) + body
    assert onnx.load_from_string(content).graph.node[-1].op_type == "Loop"
    with pytest.raises(IntegrityError, match="Loop"):
        refuse_dangerous("model.onnx", content)


def test_functions_of_a_model_are_refused() -> None:
    model = onnx.load_from_string(graph("Relu"))
    model.functions.add(name="Relu", domain="")
    with pytest.raises(IntegrityError, match="functions of its own"):
        refuse_dangerous("model.onnx", model.SerializeToString())
