"""How many channels of each group stay: a pure function of scores, costs and what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from .groups import Group
from .stages import Curve, shares_by_root

Spread = Literal["global", "uniform", "sensitivity"]
SPREADS: tuple[str, ...] = get_args(Spread)
Scores = Mapping[str, npt.NDArray[np.float64]]
LEAST = 0.1  # of a group's channels stay, whatever they score
BARS = 513  # of a spread without scores


@dataclass(frozen=True)
class Budget:
    """What is asked for.

    Attributes:
        share: of the cost that is to be left; None where the stages say all.
        spread: global ranks the channels of all groups together; uniform takes the same share of each; sensitivity
            takes of each stage what costs the same accuracy.
        round_to: channels that stay are a multiple of it, or all.
        least: share of a group's channels that stays in any case.
        stages: shares of their channels that stages, or groups by their first layer, keep, whatever the others do.
        curves: for sensitivity, what each stage costs.
    """

    share: float | None
    spread: Spread = "global"
    round_to: int = 8
    least: float = LEAST
    stages: Mapping[str, float] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()

    def __post_init__(self) -> None:
        if self.share is None and not self.stages:
            raise UsageError("nothing says how much is to be left", fix="give --macs, --latency or --stage")
        if self.share is not None and not 0 < self.share < 1:
            raise UsageError(f"the share that is left must be above 0 and below 1, got {self.share}", fix="such as 0.5")
        if self.spread not in SPREADS:
            raise UsageError(f"spread={self.spread} is none of {', '.join(SPREADS)}", fix="give one of them")
        if not 1 <= self.round_to <= 256:
            raise UsageError(f"channels are rounded to 1 to 256, got {self.round_to}", fix="8, 16 or 32")
        if not 0 < self.least <= 1:
            raise UsageError(f"least is a share, got {self.least}")
        for name, share in self.stages.items():
            if not 0 < share <= 1:
                raise UsageError(
                    f"stage {name} would keep {share:g} of its channels, which must be above 0 and at most 1",
                    fix=f"such as --stage {name}=0.5",
                )


def choose_widths(
    groups: Sequence[Group],
    scores: Scores,
    cost: Callable[[Mapping[str, int]], float],
    budget: Budget,
    original: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """How many channels of each group stay, by its root: as many as the budget allows.

    The bar that a channel's score has to pass rises until the cost fits; then what the rounding left over is given
    back, to the groups that lost the channels of the highest scores first.

    Args:
        groups: of the model.
        scores: by root.
        cost: of a choice; it does not fall when more channels stay.
        budget: what is asked for.
        original: channels of each group before earlier steps, which shares of stages are of; None for the first.

    Raises:
        UsageError: even the narrowest choice costs more, or a stage that is not there.
    """
    fixed = shares_by_root(groups, budget.stages)
    first = {group.root: (original or {}).get(group.root, group.channels) for group in groups}
    removable = {root: curve for curve in budget.curves for root in curve.layers}
    ranked = {root: np.sort(values)[::-1] for root, values in scores.items()}

    def at(bar: float) -> dict[str, int]:
        return {group.root: rounded(min(wanted(group, bar), group.channels), group, budget)
                for group in groups}  # fmt: skip

    def wanted(group: Group, bar: float) -> float:
        if group.root in fixed:
            return first[group.root] * fixed[group.root]
        if budget.spread == "uniform":
            return group.channels * (1 - bar)
        if budget.spread == "sensitivity":
            curve = removable.get(group.root)
            return first[group.root] * (1 - curve.removable(bar)) if curve else group.channels
        return float((ranked[group.root] > bar).sum()) if bar > 0 else group.channels

    if budget.share is None:
        return at(0.0)
    limit = budget.share * cost({group.root: group.channels for group in groups})
    bars: Sequence[float] = list(np.linspace(0, 1, BARS))
    if budget.spread == "global":
        bars = [0.0, *np.unique(np.concatenate(list(ranked.values()))), np.inf]
    low, high = 0, len(bars) - 1
    if cost(at(bars[low])) <= limit:
        return at(bars[low])  # the stages alone come below
    if cost(at(bars[high])) > limit:
        least = cost(at(bars[high])) / limit * budget.share
        raise UsageError(
            f"{budget.share:g} of the cost cannot be reached: with the fewest channels {least:.2f} is left",
            fix="ask for more, or round to fewer channels",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(at(bars[middle])) <= limit else (middle, high)
    free = [group for group in groups if group.root not in fixed]
    return _filled(at(bars[high]), free, ranked, cost, limit, budget)


def rounded(wanted: float, group: Group, budget: Budget) -> int:
    """Return how many channels of a group stay: the nearest multiple, not fewer than the least, at most all."""
    channels, step = group.channels, group.step(budget.round_to)
    least = min(channels, max(step, int(np.ceil(budget.least * channels / step)) * step))
    near = int(wanted / step + 0.5) * step
    return channels if wanted >= channels or near >= channels else max(near, least)


def _filled(
    kept: dict[str, int],
    groups: Sequence[Group],
    ranked: Scores,
    cost: Callable[[Mapping[str, int]], float],
    limit: float,
    budget: Budget,
) -> dict[str, int]:
    """Give back what fits, by the score of the best channel that would come back."""
    closed: set[str] = set()
    while True:
        open_groups = [group for group in groups if group.root not in closed and kept[group.root] < group.channels]
        if not open_groups:
            return kept
        best = max(open_groups, key=lambda group: ranked[group.root][kept[group.root]])
        count = kept[best.root] + best.step(budget.round_to)
        more = {**kept, best.root: min(count, best.channels)}
        if cost(more) <= limit:
            kept = more
        else:
            closed.add(best.root)
