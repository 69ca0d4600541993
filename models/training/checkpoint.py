"""What a training needs to go on where it was killed: one safetensors file, replaced whole after each epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ... import atomic
from ...errors import IntegrityError, UsageError, one_line
from .. import weights


def save_checkpoint(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator, facts: dict[str, Any]
) -> None:
    """Write weights, momentum, random state and `facts` (JSON values; what must agree, and the epochs done)."""
    tensors = {f"model.{name}": tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{name}"] = value.detach().cpu().contiguous()
    tensors["random.global"] = torch.get_rng_state()
    tensors["random.augment"] = generator.get_state().cpu()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    # channels_last tensors are dense too, but safetensors wants row-major ones
    dense = weights.unshared({name: t.contiguous() for name, t in tensors.items()})
    data = safetensors.torch.save(dense, {"facts": json.dumps(facts)})
    atomic.write_file(path, data)


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint. Raises IntegrityError when the file is corrupt."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["facts"])
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise IntegrityError(f"{path}: not a whole checkpoint ({one_line(error)})", fix="use --overwrite") from error


def load_checkpoint(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, generator: torch.Generator, facts: dict[str, Any]
) -> int:
    """Restore everything; returns how many epochs are done.

    Raises:
        UsageError: the checkpoint belongs to another model, recipe or data; naming what differs.
        IntegrityError: the file is corrupt.
    """
    saved = read_facts(path)
    differing = [f"{key} was {saved.get(key)!r}, is {facts[key]!r}" for key in facts if saved.get(key) != facts[key]]
    if differing:
        raise UsageError(f"{path}: cannot resume: {'; '.join(differing)}", fix="use the same options, or --overwrite")
    try:
        return _restore(safetensors.torch.load_file(path), module, optimiser, generator, saved)
    except (KeyError, RuntimeError, ValueError, TypeError, SafetensorError) as error:
        raise IntegrityError(f"{path}: not a whole checkpoint ({one_line(error)})", fix="use --overwrite") from error


def _restore(
    tensors: dict[str, Tensor],
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    saved: dict[str, Any],
) -> int:
    module.load_state_dict(_under(tensors, "model."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(tensors, "optimiser.").items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.global"])
    generator.set_state(tensors["random.augment"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return int(saved["epochs_done"])


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
