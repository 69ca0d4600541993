"""`zoo lint`: will a target take this ONNX graph? Told from the graph alone, before any device is seen.

A target is a module with `RULES`, functions of a `View` that yield findings. Ours are a plain dict, imported on use.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import near
from ...errors import UsageError, one_line
from .finding import Finding

if TYPE_CHECKING:
    import onnx

GRAPH = "model.onnx"  # in the artifacts of all backends whose graphs have a target here
TARGETS: dict[str, tuple[str, ...]] = {"trt": (".trt", ".trt_qdq")}


def lint(proto: onnx.ModelProto, target: str = "trt") -> list[Finding]:
    """What a target would refuse (errors) or run worse than it could (warnings), errors first, in graph order.

    Raises:
        UsageError: a target without rules.
    """
    if target not in TARGETS:
        raise UsageError(
            f'no lint rules for "{target}"{near(target, TARGETS)}', fix=f"known targets: {', '.join(TARGETS)}"
        )
    from ...calibration.view import View

    view = View(proto)
    if view.problem:  # then nothing else can be relied on
        return [Finding("error", "onnx", "the graph", view.problem, "export it again", "onnx.checker")]
    modules = [importlib.import_module(name, __package__) for name in TARGETS[target]]
    found = [finding for module in modules for rule in module.RULES for finding in rule(view)]
    return sorted(found, key=lambda one: one.level != "error")


def lint_errors(proto: onnx.ModelProto, target: str) -> tuple[list[Finding], list[Finding]]:
    """Errors and warnings apart."""
    found = lint(proto, target)
    return [one for one in found if one.level == "error"], [one for one in found if one.level == "warning"]


def lint_file(path: Path, target: str = "trt") -> list[Finding]:
    """Lint an ONNX file, or the graph of an artifact folder.

    Raises:
        UsageError: no ONNX file there.
    """
    import onnx

    file = path / GRAPH if path.is_dir() else path
    if not file.is_file():
        what = "a run, which is no ONNX graph" if (path / "run.json").is_file() else "no such file"
        raise UsageError(f"{path}: {what}", fix=f"give an ONNX file, or an artifact that holds {GRAPH}")
    try:
        proto = onnx.load(file, load_external_data=False)
        if not proto.graph.node and not proto.opset_import:
            raise ValueError("it holds no graph")
    except Exception as error:  # protobuf's own error class
        raise UsageError(f"{file} is not an ONNX file ({one_line(error)})") from error
    return lint(proto, target)
