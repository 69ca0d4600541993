"""Copies of a user's module, whatever tensors it keeps."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..errors import UsageError
from .user_code import described


def copy_of(module: nn.Module) -> nn.Module:
    """Return a copy of a module that shares no tensor with it.

    A tensor that was computed from parameters and kept as an attribute, as torch's older weight_norm does, is copied by
    its value: copy.deepcopy refuses those.

    Raises:
        UsageError: a layer of the module cannot be copied; with its name.
    """
    try:
        return _copied(module)
    except Exception as error:  # of whatever the module holds
        layer = _innermost_that_fails(module)
        raise UsageError(
            f"{layer or 'the model'} ({type(module.get_submodule(layer)).__name__}) cannot be copied: "
            f"{described(error)}",
            fix="keep only tensors, numbers and submodules in it; open files and connections where they are used",
        ) from error


def _copied(module: nn.Module) -> nn.Module:
    computed = {
        id(tensor): tensor.detach().clone()
        for part in module.modules()
        for tensor in _tensors(vars(part), set())
        if not tensor.is_leaf
    }
    return copy.deepcopy(module, computed)


def _innermost_that_fails(module: nn.Module) -> str:
    """Return the path of the last layer that cannot be copied: a layer comes after those that it is in."""
    blamed = ""
    for path, part in module.named_modules():
        try:
            _copied(part)
        except Exception:  # noqa: BLE001
            blamed = path
    return blamed


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """The tensors in a value and in the containers within it; modules are not followed."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple, set)) and id(value) not in seen:
        seen.add(id(value))
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _tensors(inner, seen)
