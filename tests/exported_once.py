"""torch.onnx.export takes 5 seconds, whatever the size of the model: the tests do the same export once a process.

Only modules of zoo's own classes and torch's are remembered, by all they hold and by the code of their layers: a fault
that a test plants in a weight, an attribute or a forward is exported anew. What comes back shares nothing with what was
kept.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from functools import cache, wraps
from types import CodeType
from typing import Any

import onnx_ir
import torch
from torch import nn
from torch.onnx import ONNXProgram

_KEPT = 16  # of the last models
_LARGEST = 4_000_000  # parameters of one that is kept


def remember_exports() -> None:
    """Make torch.onnx.export remember what it made, and make it list the operators that it knows once."""
    from torch.onnx._internal._lazy_import import onnxscript_apis

    onnxscript_apis.get_torchlib_ops = cache(onnxscript_apis.get_torchlib_ops)  # a second of each export
    torch.onnx.export = _remembering(torch.onnx.export)


def _remembering(export: Callable[..., ONNXProgram]) -> Callable[..., ONNXProgram]:
    kept: dict[str, tuple[Any, torch.export.ExportedProgram]] = {}

    @wraps(export)
    def exported(module: nn.Module, args: tuple[torch.Tensor, ...], **options: Any) -> ONNXProgram:
        key = _key(module, (args, options))
        if key is None:
            return export(module, args, **options)
        if key not in kept:
            made = export(module, args, **options)
            assert made.exported_program is not None
            kept[key] = onnx_ir.to_proto(made.model), copy.deepcopy(made.exported_program)
            while len(kept) > _KEPT:
                del kept[next(iter(kept))]
            return made
        model, program = kept[key]
        return ONNXProgram(onnx_ir.from_proto(copy.deepcopy(model)), copy.deepcopy(program))

    return exported


def _key(module: nn.Module, rest: object) -> str | None:
    """What an export hangs on; None for a module that has to be exported each time."""
    if sum(one.numel() for one in module.parameters()) > _LARGEST:
        return None
    digest = hashlib.sha256(repr(rest).encode())
    for name, part in module.named_modules():
        kind, held = type(part), vars(part)
        plain = {key: value for key, value in held.items() if key not in ("_parameters", "_buffers", "_modules")}
        if kind.__module__.split(".")[0] not in {"zoo", "torch"} or not all(map(_is_plain, plain.values())):
            return None
        digest.update(f"{name} {kind.__module__} {kind.__qualname__} {plain!r} {_code(kind.forward)}".encode())
    for name, tensor in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items():
        content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + content)
    return digest.hexdigest()


def _is_plain(value: object) -> bool:
    """Whether a repr tells all of a value."""
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    return value is None or isinstance(value, (bool, int, float, str, torch.dtype))


def _code(function: Any) -> str:
    code = getattr(function, "__code__", None)
    return f"{function!r}" if not isinstance(code, CodeType) else f"{code.co_code!r} {code.co_consts!r}"
