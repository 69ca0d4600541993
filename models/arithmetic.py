"""A module computed in another floating-point arithmetic than it was written for, whatever it holds.

`module.double()` misses tensors that a module keeps as plain attributes or makes in its forward, and half-precision
convolutions are very slow on CPUs. So the arithmetic is changed below the module, operator by operator:

    fp64    every operator reads and gives float64: the truth that rounding is measured against
    fp16    the module's numbers are float16, and what reads and gives float16 computes in float32 and rounds its
    bf16    result once, as half-precision kernels with float32 accumulators do; bf16 likewise
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map_only

from ..errors import UsageError
from .dispatch import EachOperator
from .user_code import described

Arithmetic = Literal["fp64", "fp16", "bf16"]
HELD: dict[str, torch.dtype] = {"fp64": torch.float64, "fp16": torch.float16, "bf16": torch.bfloat16}
BATCH = 8  # images at once: float64 doubles the memory of activations


class InFloat64(EachOperator):
    """While it is active, every floating-point operator reads and gives float64."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Bring what an operator reads, and a type that it is asked for by name, to float64."""
        del types
        given = {
            name: torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value
            for name, value in (kwargs or {}).items()
        }
        made = func(*tree_map_only(Tensor, self._wide, args), **tree_map_only(Tensor, self._wide, given))
        return tree_map_only(Tensor, self._wide, made)

    def _wide(self, tensor: Tensor) -> Tensor:
        return tensor.to(torch.float64) if tensor.is_floating_point() else tensor


class RoundingOnce(EachOperator):
    """While it is active, operators on half-precision numbers compute in float32 and round their result once.

    Others run as they are: what a module computes in float32 on purpose stays so.
    """

    def __init__(self, held: torch.dtype) -> None:
        super().__init__()
        self._held = held

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator whose floating-point inputs are all in half precision on copies in float32."""
        del types
        given = kwargs or {}
        read = [one for one in tree_leaves((args, given)) if isinstance(one, Tensor) and one.is_floating_point()]
        # What is written into a view has to arrive in its base, so that no copy may come between. A type that is asked
        # for by name is the module's own choice.
        if func.is_view or "dtype" in given or not read or any(one.dtype != self._held for one in read):
            return func(*args, **given)
        wide = {id(one): one.to(torch.float32) for one in read}
        args, given = tree_map_only(Tensor, lambda one: wide.get(id(one), one), (args, given))
        made = func(*args, **given)
        if func._schema.is_mutable:
            for one in read:
                one.copy_(wide[id(one)])
        narrow = {id(wide[id(one)]): one for one in read}
        return tree_map_only(Tensor, lambda one: narrow.get(id(one), self._round(one)), made)

    def _round(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._held) if tensor.is_floating_point() else tensor


def logits_in(module: nn.Module, batch: npt.NDArray[np.float32], arithmetic: Arithmetic) -> npt.NDArray[np.float64]:
    """Logits N x K of a float32 batch N x C x H x W, computed on the CPU in an arithmetic and given in float64.

    Raises:
        UsageError: the module does something that cannot be brought to the arithmetic.
    """
    held = HELD[arithmetic]
    found: list[npt.NDArray[np.float64]] = []
    try:
        with torch.inference_mode(False), torch.no_grad(), _plain_tensors_as(module, held):
            state = {name: _as(tensor, held) for name, tensor in _state(module)}
            for start in range(0, len(batch), BATCH):
                part = torch.from_numpy(np.array(batch[start : start + BATCH])).to(held)  # a copy: it may be changed
                with InFloat64() if arithmetic == "fp64" else RoundingOnce(held):
                    made = functional_call(module, state, (part,))
                found.append(made.to(torch.float64).numpy())
    except Exception as error:  # whatever a user's forward raises
        raise UsageError(f"the model cannot be computed in {arithmetic}: {described(error)}") from error
    return np.concatenate(found)


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype) if tensor.is_floating_point() else tensor


@contextlib.contextmanager
def _plain_tensors_as(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Tensors that a module holds as plain attributes, brought to a type for a while."""
    kept = [
        (part, name, value)
        for part in module.modules()
        for name, value in vars(part).items()
        if isinstance(value, Tensor) and value.is_floating_point()
    ]
    for part, name, value in kept:
        object.__setattr__(part, name, _as(value, dtype))
    try:
        yield
    finally:
        for part, name, value in kept:
            object.__setattr__(part, name, value)
