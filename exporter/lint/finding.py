"""What a rule found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that a target will not take, or will run worse than it could.

    Attributes:
        level: error when the target refuses or miscomputes it, warning when it is slower or narrower.
        rule: a short name, the same for every such finding.
        node: the node or tensor it is about.
        why: what is wrong, with the values.
        fix: what to do.
        source: where the rule comes from.
    """

    level: Literal["error", "warning"]
    rule: str
    node: str
    why: str
    fix: str
    source: str

    def __str__(self) -> str:
        return f"{self.node}: {self.why}; {self.fix}"
