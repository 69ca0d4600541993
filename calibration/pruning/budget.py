"""How many channels of each group stay: a pure function of scores, costs and what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from .groups import Group

Spread = Literal["global", "uniform"]
LEAST = 0.1  # of a group's channels stay, whatever they score


@dataclass(frozen=True)
class Budget:
    """What is asked for.

    Attributes:
        share: of the cost that is to be left.
        spread: global ranks the channels of all groups together; uniform takes the same share of each.
        round_to: channels that stay are a multiple of it, or all.
        least: share of a group's channels that stays in any case.
    """

    share: float
    spread: Spread = "global"
    round_to: int = 8
    least: float = LEAST

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"the share that is left must be above 0 and below 1, got {self.share}", fix="such as 0.5")
        if self.spread not in get_args(Spread):
            raise UsageError(f"spread={self.spread} is neither global nor uniform", fix="give one of them")
        if not 1 <= self.round_to <= 256:
            raise UsageError(f"channels are rounded to 1 to 256, got {self.round_to}", fix="8, 16 or 32")
        if not 0 < self.least <= 1:
            raise UsageError(f"least is a share, got {self.least}")


def choose_widths(
    groups: Sequence[Group],
    scores: Mapping[str, npt.NDArray[np.float64]],
    cost: Callable[[Mapping[str, int]], float],
    budget: Budget,
) -> dict[str, int]:
    """How many channels of each group stay, by its root: as many as the budget allows.

    The bar that a channel's score has to pass rises until the cost fits; then what the rounding left over is given
    back, to the groups that lost the channels of the highest scores first.

    Args:
        groups: of the model.
        scores: by root.
        cost: of a choice.
        budget: what is asked for.

    Raises:
        UsageError: even the narrowest choice costs more.
    """
    whole = {group.root: group.channels for group in groups}
    limit = budget.share * cost(whole)
    ranked = {root: np.sort(values)[::-1] for root, values in scores.items()}

    def at(bar: float) -> dict[str, int]:
        return {group.root: rounded(_wanted(group, ranked, bar, budget), group.channels, budget) for group in groups}

    bars = [0.0, *np.unique(np.concatenate(list(ranked.values()))), np.inf] if budget.spread == "global" else None
    if bars is None:
        bars = list(np.linspace(0, 1, 513))
    low, high = 0, len(bars) - 1
    if cost(at(bars[high])) > limit:
        least = cost(at(bars[high])) / cost(whole)
        raise UsageError(
            f"{budget.share:g} of the cost cannot be reached: with the fewest channels {least:.2f} is left",
            fix="ask for more, or round to fewer channels",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(at(bars[middle])) <= limit else (middle, high)
    return _filled(at(bars[high]), groups, ranked, cost, limit, budget)


def rounded(wanted: float, channels: int, budget: Budget) -> int:
    """A number of channels that stays: the nearest multiple, neither fewer than the least nor more than there are."""
    step = budget.round_to
    least = min(channels, max(step, int(np.ceil(budget.least * channels / step)) * step))
    near = int(wanted / step + 0.5) * step
    return channels if near >= channels else max(near, least)


def _wanted(group: Group, ranked: Mapping[str, npt.NDArray[np.float64]], bar: float, budget: Budget) -> float:
    if budget.spread == "uniform":
        return group.channels * (1 - bar)
    return float((ranked[group.root] > bar).sum()) if bar > 0 else group.channels


def _filled(
    kept: dict[str, int],
    groups: Sequence[Group],
    ranked: Mapping[str, npt.NDArray[np.float64]],
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
        count = kept[best.root] + budget.round_to
        more = {**kept, best.root: min(count, best.channels)}
        if cost(more) <= limit:
            kept = more
        else:
            closed.add(best.root)
