"""Faults that no gate once saw, planted again in artifacts of resnet18 on grey digits: what each check says of them.

    .venv/bin/python benchmarks/attacked.py

Files are changed as a buggy tool would, their hashes made right. Each is checked without data and with it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import zoo
from onnx import TensorProto, helper, numpy_helper
from torch import nn

ZOO = (sys.executable, "-P", "-m", "zoo")
Graph = onnx.ModelProto


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run zoo."""
    return subprocess.run([*ZOO, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def in_graph(folder: Path, change: Callable[[Graph], None]) -> None:
    """Change an artifact's graph."""
    model = onnx.load(folder / "model.onnx")
    change(model)
    onnx.save(model, folder / "model.onnx")


def in_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change its artifact.json."""
    path = folder / "artifact.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def reseal(data: dict[str, Any], folder: Path) -> None:
    """Make the hashes right."""
    for name in data["files"]:
        content = (folder / name).read_bytes()
        data["files"][name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}


def constant(model: Graph, ending: str, which: int = -1) -> Any:
    """A constant whose name ends so."""
    return [one for one in model.graph.initializer if one.name.endswith(ending)][which]


def changed(tensor: Any, change: Callable[[Any], Any]) -> None:
    """Change a constant."""
    value = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(value).astype(value.dtype), tensor.name))


def reversed_colours(model: Graph) -> None:
    """The first convolution reads blue for red."""
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    changed(next(one for one in model.graph.initializer if one.name == first.input[1]), lambda value: value[:, ::-1])


def shifted(model: Graph, amount: float, when: str = "", than: int = 0, logits: int = 0) -> None:
    """Add to the logits; only for batches larger than, or of, a size."""
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    for node in model.graph.node:
        node.output[:] = ["before" if name == "logits" else name for name in node.output]
    shift = np.zeros(classes, np.float32)
    shift[: logits or classes] = amount
    constants = {"shift": shift, "axis": np.asarray(0, np.int64), "than": np.asarray(than, np.int64)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    nodes = [helper.make_node("Add", ["before", "added"], ["logits"])]
    if when:
        nodes = [
            helper.make_node("Shape", ["images"], ["sizes"]), helper.make_node("Gather", ["sizes", "axis"], ["size"]),
            helper.make_node(when, ["size", "than"], ["asked"]),
            helper.make_node("Cast", ["asked"], ["one"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["shift", "one"], ["added"]), *nodes,
        ]  # fmt: skip
    else:
        nodes = [helper.make_node("Identity", ["shift"], ["added"]), *nodes]
    model.graph.node.extend(nodes)


def zero_point(by: int) -> Callable[[Graph], None]:
    """One activation's zero point where it is read, not where it is written."""

    def change(model: Graph) -> None:
        reads = [node for node in model.graph.node if node.op_type == "DequantizeLinear"
                 and "QuantizeLinear" in node.input[0]]  # fmt: skip
        middle = reads[len(reads) // 2]
        copied = onnx.TensorProto()
        copied.CopyFrom(next(one for one in model.graph.initializer if one.name == middle.input[2]))
        copied.name += "_other"
        changed(copied, lambda value: np.clip(value.astype(int) + by, 0, 255))
        model.graph.initializer.append(copied)
        middle.input[2] = copied.name

    return change


def exchange(labels: list[str]) -> list[str]:
    """Two of them in each other's place."""
    return [labels[1], labels[0], *labels[2:]]


def in_labels(change: Callable[[list[str]], list[str]]) -> Callable[[dict[str, Any]], None]:
    """Other labels."""
    return lambda data: data["spec"].__setitem__("labels", change(data["spec"]["labels"]))


def in_preprocess(key: str, value: str) -> Callable[[dict[str, Any]], None]:
    """Another preprocessing."""
    return lambda data: data["spec"]["preprocess"].__setitem__(key, value)


def with_eps(place: Path, name: str, eps: float, precision: str) -> Path:
    """An export whose batch norms have another eps; the reference has its own."""
    model = zoo.resolve(str(place / "run"))
    for module in model.module.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    options = zoo.ExportOptions(precision)  # type: ignore[arg-type]
    (row,) = zoo.export(model, ["onnx"], options, data=zoo.open_data("digits"), out=place / name)
    assert row.error is None, row.error
    return row.folder


def resized_by_nearest(place: Path) -> Path:
    """An export of a run whose preprocessing somebody changed: golden images, probes and all follow it."""
    shutil.copytree(place / "run", place / "nearest")
    path = place / "nearest" / "run.json"
    text = path.read_text(encoding="utf-8")
    assert '"bilinear"' in text
    path.write_text(text.replace('"bilinear"', '"nearest"'), encoding="utf-8")
    done = run("export", "nearest", "--to", "onnx", "--data", "digits", "--out", "exports-nearest", cwd=place)
    assert done.returncode == 0, done.stderr
    return place / "exports-nearest" / "resnet18" / "onnx-fp32"


def said(folder: Path, place: Path, *data: str) -> str:
    """What a check says: the gates that fail; else those that could not tell, and what is told to be untested."""
    done = run("check", str(folder), *data, "--json", cwd=place)
    (row,) = json.loads(done.stdout)["artifacts"]
    gates = row["gates"]
    for verdict in ("fail", "inconclusive"):
        if found := [one for one in gates if one["verdict"] == verdict]:
            return "; ".join(f"{verdict} {one['name']}: {one['reason'][:110]}" for one in found)
    untested = [f"{one['name']}: {one['reason'][:80]}" for one in gates if "untested" in one["reason"]]
    numerics = next(one["reason"] for one in gates if one["name"] == "numerics")
    return f"passes, {numerics[:90]}" + "".join(f"; {one}" for one in untested)


def main(place: Path) -> None:
    """Print a row for each fault."""
    done = run("train", "resnet18", "--data", "digits", "--epochs", "4", "--out", "run", cwd=place)
    assert done.returncode == 0, done.stderr
    exports = place / "exports" / "resnet18"
    for more in ((), ("--int8",)):
        done = run("export", "run", "--to", "onnx", "--data", "digits", *more, "--out", "exports", cwd=place)
        assert done.returncode == 0, done.stderr
    graphs: dict[str, tuple[str, Callable[[Graph], None]]] = {
        "first convolution BGR": ("onnx-fp32", reversed_colours),
        "+5 logits for batch > 100": ("onnx-fp32", lambda model: shifted(model, 5, "Greater", 100, 1)),
        "+5 logits for batch == 2": ("onnx-fp32", lambda model: shifted(model, 5, "Equal", 2, 1)),
        "+0.05 for batch > 1, int8": ("onnx-int8", lambda model: shifted(model, 0.05, "Greater", 1)),
        "one logit + 0.5, int8": ("onnx-int8", lambda model: shifted(model, 0.5, logits=1)),
        "one weight scale x 1.05, int8": (
            "onnx-int8", lambda model: changed(constant(model, "weight_scale", 8), lambda value: value * 1.05)),
        "dequantiser's zero point + 1": ("onnx-int8", zero_point(1)),
        "dequantiser's zero point + 8": ("onnx-int8", zero_point(8)),
    }  # fmt: skip
    manifests: dict[str, Callable[[dict[str, Any]], None]] = {
        "channels BGR in the preprocessing": in_preprocess("channels", "BGR"),
        "two labels swapped": in_labels(exchange),
        "labels shifted": in_labels(lambda labels: [*labels[1:], labels[0]]),
    }
    folders: dict[str, Path] = {"no fault, fp32": exports / "onnx-fp32", "no fault, int8": exports / "onnx-int8"}
    for name, (form, change) in graphs.items():
        folder = folders[name] = place / f"faulty{len(folders)}"
        shutil.copytree(exports / form, folder)
        in_graph(folder, change)
        in_manifest(folder, lambda data, folder=folder: reseal(data, folder))
    for name, change_it in manifests.items():
        folder = folders[name] = place / f"faulty{len(folders)}"
        shutil.copytree(exports / "onnx-fp32", folder)
        in_manifest(folder, change_it)
    folders["nearest for bilinear, all made again"] = resized_by_nearest(place)
    folders["BN eps 1e-3, fp16"] = with_eps(place, "eps16", 1e-3, "fp16")
    folders["BN eps 1.1e-5"] = with_eps(place, "eps32", 1.1e-5, "fp32")
    for name, folder in folders.items():
        print(f"| {name} | {said(folder, place)} | {said(folder, place, '--data', 'digits')} |", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
