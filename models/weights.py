"""Weights in and out: safetensors always, a user's .pth with weights_only, torchvision's by torchvision."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from .. import atomic
from ..errors import IntegrityError, UsageError, one_line

State = dict[str, Tensor]

# The names under which training scripts wrap a state dict; an average of the weights is what they evaluate with.
EMA_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
WRAPPER_KEYS = ("state_dict", "model_state_dict", "model", "net")


@dataclass(frozen=True)
class Loaded:
    """A state dict, and what was done to get at it."""

    state: State
    notes: tuple[str, ...]


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


def read(path: Path) -> Loaded:
    """Read a state dict from .safetensors, or from a .pth / .pt / .bin by torch.load(weights_only=True).

    A wrapped checkpoint is unwrapped, an average of the weights (EMA) is preferred, prefixes that DataParallel and
    torch.compile leave are cut off; each is noted.

    Raises:
        UsageError: no such file, or nothing in it that is a state dict.
        IntegrityError: the file is corrupt, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such weights file", fix="give a .safetensors or .pth file, or a run folder")
    if path.suffix == ".safetensors":
        try:
            return _tidy(safetensors.torch.load_file(path), [], path)
        except (SafetensorError, OSError) as error:
            raise IntegrityError(f"{path}: not a whole safetensors file ({one_line(error)})") from error
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and key errors here
        raise IntegrityError(
            f"{path}: cannot be read as a state dict ({_plain(error)})",
            fix="zoo reads tensors and plain values only; save it again with torch.save(model.state_dict(), ...)",
        ) from error
    notes: list[str] = []
    return _tidy(_unwrap(checkpoint, path, notes), notes, path)


def _unwrap(checkpoint: Any, path: Path, notes: list[str]) -> State:
    for key in (*EMA_KEYS, *WRAPPER_KEYS):
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping) and checkpoint[key]:
            others = [name for name in WRAPPER_KEYS if isinstance(checkpoint.get(name), Mapping)]
            if key in EMA_KEYS:
                instead = f" instead of `{others[0]}`" if others else ""
                notes.append(f"{path.name}: took the averaged weights `{key}`{instead}")
            else:
                notes.append(f"{path.name}: took `{key}` out of the checkpoint")
            checkpoint = checkpoint[key]
            break
    if not isinstance(checkpoint, Mapping) or not any(isinstance(value, Tensor) for value in checkpoint.values()):
        held = list(checkpoint)[:8] if isinstance(checkpoint, Mapping) else type(checkpoint).__name__
        raise UsageError(f"{path}: no state dict in it, only {held}", fix="save it as model.state_dict()")
    return {str(name): value for name, value in checkpoint.items() if isinstance(value, Tensor)}


def _tidy(state: State, notes: list[str], path: Path) -> Loaded:
    for prefix in ("module.", "_orig_mod.", "module."):
        if state and all(name.startswith(prefix) or name == "n_averaged" for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items() if name != "n_averaged"}
            notes.append(f"{path.name}: cut the prefix `{prefix}` off every name")
    return Loaded(state, tuple(notes))


def fit(module: nn.Module, state: State, where: str) -> None:
    """Load `state` into `module`, which must have exactly these names and shapes.

    Raises:
        UsageError: naming what is missing, what is unexpected and what has another shape.
    """
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - state.keys() - _counters(wanted))
    unexpected = sorted(state.keys() - wanted.keys())
    misshaped = [
        f"{name} is {_shape(state[name])}, the model's is {_shape(wanted[name])}"
        for name in sorted(wanted.keys() & state.keys())
        if wanted[name].shape != state[name].shape
    ]
    strange = [
        f"{name} is {state[name].dtype}, {state[name].layout}, the model's is {wanted[name].dtype}"
        for name in sorted(wanted.keys() & state.keys())
        if state[name].is_floating_point() != wanted[name].is_floating_point()
        or state[name].layout is not torch.strided
        or state[name].is_meta
    ]
    problems = [
        f"{len(names)} {what} ({_few(names)})"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshaped),
            ("of another kind", strange),
        )
        if names
    ]
    if problems:
        raise UsageError(
            f"{where} does not fit the model: {'; '.join(problems)}",
            fix="check the variant, num_classes and stem" + _hint(misshaped),
        )
    module.load_state_dict(state, strict=False)


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
    try:
        with torch.inference_mode():
            module(noise)
    except Exception as error:  # whatever a forward raises
        raise UsageError(
            f"the model cannot take images of {input_shape}: {one_line(error)}", fix="give --input"
        ) from error
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


def _plain(error: BaseException) -> str:
    """One line without the terminal colours that torch puts into this message."""
    return re.sub(r"\x1b\[[0-9;]*m", "", one_line(error))[:120]
