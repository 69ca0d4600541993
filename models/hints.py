"""What was given where a model source is expected: a file or folder of another kind gets the command that takes it."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError, quoted
from .data.layout import SPLITS, SUFFIXES
from .factory import module_of
from .runs import CHECKPOINT
from .suffixes import WEIGHTS

ARTIFACT = "artifact.json"


_WEIGHTS = (
    "a file of weights, which does not say what model they are of",
    "name the model too: zoo export resnet18 --weights {typed}, or your own package.module:factory",
)
_ENGINE = "an engine of TensorRT, not a model source", "give the artifact folder that it lies in"
_IMAGE = "an image, not a model source", "the model comes first: zoo predict SOURCE {typed}"
# What people give in place of a model source, by the suffix of the file: what it is, and what to do with it.
KINDS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(SUFFIXES, _IMAGE),
    **dict.fromkeys(WEIGHTS, _WEIGHTS),
    **dict.fromkeys((".plan", ".engine", ".trt"), _ENGINE),
    ".zoo": ("a package, which runs by itself", "python {typed} predict IMAGE"),
    ".onnx": (
        "an ONNX graph, not a model source",
        "zoo lint {typed} looks at it; zoo export SOURCE --graph {typed} exports it with its model",
    ),
    ".py": (
        "a Python file, not a model source",
        "name the function in it that returns the model: {module}:FUNCTION",
    ),
    ".toml": (
        "a settings file, not a model source",
        "zoo run {typed} for a pipeline; --spec {typed} for a spec; zoo train --recipe {typed} for a recipe",
    ),
}


def no_source(path: Path) -> UsageError:
    """Return the error for a path that exists and is no run: what it is, and which command takes it."""
    if path.is_dir():
        return _no_run(path)
    hint = KINDS.get(path.suffix.lower())
    if hint is not None:
        what, fix = hint
        named = {"path": path, "typed": quoted(path), "module": module_of(str(path))}
        return UsageError(f"{path} is {what}", fix=fix.format(**named))
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
