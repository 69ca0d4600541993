"""Structured pruning: channels are removed, so that what is left is a narrower model of ordinary layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from ...config import near
from ...errors import UsageError
from ...models.evaluation.features import last_linear
from ...models.runs import Narrowed
from ...models.widths import narrowed, widths_of
from .budget import Budget, choose_widths
from .criteria import Criterion, gather_gradients, score_all
from .groups import Price, Structure, macs_of, trace_groups
from .raised import raised_in
from .removable import structure_of, told_stays

MOST_STEPS = 100
Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Kept:
    """A group before and after.

    Attributes:
        root: the layer it is named by.
        channels: before.
        kept: after.
    """

    root: str
    channels: int
    kept: int


@dataclass(frozen=True)
class Pruned:
    """What was removed.

    Attributes:
        widths: what became smaller of each layer, from which the module is rebuilt.
        groups: before and after.
        stays: of the groups that keep all their channels, by their root, why.
        macs_before, macs: of one image.
        parameters_before, parameters: how many.
    """

    widths: Mapping[str, Narrowed]
    groups: tuple[Kept, ...]
    stays: Mapping[str, str]
    macs_before: float
    macs: float
    parameters_before: int
    parameters: int


def prune_channels(
    module: nn.Module,
    shape: tuple[int, int, int],
    budget: Budget,
    criterion: Criterion = "magnitude",
    *,
    keep: Iterable[str] = (),
    steps: int = 1,
    seed: int = 0,
    batches: Batches | None = None,
    between: Callable[[int], None] = lambda _step: None,
    price: Price = macs_of,
) -> Pruned:
    """Remove channels of a module, in place, until the budget's share of its cost is left.

    Args:
        module: in evaluation mode, on the CPU.
        shape: channels, height and width of an image.
        budget: what is asked for.
        criterion: which channels go.
        keep: modules whose outputs stay as they are.
        steps: parts in which the way is gone; scores are taken anew before each.
        seed: of the random criterion.
        batches: inputs and labels, for the criterion taylor.
        between: is called after each step but the last one, to let the model recover.
        price: what a layer costs: its MACs, or the time it takes.

    Raises:
        UsageError: a module that is not there, one that cannot be traced, or a budget that cannot be reached.
        UnavailableError: torch-pruning is missing.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"the way is gone in 1 to {MOST_STEPS} steps, got {steps}", fix="such as 4")
    if criterion == "taylor" and batches is None:
        raise UsageError("taylor judges by gradients, which need labelled images", fix="give --data")
    ignored = outputs_that_stay(module, keep)
    before = widths_of(module)
    first = structure_of(module, shape, ignored)
    whole, parameters = first.total({}, price), sum(one.numel() for one in module.parameters())
    sizes = {group.root: group.channels for group in first.groups}
    for step in range(1, steps + 1):
        structure = first if step == 1 else _still_works(module, shape, ignored, sizes)
        if criterion == "taylor" and batches is not None:
            gather_gradients(module, batches())
        scores = score_all(structure.groups, module, criterion, seed + step)
        own = part_of(budget, step / steps, whole / structure.total({}, price))
        try:
            kept = choose_widths(
                structure.groups, scores, lambda kept, now=structure: now.total(kept, price), own, original=sizes
            )
        except UsageError as error:
            why = told_stays(first.stays, module)
            raise UsageError(f"{error.what}{f' ({why})' if why else ''}", fix=error.fix) from error
        try:
            remove(structure, scores, kept)
        except Exception as error:  # what torch-pruning or a module of the user's own raises
            raise UsageError(
                f"a layer cannot be narrowed: {raised_in(error, module)}", fix="name it with --keep"
            ) from error
        module.zero_grad(set_to_none=True)
        if step < steps:
            between(step)
    after = _still_works(module, shape, ignored, sizes)
    left = {group.root: group.channels for group in after.groups}
    return Pruned(
        widths=narrowed(before, widths_of(module)),
        groups=tuple(Kept(root, count, left.get(root, count)) for root, count in sizes.items()),
        stays=first.stays,
        macs_before=first.macs({}),
        macs=after.macs({}),
        parameters_before=parameters,
        parameters=sum(one.numel() for one in module.parameters()),
    )


def _still_works(
    module: nn.Module, shape: tuple[int, int, int], ignored: list[nn.Module], roots: Collection[str]
) -> Structure:
    """Return the structure of a module that lost channels, with the groups of these roots.

    Raises:
        UsageError: its forward counted on the channels that went.
    """
    try:
        structure = trace_groups(module, shape, ignored)
    except UsageError as error:
        raise UsageError(
            f"with fewer channels the model does not run: {error.what}",
            fix="--keep the layers whose channels its forward counts on, or write it without such numbers",
        ) from error
    return replace(structure, groups=tuple(group for group in structure.groups if group.root in roots))


def part_of(budget: Budget, way: float, grown: float) -> Budget:
    """The budget of a step, at this part of the whole way.

    Args:
        budget: of the last step.
        way: above 0, at most 1.
        grown: the original cost over the cost now: shares of all steps multiplied are the budget's.
    """
    share = None if budget.share is None else min(max((1 - (1 - budget.share) * way) * grown, 1e-9), 1 - 1e-9)
    return replace(budget, share=share, stages={name: 1 - (1 - one) * way for name, one in budget.stages.items()})


def remove(structure: Structure, scores: Mapping[str, np.ndarray], kept: Mapping[str, int]) -> None:
    """Take the channels with the lowest scores out of every group."""
    for group in structure.groups:
        count = group.channels - kept.get(group.root, group.channels)
        if count > 0:
            structure.remove(group, group.lowest(scores[group.root].tolist(), count))


def outputs_that_stay(module: nn.Module, keep: Iterable[str]) -> list[nn.Module]:
    """The layer that makes the logits, those of auxiliary heads, and what was asked for."""
    parts = dict(module.named_modules())
    last = last_linear(module)
    found: list[nn.Module] = [last] if last is not None else []
    found += [part for name, part in parts.items() if "aux" in name.lower() and isinstance(part, nn.Linear)]
    if last is None:  # a fully convolutional classifier: its last convolution makes the logits
        found += [part for part in parts.values() if isinstance(part, nn.Conv2d)][-1:]
    for name in keep:
        if name not in parts or not name:
            raise UsageError(f'no module "{name}" to keep{near(name, parts)}', fix="name a module of the model")
        found += [part for part in parts[name].modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    return found
