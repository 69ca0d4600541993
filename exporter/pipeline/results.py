"""Where a node stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import DONE, INCONCLUSIVE
from .expand import Node
from .state import Record

# What a node can be.
CACHED, FINISHED, FAILED, LACKING, BLOCKED = "cached", "done", "failed", "lacking", "blocked"
WAITING, RUNNING = "waiting", "running"


@dataclass(frozen=True)
class Outcome:
    """Where a node stands.

    Attributes:
        state: waiting, running, cached, done, failed, lacking or blocked.
        exit_code: of its command; 3 where this machine lacks something, 0 where it is blocked by another.
        reason: in words, where it is not done.
        fix: what to do.
        record: of a node that is done or cached.
        passed: whether others may build on it.
        log: of its command.
        command: as a person types it.
        again: why it is made, or was made, again; "" where it was not made before.
    """

    state: str = WAITING
    exit_code: int = DONE
    reason: str = ""
    fix: str = ""
    record: Record | None = None
    passed: bool = False
    log: str = ""
    command: str = ""
    again: str = ""


def blocked(node: Node, needs: Mapping[str, Outcome]) -> Outcome | None:
    """Where a node stands that cannot be made for want of what it needs, all of which is decided; None where it can."""
    bad = [name for name, one in needs.items() if not one.passed]
    if not node.partial and bad:
        return Outcome(BLOCKED, reason=f"waits for {bad[0]}: {needs[bad[0]].state}")
    if node.partial and len(bad) == len(needs):
        told = [f"{name} {'inconclusive' if one.exit_code == INCONCLUSIVE else one.state}"
                for name, one in needs.items()]  # fmt: skip
        return Outcome(BLOCKED, reason=f"none of what it takes could be had: {', '.join(told[:3])}"
                       f"{', ...' if len(told) > 3 else ''}")  # fmt: skip
    return None
