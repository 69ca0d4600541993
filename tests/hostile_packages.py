"""Packages that act, hang or take everything when they are opened: consistent in every record, with right hashes.

Each is an honest package whose model, samples or code a stranger replaced, and who then told the same story in every
other file, as `zoo package` does, but for the last look that refuses such a package.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from zoo.exporter.checks.gate import Gate
from zoo.exporter.package import pack as bundle
from zoo.exporter.package.writer import measured, write
from zoo.exporter.runtime.container import Package
from zoo.exporter.runtime.verify import Verified

MARK = "written-by-a-model"  # in the folder where it runs
CLASSES = 10
FEATURES = 3 * 32 * 32


class _Saves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "written-by-a-model")
        return x.flatten(1)[:, :10]


class _SavesWhileLoading(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :10]

    @torch.jit.export
    def __getstate__(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] - TorchScript's own kind
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        torch.save(torch.zeros(1), "written-by-a-model")


class _SavesByAMethod(nn.Module):
    def save(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.save(x).flatten(1)[:, :10]


class _ReadsAFile(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :10] + torch.from_file("/etc/hostname", False, 1)


class _Prints(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("\x1b]0;owned\x07", x)
        return x.flatten(1)[:, :10]


class _Warns(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        warnings.warn("hello", stacklevel=2)
        return x.flatten(1)[:, :10]


class _Seeds(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return x.flatten(1)[:, :10]


class _NeverEnds(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.flatten(1)[:, :10]
        while bool(y.sum() > -1e30):
            y = torch.relu(y)
        return y


class _NeverEndsWhileLoading(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :10]

    @torch.jit.export
    def __getstate__(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] - TorchScript's own kind
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        y = torch.ones(1)
        while bool(y.sum() > -1e30):
            y = torch.relu(y)


class _Counts(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.flatten(1)[:, :10]
        for _ in range(1 << 60):
            y = y + 1
        return y


class _TakesAllMemory(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.ones(1 << 40)
        return x.flatten(1)[:, :10] + y[0]


class _GathersMemory(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        held: list[torch.Tensor] = []
        for _ in range(1 << 30):
            held.append(torch.ones(1 << 22))
        return x.flatten(1)[:, :10] + held[0][0]


class _IsHeavy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.ones(6000, 6000)
        for _ in range(100000):
            y = torch.matmul(y, y)
        return x.flatten(1)[:, :10] + y[0, 0]


def scripted(module: nn.Module) -> bytes:
    """An archive of it."""
    made = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), made)
    return made.getvalue()


class _Plain(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :10]


def rewritten(change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A plain program's archive, its members changed."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(scripted(_Plain()))) as old,
        zipfile.ZipFile(made, "w", compression) as new,
    ):
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return made.getvalue()


def _line(text: str) -> bytes:
    """A plain program with a line that no compiler wrote."""
    return rewritten(
        lambda name, content: content.replace(b"    return ", f"    {text}\n    return ".encode(), 1)
        if name.endswith(".py") else content
    )  # fmt: skip


def _calls_itself() -> bytes:
    return rewritten(
        lambda name, content: content.replace(b"    return ", b"    return (self).forward(x, )\n    return ", 1)
        if name.endswith(".py") else content
    )  # fmt: skip


PICKLE = b"cos\nsystem\n(S'touch written-by-a-model'\ntR."


def graph(*nodes: Any, tensors: Any = (), opset: int = 20, **model: Any) -> bytes:
    """A model of these nodes, from `input` or none to `logits`."""
    ends = (
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
    )
    made = helper.make_graph(list(nodes), "g", *ends, initializer=list(tensors))
    found = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **model)
    return found.SerializeToString()


def _tensor(name: str, value: Any, kind: type = np.float32) -> Any:
    return numpy_helper.from_array(np.asarray(value, kind), name)


def _answer(*more: Any) -> list[Any]:
    """Nodes that give logits of the right shape, plus `extra`, one number."""
    return [
        *more,
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Slice", ["flat", "zero", "ten", "one"], ["cut"]),
        helper.make_node("Add", ["cut", "extra"], ["logits"]),
    ]


_ENDS = [_tensor("zero", [0], np.int64), _tensor("ten", [CLASSES], np.int64), _tensor("one", [1], np.int64)]


def _with(*nodes: Any, tensors: Any = (), **more: Any) -> bytes:
    return graph(*_answer(*nodes), tensors=[*_ENDS, *tensors], **more)


def _reduced(*nodes: Any, tensors: Any = ()) -> bytes:
    """Nodes that make `huge`, of which the mean is added."""
    mean = helper.make_node("ReduceMean", ["huge"], ["extra"], keepdims=0)
    return _with(*nodes, mean, tensors=tensors)


def _loop() -> bytes:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["more"]), helper.make_node("Identity", ["held"], ["next"])], "body",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("held", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("more", TensorProto.BOOL, []),
         helper.make_tensor_value_info("next", TensorProto.FLOAT, [])],
    )  # fmt: skip
    return _with(
        helper.make_node("Loop", ["turns", "yes", "start"], ["extra"], body=body),
        tensors=[_tensor("turns", 1 << 62, np.int64), _tensor("yes", True, np.bool_), _tensor("start", 0.0)],
    )


def _loop_in_a_branch() -> bytes:
    inner = onnx.load_from_string(_loop()).graph.node[0]
    branch = helper.make_graph(
        [inner], "then", [], [helper.make_tensor_value_info("extra", TensorProto.FLOAT, [])],
        initializer=[_tensor("turns", 1 << 62, np.int64), _tensor("yes", True, np.bool_), _tensor("start", 0.0)],
    )  # fmt: skip
    return _with(
        helper.make_node("If", ["choice"], ["extra"], then_branch=branch, else_branch=branch),
        tensors=[_tensor("choice", True, np.bool_)],
    )


def _outside(location: str) -> bytes:
    model = onnx.load_from_string(_with(helper.make_node("ReduceMean", ["w"], ["extra"], keepdims=0)))
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model.SerializeToString()


def _constant_outside() -> bytes:
    value = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="/etc/hostname")
    return _reduced(helper.make_node("Constant", [], ["huge"], value=value))


def _functions() -> bytes:
    model = onnx.load_from_string(_with(helper.make_node("Again", ["zero_f"], ["extra"], domain="mine"),
                                        tensors=[_tensor("zero_f", 0.0)]))  # fmt: skip
    inner = helper.make_node("Again", ["x"], ["y"], domain="mine")
    model.functions.append(
        helper.make_function("mine", "Again", ["x"], ["y"], [inner], [helper.make_opsetid("mine", 1)])
    )
    model.opset_import.append(helper.make_opsetid("mine", 1))
    return model.SerializeToString()


def _claims_more_than_it_holds() -> bytes:
    model = onnx.load_from_string(_reduced(helper.make_node("Identity", ["w"], ["huge"])))
    model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1 << 20, 1 << 20], raw_data=b"\0" * 4)
    return model.SerializeToString()


def _deep() -> bytes:
    """Graphs in graphs, one in each, by hand: helper would take for ever."""
    inner = b""
    for _ in range(3000):
        attribute = _field(1, b"then_branch") + _field(6, inner)
        node = _field(4, b"If") + _field(5, attribute)
        inner = _field(1, node)
    return _field(7, inner)


def _field(number: int, content: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(content)) + content


def _hidden(content: bytes) -> bytes:
    """The graph under a tag with a bit that C++ drops: a reader that keeps it sees a field that it does not know."""
    graph = onnx.load_from_string(content).graph.SerializeToString()
    model = onnx.load_from_string(content)
    model.ClearField("graph")
    return model.SerializeToString() + _number((7 << 3 | 2) | 1 << 32) + _number(len(graph)) + graph


def _number(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def _chain() -> bytes:
    """So many nodes that no optimiser ends: each doubles what the one before it made."""
    nodes = [helper.make_node("Concat", [f"x{i}", f"x{i}"], [f"x{i + 1}"], axis=0) for i in range(60)]
    first, last = helper.make_node("Identity", ["w"], ["x0"]), helper.make_node("Identity", ["x60"], ["huge"])
    return _reduced(first, *nodes, last, tensors=[_tensor("w", [1.0])])


def _heavy() -> bytes:
    nodes = [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(2000)]
    shape = helper.make_node("Expand", ["start", "square"], ["m0"])
    start = helper.make_node("ReduceMean", ["images"], ["start"], keepdims=0)  # of the input: nothing is folded
    return _reduced(start, shape, *nodes, helper.make_node("Identity", ["m2000"], ["huge"]),
                    tensors=[_tensor("square", [6000, 6000], np.int64)])  # fmt: skip


def _huge(op: str, *inputs: Any, **attributes: Any) -> bytes:
    """An operator that makes `huge` of what it is given: names, or values."""
    tensors = [
        _tensor(f"given{place}", one, one.dtype) for place, one in enumerate(inputs) if isinstance(one, np.ndarray)
    ]
    names = [f"given{place}" if isinstance(one, np.ndarray) else one for place, one in enumerate(inputs)]
    return _reduced(helper.make_node(op, names, ["huge"], **attributes), tensors=tensors)


def _by(*sizes: int) -> npt.NDArray[np.int64]:
    return np.asarray(sizes, np.int64)


ONE = np.ones(1, np.float32)


def _bomb(width: int, height: int) -> bytes:
    """A PNG of so many pixels, in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packed = zlib.compressobj(9)
    rows = b"".join([packed.compress(b"\0" * (1 << 20)) for _ in range(64)]) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# programs that only compute, for ever or with all memory: reading them does not tell that
UNREADABLE = (
    "never ends", "never ends while loading", "counts to 2^60", "takes 4 TB", "gathers memory", "multiplies for hours",
    "calls itself", "a pickle as its data", "a pickle as its constants",
)  # fmt: skip
PROGRAMS: dict[str, Callable[[], bytes]] = {
    "saves while running": lambda: scripted(_Saves()),
    "saves while loading": lambda: scripted(_SavesWhileLoading()),
    "saves by a method of its own": lambda: scripted(_SavesByAMethod()),
    "reads a file": lambda: scripted(_ReadsAFile()),
    "prints to the terminal": lambda: scripted(_Prints()),
    "warns": lambda: scripted(_Warns()),
    "seeds the process": lambda: scripted(_Seeds()),
    "never ends": lambda: scripted(_NeverEnds()),
    "never ends while loading": lambda: scripted(_NeverEndsWhileLoading()),
    "counts to 2^60": lambda: scripted(_Counts()),
    "takes 4 TB": lambda: scripted(_TakesAllMemory()),
    "gathers memory": lambda: scripted(_GathersMemory()),
    "multiplies for hours": lambda: scripted(_IsHeavy()),
    "calls itself": _calls_itself,
    "a class of a library": lambda: _line("__torch__.torch.classes.dist_c10d.Store()"),
    "loads a library": lambda: _line("torch.ops.load_library('x.so')"),
    "an operator of nobody": lambda: _line("ops.mine.act(x)"),
    "text of another grammar": lambda: rewritten(lambda name, kept: b"\0(" * 999 if name.endswith(".py") else kept),
    "code that is deep": lambda: _line(f"y = {'(' * 150}x{')' * 150}{'.t()' * 20000}"),
    "code of a gigabyte, packed": lambda: rewritten(
        lambda name, kept: b"#" * (1 << 28) if name.endswith(".py") else kept, zipfile.ZIP_DEFLATED
    ),
    "a pickle as its data": lambda: rewritten(lambda name, kept: PICKLE if name.endswith("data.pkl") else kept),
    "a pickle as its constants": lambda: rewritten(
        lambda name, kept: PICKLE if name.endswith("constants.pkl") else kept
    ),
    "a pickle of torch.save": lambda: _saved({"weights": torch.zeros(3)}),
}
GRAPHS: dict[str, Callable[[], bytes]] = {
    "a loop of 2^62 turns": _loop,
    "the same in a branch": _loop_in_a_branch,
    "Scan": lambda: _with(helper.make_node("Scan", ["images"], ["extra"], num_scan_inputs=1,
                                           body=helper.make_graph([], "b", [], []))),
    "SequenceMap": lambda: _with(helper.make_node("SequenceMap", ["images"], ["extra"],
                                                  body=helper.make_graph([], "b", [], []))),
    "tensors in /etc": lambda: _outside("/etc/hostname"),
    "tensors in the folder above": lambda: _outside("../../secret"),
    "a constant in another file": _constant_outside,
    "an operator of nobody": lambda: _with(helper.make_node("Act", ["images"], ["extra"], domain="mine")),
    "a runtime's search": lambda: _with(helper.make_node("BeamSearch", ["images"], ["extra"], domain="com.microsoft")),
    "a context of a device": lambda: _with(helper.make_node("EPContext", ["images"], ["extra"], domain="com.microsoft",
                                                            ep_cache_context="../../secret", embed_mode=0)),
    "a function that calls itself": _functions,
    "a constant of a terabyte": lambda: _huge("ConstantOfShape", _by(1 << 20, 1 << 18)),
    "one expanded to a terabyte": lambda: _huge("Expand", ONE, _by(1 << 20, 1 << 18)),
    "one tiled to a terabyte": lambda: _huge("Tile", ONE, _by(1 << 38)),
    "one padded to a terabyte": lambda: _huge("Pad", ONE, _by(1 << 38, 0)),
    "an image resized": lambda: _huge("Resize", "images", "", np.asarray([1, 1, 5e3, 5e3], np.float32)),
    "a range of 2^50": lambda: _huge("Range", *(np.asarray(one, np.float32) for one in (0, 1e15, 1))),
    "random numbers without end": lambda: _huge("RandomNormal", shape=[1 << 20, 1 << 18]),
    "doubled sixty times": _chain,
    "multiplies for hours": _heavy,
    "claims more than it holds": _claims_more_than_it_holds,
    "graphs in graphs": _deep,
    "a loop behind a tag of 33 bits": lambda: _hidden(_loop()),
    "no protobuf": lambda: b"\xff" * 1000,
    "nothing": lambda: b"",
    "of another shape": lambda: graph(helper.make_node("Identity", ["images"], ["logits"])),
}  # fmt: skip


def _saved(value: Any) -> bytes:
    made = io.BytesIO()
    torch.save(value, made)
    return made.getvalue()


@contextmanager
def _nobody_looks() -> Iterator[None]:
    """`zoo package` without its last look, which would refuse all of these."""
    kept = bundle.verify, bundle.judge_card, bundle.judge_code
    good = Gate("any", "pass", "nobody looked")
    bundle.verify = lambda *_given, **_more: Verified((good,), ())
    bundle.judge_card = bundle.judge_code = lambda _package: good
    try:
        yield
    finally:
        bundle.verify, bundle.judge_card, bundle.judge_code = kept


def with_model(honest: Path, content: bytes, place: Path, name: str = "") -> Path:
    """A package of an artifact whose model is this one; `name` is the model's file, its own without one."""
    folder = Path(shutil.copytree(honest, place.with_suffix("")))
    manifest = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))
    own = next(one for one in manifest["files"] if one.endswith((".onnx", ".pt")))
    (folder / own).unlink()
    (folder / (name or own)).write_bytes(content)
    del manifest["files"][own]
    size, _, digest = measured(content)
    manifest["files"][name or own] = {"bytes": size, "sha256": digest}
    manifest["model"] = name or own
    (folder / "artifact.json").write_text(json.dumps(manifest), encoding="utf-8")
    with _nobody_looks():
        return bundle.pack([folder], place).path


def with_files(honest: Path, changed: dict[str, bytes], place: Path, said: dict[str, Any] | None = None) -> Path:
    """A package some of whose files are others, or its manifest; hashes made right."""
    with Package(honest) as package:
        files: dict[str, bytes | Path] = {name: package.read(name) for name in package.names()}
        manifest = {key: value for key, value in package.manifest.items() if key != "files"}
    write(place, {**files, **changed}, manifest if said is None else said)
    return place


def samples() -> dict[str, dict[str, bytes]]:
    """Files of a package that a stranger replaced, by what they do."""
    nested = b"[" * 200000 + b"]" * 200000
    return {
        "an image of a terapixel": {"golden/0.png": _bomb(1 << 20, 1 << 20)},
        "an image of 60,000 by 60,000": {"golden/0.png": _bomb(60000, 60000)},
        "an image that is none": {"golden/0.png": os.urandom(1000)},
        "logits that are nested": {"golden/logits.json": nested},
        "an artifact.json that is nested": {"artifacts/onnx-fp32/artifact.json": nested},
        "evidence that is nested": {"checks/onnx-fp32.check.json": nested},
        "code that acts": {"__main__.py": b"open('written-by-a-model', 'w')\n"},
        "a module that acts": {"zoo/errors.py": b"open('written-by-a-model', 'w')\n"},
        "a module more": {"zoo/exporter/more.py": b"open('written-by-a-model', 'w')\n"},
        "a module beside": {"numpy.py": b"open('written-by-a-model', 'w')\n"},
        "a pickle beside": {"artifacts/onnx-fp32/extra.pkl": PICKLE},
        "a pickle by another name": {"artifacts/onnx-fp32/extra.dat": b"\x80\x04" + PICKLE[1:]},
    }
