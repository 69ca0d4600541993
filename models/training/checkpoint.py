"""What a training needs to go on where it was killed: one safetensors file, replaced whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ... import atomic
from ...errors import IntegrityError, UsageError, one_line
from .. import weights


@dataclass(frozen=True)
class Place:
    """Where a training stands.

    Attributes:
        epochs_done: whole ones.
        steps_done: of the next one.
        loss_sum: over these steps.
    """

    epochs_done: int = 0
    steps_done: int = 0
    loss_sum: float = 0.0


def save_checkpoint(
    path: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    facts: dict[str, Any],
    average: nn.Module | None = None,
) -> None:
    """Write weights, momentum, random state and `facts` (JSON values; what must agree, and the `Place`).

    `average` is the moving average of the weights, where there is one.
    """
    tensors = {f"model.{name}": tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor.detach().cpu() for name, tensor in average.state_dict().items()}
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
    path: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    facts: dict[str, Any],
    average: nn.Module | None = None,
) -> Place:
    """Restore everything; returns where it stopped.

    Raises:
        UsageError: the checkpoint belongs to another model, recipe or data; naming what differs.
        IntegrityError: the file is corrupt.
    """
    saved = read_facts(path)
    differing = [f"{key} was {saved.get(key)!r}, is {facts[key]!r}" for key in facts if saved.get(key) != facts[key]]
    if differing:
        raise UsageError(f"{path}: cannot resume: {'; '.join(differing)}", fix="use the same options, or --overwrite")
    try:
        tensors = safetensors.torch.load_file(path)
        if average is not None:
            average.load_state_dict(_under(tensors, "average."))
        return _restore(tensors, module, optimiser, generator, saved)
    except (KeyError, RuntimeError, ValueError, TypeError, SafetensorError) as error:
        raise IntegrityError(f"{path}: not a whole checkpoint ({one_line(error)})", fix="use --overwrite") from error


def _restore(
    tensors: dict[str, Tensor],
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    saved: dict[str, Any],
) -> Place:
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
    return Place(int(saved["epochs_done"]), int(saved.get("steps_done", 0)), float(saved.get("loss_sum", 0.0)))


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
