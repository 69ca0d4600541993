"""A pipeline's nodes as plain values and as tables: what --json, --dry-run, --status and the report say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ...errors import DONE, INCONCLUSIVE, UNAVAILABLE, worst
from .commands import Command, command_of
from .graph import Node
from .outcome import BLOCKED, CACHED, FAILED, FINISHED, LACKING, RUNNING, WAITING, Outcome
from .run import Run

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
        "path": record.path if record else "",
        "seconds": record.seconds if record else 0.0,
        "ended": record.ended if record else "",
        "host": record.host if record else "",
        "log": outcome.log,
        "command": outcome.command,
        "options": {name: value for name, value in asdict(node.options).items() if value not in (None, (), {}, [])},
    }


def planned(run: Run, node: Node) -> str:
    """The command that a node would be, as far as its inputs are known; "" where they are not."""
    try:
        command: Command = command_of([node], run.made(), run.pipeline.settings)
    except KeyError:
        return ""
    return command.line()


def standing(run: Run, node: Node) -> str:
    """In a cell: what a node is, would be, or why not."""
    outcome = run.outcome(node.id)
    if outcome.state == WAITING:
        missing = run.missing(node)
        if missing is not None:
            return f"unavailable: {missing}"
        return "to run, alone" if node.alone else "to run"
    if outcome.state == RUNNING:
        return "running"
    if outcome.state in (CACHED, FINISHED) and outcome.passed:
        return f"{outcome.state}"
    fix = f"; {outcome.fix}" if outcome.fix else ""
    word = "inconclusive" if outcome.exit_code == INCONCLUSIVE else WORDS.get(outcome.state, "fail")
    return f"{word}: {outcome.reason}{fix}"
