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
        UsageError: the module cannot be copied.
    """
    computed = {
        id(tensor): tensor.detach().clone()
        for part in module.modules()
        for tensor in _tensors(vars(part), set())
        if not tensor.is_leaf
    }
    try:
        return copy.deepcopy(module, computed)
    except Exception as error:  # of whatever the module holds
        raise UsageError(
            f"{type(module).__name__} cannot be copied: {described(error)}",
            fix="keep only tensors, numbers and submodules in it; open files and connections where they are used",
        ) from error


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """The tensors in a value and in the containers within it; modules are not followed."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple, set)) and id(value) not in seen:
        seen.add(id(value))
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _tensors(inner, seen)
