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

PRUNED = "pruned"  # the key of what was removed, for pruning that goes on
ARITHMETIC = "arithmetic"  # of the number format, which a training that goes on keeps
LAST_EPOCH = "last_epoch"  # of the line of metrics.jsonl that is written after the checkpoint


@dataclass(frozen=True)
class Place:
    """Where a training stands.

    Attributes:
        epochs_done: whole ones.
        steps_done: of the next one.
        loss_sum: over these steps.
        right_sum: of their images that were answered rightly.
    """

    epochs_done: int = 0
    steps_done: int = 0
    loss_sum: float = 0.0
    right_sum: float = 0.0


@dataclass(frozen=True)
class State:
    """What a checkpoint holds beside torch's own random state.

    Attributes:
        module: its weights.
        optimiser: its momenta.
        generator: of the augmentation.
        average: the moving average of the weights, where there is one.
    """

    module: nn.Module
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    average: nn.Module | None = None


def save_checkpoint(path: Path, state: State, facts: dict[str, Any]) -> None:
    """Write the state and `facts` (JSON values; what must agree, and the `Place`)."""
    tensors = _named("model.", state.module)
    if state.average is not None:
        tensors |= _named("average.", state.average)
    for index, values in state.optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{name}"] = value.detach().cpu().contiguous()
    tensors["random.global"] = torch.get_rng_state()
    tensors["random.augment"] = state.generator.get_state().cpu()
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


def load_checkpoint(path: Path, state: State, facts: dict[str, Any]) -> Place:
    """Restore everything; returns where it stopped.

    Raises:
        UsageError: the checkpoint belongs to another model, recipe or data; naming what differs.
        IntegrityError: the file is corrupt.
    """
    saved = read_facts(path)
    differing = [text for key in facts for text in _differences(key, saved.get(key), facts[key])]
    if differing:
        more = f"; and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise UsageError(
            f"{path}: cannot resume: {'; '.join(differing[:4])}{more}", fix="use the same options, or --overwrite"
        )
    try:
        return _restore(safetensors.torch.load_file(path), state, saved)
    except (KeyError, RuntimeError, ValueError, TypeError, SafetensorError) as error:
        raise IntegrityError(f"{path}: not a whole checkpoint ({one_line(error)})", fix="use --overwrite") from error


def _differences(key: str, was: Any, now: Any) -> list[str]:
    """What differs, by the innermost keys."""
    if isinstance(was, dict) and isinstance(now, dict):
        names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        return [text for name in names for text in _differences(f"{key}.{name}", was.get(name), now.get(name))]
    shown = [text if len(text) < 80 else f"{text[:80]}…" for text in (repr(was), repr(now))]
    return [f"{key} was {shown[0]}, is {shown[1]}"] if was != now else []


def _restore(tensors: dict[str, Tensor], state: State, saved: dict[str, Any]) -> Place:
    state.module.load_state_dict(_under(tensors, "model."))
    if state.average is not None:
        state.average.load_state_dict(_under(tensors, "average."))
    momenta: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(tensors, "optimiser.").items():
        index, _, key = name.partition(".")
        momenta.setdefault(int(index), {})[key] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": momenta, "param_groups": groups})
    torch.set_rng_state(tensors["random.global"])
    state.generator.set_state(tensors["random.augment"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    sums = (float(saved.get(name, 0.0)) for name in ("loss_sum", "right_sum"))
    return Place(int(saved["epochs_done"]), int(saved.get("steps_done", 0)), *sums)


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor.detach().cpu() for name, tensor in module.state_dict().items()}


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
