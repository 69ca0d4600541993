"""A module's weights: written and read as safetensors, loaded into a module that they fit, and made at random.

Weights that a user brings in a file of theirs are read by `checkpoints.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from .. import atomic
from ..errors import IntegrityError, UsageError, one_line
from .user_code import users_code

State = dict[str, Tensor]


def save(path: Path, module: nn.Module) -> None:
    """Write a module's parameters and buffers as safetensors, whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    atomic.write_file(path, safetensors.torch.save(unshared(state)))


def digest(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of a module's state, in order of names."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def read(path: Path) -> State:
    """Read a safetensors file that zoo wrote: its names are the module's, whatever they begin with.

    Raises:
        IntegrityError: the file is not there, or corrupt.
    """
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{path}: not a whole safetensors file ({one_line(error)})") from error


@dataclass(frozen=True)
class Mismatch:
    """What keeps a state dict from fitting a module: names, or sentences about them.

    Attributes:
        missing: names that only the module has.
        unexpected: names that only the state dict has.
        misshaped: tensors of another shape.
        strange: tensors of another kind: integers for floats, sparse, or without content.
    """

    missing: list[str]
    unexpected: list[str]
    misshaped: list[str]
    strange: list[str]

    @property
    def count(self) -> int:
        """How many names do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.misshaped) + len(self.strange)

    def __str__(self) -> str:
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.misshaped,
            "of another kind": self.strange,
        }
        return "; ".join(f"{len(names)} {what} ({_few(names)})" for what, names in kinds.items() if names)


def mismatch(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mismatch:
    """Compare the state dict that a module has, `wanted`, with one that is to be loaded into it."""
    both = sorted(wanted.keys() & state.keys())
    return Mismatch(
        sorted(wanted.keys() - state.keys() - _counters(wanted)),
        sorted(state.keys() - wanted.keys()),
        [
            f"{name} is {_shape(state[name])}, the model's is {_shape(wanted[name])}"
            for name in both
            if wanted[name].shape != state[name].shape
        ],
        [
            f"{name} is {state[name].dtype}, {state[name].layout}, the model's is {wanted[name].dtype}"
            for name in both
            if state[name].is_floating_point() != wanted[name].is_floating_point()
            or state[name].layout is not torch.strided
            or state[name].is_meta
        ],
    )


def fit(module: nn.Module, state: State, where: str) -> None:
    """Load `state` into `module`, which must have exactly these names and shapes.

    Raises:
        UsageError: naming what is missing, what is unexpected and what has another shape.
    """
    found = mismatch(module.state_dict(), state)
    if found.count:
        raise UsageError(
            f"{where} does not fit the model: {found}",
            fix="check the variant, num_classes and stem" + _hint(found.misshaped),
        )
    _own_memory(module)
    with users_code(f"{where} cannot be loaded into the model"):
        module.load_state_dict(state, strict=False)


def _own_memory(module: nn.Module) -> None:
    """Give tensors whose elements share memory, as expand() makes them, memory of their own, to be written to."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and _is_expanded(parameter):
                part._parameters[name] = nn.Parameter(parameter.detach().contiguous(), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None and _is_expanded(buffer):
                part._buffers[name] = buffer.detach().contiguous()


def _is_expanded(tensor: Tensor) -> bool:
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def random_statistics(module: nn.Module, input_shape: tuple[int, int, int], seed: int, images: int = 8) -> None:
    """Give batch norms the statistics of one pass over noise, in place.

    Untrained, a deep network's running statistics (mean 0, variance 1) make every logit almost nothing, or huge:
    then any two exports compare as equal.
    """
    norms = [one for one in module.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    before = [(norm, norm.momentum) for norm in norms]
    noise = torch.randn(images, *input_shape, generator=torch.Generator().manual_seed(seed))
    module.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with (
        users_code(f"the model cannot take images of {input_shape}", fix="give the right --input, or a --spec"),
        torch.inference_mode(),
    ):
        module(noise)
    for norm, momentum in before:
        norm.momentum = momentum
    module.eval()


def _counters(wanted: Mapping[str, Tensor]) -> set[str]:
    """num_batches_tracked came with torch 0.4.1: older state dicts, ImageNet's VGG among them, lack it."""
    return {name for name in wanted if name.endswith(".num_batches_tracked")}


def unshared(state: State) -> State:
    """Copies of tensors that share memory (tied weights): safetensors stores each name by itself."""
    seen: set[int] = set()
    result: State = {}
    for name, tensor in state.items():
        shared = tensor.data_ptr() in seen and tensor.numel() > 0
        result[name] = tensor.clone() if shared else tensor
        seen.add(tensor.data_ptr())
    return result


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")


def _hint(misshaped: list[str]) -> str:
    heads = [text for text in misshaped if re.match(r"(fc|classifier|head|aux\d\.fc2)\b", text)]
    found = re.search(r"is (\d+)", heads[-1]) if heads else None
    return f" (these weights have {found[1]} classes)" if found else ""
