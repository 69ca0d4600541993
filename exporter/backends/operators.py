"""The time of a single operator, as a runtime's own profile tells it. It also runs inside packages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Operator:
    """An operator of the graph that a runtime made.

    Attributes:
        name: in that graph.
        kind: what it computes.
        microseconds: a run, the mean of the middle half of the runs after a warm-up.
    """

    name: str
    kind: str
    microseconds: float
