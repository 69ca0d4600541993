"""Where a node stands."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import DONE
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
    """

    state: str = WAITING
    exit_code: int = DONE
    reason: str = ""
    fix: str = ""
    record: Record | None = None
    passed: bool = False
    log: str = ""
    command: str = ""
