"""One judged check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import DONE, GATE, INCONCLUSIVE

Verdict = Literal["pass", "fail", "inconclusive", "skipped"]


@dataclass(frozen=True)
class Gate:
    """A verdict with its reason and the numbers it was judged by; a check that cannot tell says so."""

    name: str
    verdict: Verdict
    reason: str
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """4 failed, 6 inconclusive, else 0: skipped gates never change the code."""
        return {"fail": GATE, "inconclusive": INCONCLUSIVE}.get(self.verdict, DONE)

    def as_mapping(self) -> dict[str, Any]:
        """As `zoo check --json` shows it."""
        return {"name": self.name, "verdict": self.verdict, "reason": self.reason, **self.numbers}


def hardest(gates: Iterable[Gate]) -> Gate:
    """Of several looks at the same thing the one that decides: a failure before doubt, doubt before a pass."""
    order = ("fail", "inconclusive", "pass", "skipped")
    return min(gates, key=lambda gate: order.index(gate.verdict))
