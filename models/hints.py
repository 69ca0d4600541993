"""What was given where a model source is expected: a file or folder of another kind gets the command that takes it."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError, quoted
from .data.layout import SPLITS, SUFFIXES
from .factory import module_of
from .runs import CHECKPOINT

WEIGHT_FILES = {".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar"}
ENGINES = {".plan", ".engine", ".trt"}
ARTIFACT = "artifact.json"


def no_source(path: Path) -> UsageError:
    """Return the error for a path that exists and is no run: what it is, and which command takes it."""
    suffix, typed = path.suffix.lower(), quoted(path)
    if path.is_dir():
        return _no_run(path)
    if suffix == ".zoo":
        return UsageError(f"{path} is a package, which runs by itself", fix=f"python {typed} predict IMAGE")
    if suffix == ".onnx":
        return UsageError(
            f"{path} is an ONNX graph, not a model source",
            fix=f"zoo lint {typed} looks at it; zoo export SOURCE --graph {typed} exports it with its model",
        )
    if suffix in WEIGHT_FILES:
        return UsageError(
            f"{path} is a file of weights, which does not say what model they are of",
            fix=f"name the model too: zoo export resnet18 --weights {typed}, or your own package.module:factory",
        )
    if suffix in SUFFIXES:
        return UsageError(
            f"{path} is an image, not a model source", fix=f"the model comes first: zoo predict SOURCE {typed}"
        )
    if suffix == ".py":
        return UsageError(
            f"{path} is a Python file, not a model source",
            fix=f"name the function in it that returns the model: {module_of(str(path))}:FUNCTION",
        )
    if suffix in ENGINES:
        return UsageError(
            f"{path} is an engine of TensorRT, not a model source", fix="give the artifact folder that it lies in"
        )
    if suffix == ".toml":
        return UsageError(
            f"{path} is a settings file, not a model source",
            fix=f"zoo run {typed} for a pipeline; --spec {typed} for a spec; zoo train --recipe {typed} for a recipe",
        )
    return UsageError(f"{path} is no run folder", fix="give a run, or a name of `zoo list models`")


def _no_run(folder: Path) -> UsageError:
    if (folder / ARTIFACT).is_file():
        return UsageError(
            f"{folder} is an artifact, and a model source is needed here",
            fix="give what it was exported from; zoo check, evaluate, predict, profile and package take artifacts",
        )
    if (folder / CHECKPOINT).is_file():
        return UsageError(
            f"{folder} holds a training that is not finished", fix="finish it: the same zoo train with --resume"
        )
    if any(path.is_dir() and path.name.lower() in SPLITS for path in folder.iterdir()):
        return UsageError(
            f"{folder} is a folder of images, not a model source", fix=f"give it as --data {quoted(folder)}"
        )
    return UsageError(
        f"{folder} is no run folder (it has no run.json)", fix="give a run, or a name of `zoo list models`"
    )
