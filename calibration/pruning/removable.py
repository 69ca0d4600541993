"""Which channels of a module can go: each coupling that was read is tried on copies before anything relies on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ...errors import UsageError
from ...models.copies import copy_of
from .groups import INSTEAD, Group, Structure, trace_groups
from .raised import named, raised_in
from .symmetry import Probe, misfit


def structure_of(module: nn.Module, shape: tuple[int, int, int], ignored: Sequence[nn.Module] = ()) -> Structure:
    """Trace a module and find the groups whose channels can go; the others stay, each with the reason.

    Args:
        module: in evaluation mode, on the CPU; it is not changed.
        shape: channels, height and width of an image.
        ignored: layers whose outputs stay.

    Raises:
        UnavailableError: torch-pruning is missing.
        UsageError: the module cannot be traced, or all its channels have to stay.
    """
    traced = trace_groups(module, shape, ignored)
    stays = dict(traced.stays)
    fitting: list[Group] = []
    for group in traced.groups:
        why = misfit(group, module)
        if why:
            stays[group.root] = why
        else:
            fitting.append(group)
    probe = Probe(module, shape)
    moved = "its channels are not interchangeable: an operation behind it counts on their order or number"
    paths = {id(part): path for path, part in module.named_modules()}
    held = [paths[id(part)] for part in ignored if id(part) in paths]
    for check in (
        lambda groups: "" if probe.holds(groups) else moved,
        lambda groups: why_not_removed(module, shape, held, groups),
    ):
        fitting, refused = largest_that_hold(fitting, check)
        stays |= refused
    if not fitting:
        why = told_stays(stays, module) or "every layer stays, or is the last one"
        raise UsageError(f"no channels of {type(module).__name__} can be removed: {why}", fix=INSTEAD)
    return replace(traced, groups=tuple(fitting), stays=stays)


def largest_that_hold(
    groups: Sequence[Group], check: Callable[[Sequence[Group]], str]
) -> tuple[list[Group], dict[str, str]]:
    """Return groups that pass a check together, and of the others, by their root, why they do not.

    All are tried at once, and what fails is halved, so that a module without a problem is tried once.

    Args:
        groups: to be tried.
        check: the reason why some groups fail, or "".
    """
    good: list[Group] = []
    refused: dict[str, str] = {}

    def settle(some: Sequence[Group]) -> None:
        why = check([*good, *some]) if some else ""
        if not why:
            good.extend(some)
        elif len(some) == 1:
            refused[some[0].root] = why
        else:
            settle(some[: len(some) // 2])
            settle(some[len(some) // 2 :])

    settle(groups)
    return good, refused


def why_not_removed(
    module: nn.Module, shape: tuple[int, int, int], ignored: Iterable[str], groups: Sequence[Group]
) -> str:
    """Take half of the channels of these groups out of a copy; return why it does not run then, or ""."""
    tried = copy_of(module)
    structure = trace_groups(tried, shape, [tried.get_submodule(name) for name in ignored])
    wanted, random = {group.root for group in groups}, np.random.default_rng(0)
    left: dict[str, int] = {}
    try:
        for group in structure.groups:
            if group.root in wanted:
                step = group.step(1)
                count = group.channels // 2 // step * step
                structure.remove(group, group.lowest(random.random(group.channels).tolist(), count))
                left[group.root] = group.channels - count
        with torch.no_grad():
            tried(torch.zeros(2, *shape))
    except Exception as error:  # whatever torch-pruning or a foreign forward raises  # noqa: BLE001
        return f"with fewer channels the model does not run: {raised_in(error, tried)}"
    for group in structure.groups:
        layer = tried.get_submodule(group.root)
        got = getattr(layer, "out_channels", getattr(layer, "out_features", None))
        if group.root in left and got != left[group.root]:
            return f"taking {group.channels - left[group.root]} channels takes {group.channels - (got or 0)}"
    return ""


def told_stays(stays: Mapping[str, str], module: nn.Module, most: int = 2) -> str:
    """Return in one line which layers keep all their channels, and why; "" for none."""
    told = [why if root in why else f"{named(module, root)}: {why}" for root, why in stays.items()]
    return "; ".join(told[:most]) + (f"; and {len(told) - most} more layers" if len(told) > most else "")
