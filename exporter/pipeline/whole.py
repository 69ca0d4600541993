"""Whether what a command is about to read is still what was made, and what follows where it is not.

What is judged or packaged is read by hash, whatever size and times say: evidence is of bytes, not of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...errors import INTEGRITY
from .expand import Node, ancestors, inputs_of
from .known import Known
from .results import FAILED, FINISHED, RUNNING, WAITING, Outcome
from .state import Record, State

PROVES = ("package", "check", "profile")  # kinds that say something of the very bytes that they are given


class Progress(Protocol):
    """What is known of a pipeline as it runs; the scheduler's Run."""

    nodes: tuple[Node, ...]
    state: State
    outcomes: dict[str, Outcome]
    again: dict[str, str]
    spoilt: set[str]
    overtaken: set[str]
    fresh: dict[str, Record]
    by_id: dict[str, Node]
    known: Known

    def outcome(self, node: str) -> Outcome:
        """What came of a node so far."""
        ...

    def take(self, name: str, outcome: Outcome, record: Record) -> Outcome:
        """Remember a record that was looked at again."""
        ...


def inputs_are_whole(run: Progress, group: Sequence[Node]) -> bool:
    """Whether all that a group reads is as it was made; what is not is to be made again, and with it the group."""
    for node in group:
        for name in inputs_of(node, run.by_id):
            outcome = run.outcome(name)
            if outcome.state in (WAITING, RUNNING):
                return False
            if not outcome.passed or outcome.record is None:
                continue
            found = run.state.look(outcome.record, read=node.kind in PROVES)
            if found.changed:
                spoil(run, name, found.changed)
                return False
            run.take(name, outcome, found.record)
    return True


def spoil(run: Progress, name: str, changed: str) -> None:
    """Take back that a node is done, and all that was decided since it was."""
    outcome = run.outcomes.pop(name)
    if outcome.state == FINISHED:  # made again it would perhaps be changed again, without an end
        reason, fix = f"{changed} after it was made", "see what else writes there, then run again"
        run.outcomes[name] = Outcome(FAILED, INTEGRITY, reason, fix, log=outcome.log, command=outcome.command)
    else:
        run.spoilt.add(name)
        run.again[name] = changed
    run.fresh.pop(name, None)
    for node in run.nodes:
        if any(one.id == name for one in ancestors(node, run.by_id)):
            run.known.forget(node.id)
            if run.outcome(node.id).state == RUNNING:
                run.overtaken.add(node.id)
            else:
                run.outcomes.pop(node.id, None)
