"""Backends by name: ours are a plain dict, imported on use; others come by the entry point group `zoo.backends`."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from ...config import near
from ...errors import UsageError

if TYPE_CHECKING:
    from .base import Backend

BACKENDS: dict[str, str] = {
    "eager": ".eager.backend:Eager",
    "torchscript": ".torchscript.backend:TorchScript",
    "onnx": ".onnx.backend:Onnx",
    "trt": ".tensorrt.backend:TensorRT",
}
# What people call them elsewhere: only ever suggested, never taken.
ALIASES: dict[str, str] = {
    "tensorrt": "trt", "nvidia": "trt", "engine": "trt", "plan": "trt",
    "onnxruntime": "onnx", "ort": "onnx",
    "jit": "torchscript", "libtorch": "torchscript", "pt": "torchscript",
    "pytorch": "eager", "torch": "eager",
}  # fmt: skip


def backend_names() -> list[str]:
    """Ours in their order, then those that other packages brought."""
    return [*BACKENDS, *sorted(entry.name for entry in _foreign() if entry.name not in BACKENDS)]


def get_backend(name: str) -> Backend:
    """A backend by name.

    Raises:
        UsageError: an unknown name, with the nearest one; or a third party's backend that cannot be imported.
    """
    if name in BACKENDS:
        module, _, attribute = BACKENDS[name].partition(":")
        return getattr(importlib.import_module(module, __package__), attribute)()
    for entry in _foreign():
        if entry.name == name:
            try:
                made = entry.load()()
            except Exception as error:  # a third party's code may raise anything
                raise UsageError(f"backend {name} ({entry.value}) cannot be loaded: {error}") from error
            from .base import Backend

            if not isinstance(made, Backend):
                raise UsageError(f"backend {name} ({entry.value}) is no zoo Backend but {type(made).__name__}")
            return made
    raise unknown_backend(name)


def unknown_backend(name: str, where: str = "") -> UsageError:
    """Return the error for a name that no backend has, with the one that is probably meant.

    Args:
        name: what was given.
        where: begins the message, such as the key of a file.
    """
    names = backend_names()
    return UsageError(f'{where}unknown backend "{name}"{near(name, names, ALIASES)}', fix=f"one of {', '.join(names)}")


def _foreign() -> list[EntryPoint]:
    return list(entry_points(group="zoo.backends"))
