"""Stages of a network, and how much of each it can do without: accuracy against the share of channels removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...config import near
from ...errors import UsageError

if TYPE_CHECKING:
    from .groups import Group

REMOVED = (0.25, 0.5, 0.75)  # shares of a stage's channels that are tried


@dataclass(frozen=True)
class Curve:
    """What a stage costs.

    Attributes:
        stage: its name.
        layers: roots of its groups.
        removed: shares of its channels that were removed, from 0, rising.
        accuracy: of the network then, nothing else removed and nothing trained.
    """

    stage: str
    layers: tuple[str, ...]
    removed: tuple[float, ...]
    accuracy: tuple[float, ...]

    def removable(self, allowed: float) -> float:
        """The largest share that costs at most so much accuracy, between what was tried by straight lines.

        A share that costs less than a smaller one is held to cost as much: the smaller is noise, or luck. All channels
        cost all accuracy.
        """
        shares = np.array([*self.removed, 1.0])
        lost = np.maximum.accumulate([self.accuracy[0] - one for one in self.accuracy] + [1.0])
        if allowed >= lost[-1]:
            return 1.0
        above = int(np.argmax(lost > allowed))  # lost[0] is 0
        if above == 0:
            return 0.0
        part = (allowed - lost[above - 1]) / (lost[above] - lost[above - 1])
        return float(shares[above - 1] + part * (shares[above] - shares[above - 1]))


def stage_of(layer: str) -> str:
    """The stage that a layer belongs to: its name up to the first part with a digit, such as layer1 or features.3."""
    parts = layer.split(".")
    first = next((index for index, part in enumerate(parts) if any(map(str.isdigit, part))), len(parts) - 1)
    return ".".join(parts[: first + 1])


def by_stage(groups: Iterable[Group]) -> dict[str, tuple[Group, ...]]:
    """The groups of each stage, in the network's order."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(stage_of(group.root), []).append(group)
    return {name: tuple(several) for name, several in found.items()}


def shares_by_root(groups: Sequence[Group], stages: Mapping[str, float]) -> dict[str, float]:
    """The share of its channels that each group of a named stage keeps, by its root.

    Args:
        groups: of the model.
        stages: shares that stay, by stage, or by the name of a group's first layer, which counts for more.

    Raises:
        UsageError: no stage of that name.
    """
    known, roots = by_stage(groups), {group.root for group in groups}
    for name in stages:
        if name not in known and name not in roots:
            raise UsageError(
                f'no stage "{name}" with channels that can go{near(name, {*known, *roots})}',
                fix=f"one of {', '.join(known)}",
            )
    found = {group.root: stages[name] for name in known if name in stages for group in known[name]}
    return found | {name: share for name, share in stages.items() if name in roots}


def measure_curves(
    groups: Sequence[Group],
    accuracy: Callable[[Mapping[str, float]], float],
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Curve, ...]:
    """A curve for each stage.

    Args:
        groups: of the model.
        accuracy: of the model when each group named by its root keeps such a share of its channels.
        progress: is told (done, in all).
    """
    stages = by_stage(groups)
    whole, total, done = accuracy({}), 1 + len(stages) * len(REMOVED), 1
    progress(done, total)
    found: list[Curve] = []
    for name, members in stages.items():
        reached = [whole]
        for share in REMOVED:
            reached.append(accuracy({group.root: 1 - share for group in members}))
            done += 1
            progress(done, total)
        roots = tuple(group.root for group in members)
        found.append(Curve(name, roots, (0.0, *REMOVED), tuple(reached)))
    return tuple(found)
