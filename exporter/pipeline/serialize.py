"""A pipeline's nodes as plain values and as tables: what --json, --dry-run, --status and the report say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import DONE, INCONCLUSIVE, UNAVAILABLE, worst
from .called import names_of
from .command_line import command_of, expected, together
from .expand import Node
from .results import BLOCKED, CACHED, FAILED, FINISHED, LACKING, RUNNING, WAITING, Outcome
from .scheduler import Run

WORDS = {FAILED: "fail", LACKING: "unavailable", BLOCKED: "skipped"}


def exit_code(outcomes: Mapping[str, Outcome]) -> int:
    """Of the whole: the worst of its nodes by the order that all commands have."""
    return worst(one.exit_code for one in outcomes.values())


def as_mapping(run: Run) -> dict[str, Any]:
    """All of a run."""
    code = exit_code(run.outcomes)
    return {
        "pipeline": str(run.pipeline.path),
        "out": run.pipeline.settings.out,
        "nodes": [node_mapping(run, node) for node in run.nodes],
        "cached": sum(one.state == CACHED for one in run.outcomes.values()),
        "done": sum(one.state == FINISHED for one in run.outcomes.values()),
        "lacking": sum(one.state == LACKING for one in run.outcomes.values()),
        "failed": sum(one.exit_code not in (DONE, UNAVAILABLE) for one in run.outcomes.values()),
        "code": code,
    }


def heading(run: Run) -> str:
    """How many were made, were done before, and ran and left nothing that stays: a doubt is looked into each time."""
    failed = [one.exit_code for one in run.outcomes.values() if one.state == FAILED]
    doubts = sum(code == INCONCLUSIVE for code in failed)
    counted = as_mapping(run)
    parts = [f"{counted['done']} made", f"{counted['cached']} were done"]
    parts += [f"{doubts} ran and {'is' if doubts == 1 else 'are'} inconclusive"] if doubts else []
    parts += [f"{len(failed) - doubts} failed"] if len(failed) > doubts else []
    return ", ".join(parts)


def node_mapping(run: Run, node: Node) -> dict[str, Any]:
    """One node."""
    outcome = run.outcome(node.id)
    record = outcome.record
    return {
        "id": node.id,
        "step": node.step,
        "kind": node.kind,
        "variant": node.variant,
        "form": node.form,
        "needs": list(node.needs),
        "state": outcome.state,
        "exit_code": outcome.exit_code,
        "reason": outcome.reason,
        "fix": outcome.fix,
        "again": run.again.get(node.id, "") if outcome.state == WAITING else outcome.again,
        "path": record.path if record else "",
        "seconds": record.seconds if record else 0.0,
        "ended": record.ended if record else "",
        "host": record.host if record else "",
        "log": outcome.log,
        "command": outcome.command,
        "options": {name: value for name, value in asdict(node.options).items() if value not in (None, (), {}, [])},
    }


@dataclass(frozen=True)
class Planned:
    """What would run.

    Attributes:
        commands: of each node that waits, by its id; nothing runs for a source.
        lines: the commands that would run here, in order: one may do several nodes, unless some are ready earlier.
    """

    commands: dict[str, str]
    lines: tuple[str, ...]


def planned(run: Run) -> Planned:
    """Return the commands of all that is not done, with the paths where what they need will lie."""
    settings = run.pipeline.settings
    waiting = [node for node in run.nodes if run.outcome(node.id).state == WAITING and node.options.command]
    lost: set[str] = set()
    for node in waiting:
        waits_for_lost = [need in lost for need in node.needs]
        if run.missing(node) is not None or (all(waits_for_lost) if node.partial else any(waits_for_lost)):
            lost.add(node.id)
    made = run.made()
    names = names_of(run.nodes, expected(run.nodes, made, settings.out), made, run.state.folder)
    there = expected(run.nodes, made, settings.out, names)
    here = {name: made for name, made in there.items() if name not in lost}

    def line(nodes: Sequence[Node]) -> str:
        some = nodes[0].partial and any(need in here for need in nodes[0].needs)
        return command_of(nodes, here if some else there, settings).line()

    able = together([node for node in waiting if node.id not in lost])
    return Planned({node.id: line([node]) for node in waiting}, tuple(line(group) for group in able))


def standing(run: Run, node: Node) -> str:
    """In a cell: what a node is, would be, or why not."""
    outcome = run.outcome(node.id)
    if outcome.state == WAITING:
        missing = run.missing(node)
        if missing is not None:
            return f"unavailable: {missing}"
        why = f"; again: {run.again[node.id]}" if node.id in run.again else ""
        return f"{'to run, alone' if node.alone else 'to run'}{why}"
    if outcome.state == RUNNING:
        return "running"
    if outcome.state in (CACHED, FINISHED) and outcome.passed:
        return f"{outcome.state}; again: {outcome.again}" if outcome.again else outcome.state
    fix = f"; {outcome.fix}" if outcome.fix else ""
    word = "inconclusive" if outcome.exit_code == INCONCLUSIVE else WORDS.get(outcome.state, "fail")
    return f"{word}: {outcome.reason}{fix}"
