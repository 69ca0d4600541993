"""What pruning has to beat: the same architecture at a smaller width, of the same cost, trained for as many steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ...calibration.pruning.groups import costs_of
from ...errors import UsageError
from ...models.fresh import new_model
from ...models.registry import MODELS
from ...models.sources import Model, SourceOptions
from ...models.training.recipe import Recipe

NARROWEST, TRIES = 0.05, 12


@dataclass(frozen=True)
class Narrow:
    """A model of another width, untrained.

    Attributes:
        model: ready to be trained.
        width: of its channels beside the original's.
        macs: of one image.
    """

    model: Model
    width: float
    macs: float


@dataclass(frozen=True)
class Beside:
    """The same architecture at a smaller width, trained from scratch for as many steps.

    Attributes:
        run: its folder.
        width: of its channels.
        macs: of one image.
        top1: what it reached.
        ratios: time of the unpruned model over its own, one a round.
    """

    run: str
    width: float
    macs: float
    top1: float
    ratios: tuple[float, ...] = ()


def narrow_like(model: Model, macs: float, shape: tuple[int, int, int], seed: int = 0) -> Narrow | str:
    """The widest one that costs no more than `macs`, or why there is none.

    Args:
        model: whose architecture it is.
        macs: of one image.
        shape: of that image.
        seed: of its initialisation.
    """
    source, own = model.origin.source, float(model.origin.arguments.get("width", 1.0))
    if source not in MODELS:
        return f"{source} has no width that could be scaled: only zoo's own architectures have"
    low, high, best = NARROWEST * own, own, None
    for _ in range(TRIES):
        middle = (low + high) / 2
        made = _at(model, middle, shape, seed)
        if isinstance(made, str):
            return made
        if made.macs <= macs:
            low, best = middle, made
        else:
            high = middle
    return best or f"no width of {source} costs as little"


def from_scratch(recipe: Recipe, default: Recipe) -> Recipe:
    """The recipe that suits the data, for as many epochs of as large batches, and in the same arithmetic."""
    return replace(default, epochs=recipe.epochs, batch_size=recipe.batch_size, precision=recipe.precision)


def _at(model: Model, width: float, shape: tuple[int, int, int], seed: int) -> Narrow | str:
    arguments = {**model.origin.arguments, "width": round(width, 4)}
    try:
        made = new_model(model.origin.source, model.spec, SourceOptions(arguments=arguments, seed=seed))
    except UsageError as error:
        return f"{model.origin.source} cannot be made at another width: {error.what}"
    costs = costs_of(made.module, torch.zeros(2, *shape))
    return Narrow(made, round(width, 4), sum(cost.macs(cost.inputs, cost.outputs) for cost in costs.values()))
