"""That a pruned model opens again: it is rebuilt as opening its run would, and its answers are compared."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...calibration.pruning.raised import named
from ...config import from_mapping, to_json
from ...errors import IntegrityError, UsageError, ZooError
from ...models import weights as weights_io
from ...models.copies import copy_of
from ...models.data.dataset import Split
from ...models.runs import WEIGHTS, Origin
from ...models.sources import Model, build, logits_of, rebuild
from .accuracy import prepared

IMAGES = 8
CLOSE = 1e-4  # of the logits' size: the same sums of the same weights


def refuse_unopenable(model: Model, split: Split) -> None:
    """Refuse a pruned model, before it is recovered, that could not be rebuilt from its record and its weights.

    Args:
        model: pruned, with the widths of the record in its origin.
        split: whose first images its answers are compared on.

    Raises:
        UsageError: it cannot be rebuilt, or answers otherwise then; with the layer that is to blame.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        weights_io.save(path, model.module)
        layer, why = what_differs(model.module, path, model, split)
    if why:
        raise UsageError(
            f"the pruned model could not be opened again, so it is not trained: {why}",
            fix=f"keep the channels of that layer: --keep {layer}"
            if layer
            else "make its source give the same module each time, where the command is run",
        )


def refuse_unwritten(model: Model, module: nn.Module, path: Path, split: Split) -> None:
    """Refuse to finish a run whose weights, as written, do not give the recovered model again.

    Args:
        model: that is recovered, with its origin.
        module: the recovered one.
        path: its weights file.
        split: whose first images its answers are compared on.

    Raises:
        IntegrityError: it cannot be opened, or answers otherwise.
    """
    _layer, why = what_differs(module, path, model, split)
    if why:
        raise IntegrityError(
            f"{path.parent}: the recovered model cannot be opened again, so it is no finished run: {why}",
            fix="the checkpoint is kept: --resume goes on with it",
        )


def what_differs(module: nn.Module, path: Path, model: Model, split: Split) -> tuple[str, str]:
    """Return how the module that record and weights give differs from this one, after the layer whose shapes differ.

    Both are "" where there is nothing of the kind.
    """
    module = copy_of(module).cpu().float().eval()
    few = split.take(np.arange(min(IMAGES, len(split))))
    images = np.concatenate([inputs.numpy() for inputs, _ in prepared(few, model)])
    try:
        origin = from_mapping(Origin, json.loads(to_json(model.origin)), "run.json")
        again = rebuild(origin, path)
        wanted, got = logits_of(module, images), logits_of(again, images)
    except ZooError as error:
        layer = _other_shape(module, model.origin)
        return layer or ("", str(error))
    if got.shape == wanted.shape and np.linalg.norm(got - wanted) <= CLOSE * np.linalg.norm(wanted):
        return "", ""
    return _other_output(module, again, images)


def _other_shape(module: nn.Module, origin: Origin) -> tuple[str, str] | None:
    """Return the first layer of which a tensor is of another shape than in the rebuilt module; None for none."""
    try:
        other = build(origin).state_dict()
    except ZooError:
        return None
    for name, tensor in module.state_dict().items():
        if name not in other or other[name].shape != tensor.shape:
            layer, _, own = name.rpartition(".")
            rebuilt = f"{tuple(other[name].shape)} in the rebuilt one" if name in other else "not in the rebuilt one"
            return layer, f"the {own} of {named(module, layer)} is {tuple(tensor.shape)} here and {rebuilt}"
    return None


def _other_output(module: nn.Module, again: nn.Module, images: np.ndarray) -> tuple[str, str]:
    """Return the first layer whose outputs are other ones in the rebuilt module."""
    wanted, got = _outputs(module, images), _outputs(again, images)
    layer = next(
        (name for name, output in wanted.items()
         if name not in got or got[name].shape != output.shape or not torch.allclose(got[name], output, CLOSE, CLOSE)),
        "",
    )  # fmt: skip
    return "", f"{named(module, layer)} answers otherwise when it is rebuilt"


def _outputs(module: nn.Module, images: np.ndarray) -> dict[str, torch.Tensor]:
    """Return the output of every layer that is called, by name, in the order of the calls."""
    found: dict[str, torch.Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _part, _inputs, output: found.update({name: output} if isinstance(output, torch.Tensor) else {})

    handles = [part.register_forward_hook(note(name)) for name, part in module.named_modules() if name]
    logits_of(module, images)
    for handle in handles:
        handle.remove()
    return found
