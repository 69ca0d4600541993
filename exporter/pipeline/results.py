"""Where a node stands."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import BUG, DONE, GATE, INCONCLUSIVE, INTEGRITY, UNAVAILABLE, USAGE, ZooError
from .expand import Node
from .kinds import Check, Export
from .left import take
from .local_process import Ended
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


KINDS = {one.kind: one.exit_code for one in ZooError.__subclasses__()}  # as errors are called in JSON


def own_part(node: Node, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What of a command's JSON is of one node: of an export or a check the artifact's row."""
    if isinstance(node.options, Export | Check):
        backend = node.backend
        precision = node.form.split("-")[1] if "-" in node.form else ""
        for row in payload.get("artifacts", ()):
            if row.get("backend") == backend and row.get("precision") == precision:
                return dict(row)
        return {}
    return {name: value for name, value in payload.items() if name not in ("ok", "exit_code")}


def error_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """The error in them; empty where there is none."""
    found = facts.get("error")
    return dict(found) if isinstance(found, dict) else {}


def code_of(node: Node, facts: Mapping[str, Any], exit_code: int) -> int:
    """Of one node of a command that did several."""
    error = error_of(facts)
    if error:
        return KINDS.get(error.get("kind", ""), exit_code or USAGE)
    if isinstance(node.options, Check):
        verdicts = {gate.get("verdict") for gate in facts.get("gates", ())}
        return GATE if "fail" in verdicts else INCONCLUSIVE if "inconclusive" in verdicts else DONE
    if isinstance(node.options, Export):
        return DONE
    return exit_code


def reason_of(node: Node, facts: Mapping[str, Any]) -> str:
    """Why it failed: of a check, the gates that did not pass."""
    if "error" in facts:
        return str(error_of(facts).get("message", ""))
    if not isinstance(node.options, Check):
        return ""
    bad = [gate for gate in facts.get("gates", ()) if gate.get("verdict") in ("fail", "inconclusive")]
    return "; ".join(f"{gate['name']} {gate['verdict']}: {gate['reason']}" for gate in bad)


@dataclass(frozen=True)
class Judged:
    """Where a node stands now, and what is remembered of it.

    Attributes:
        outcome: of the node.
        record: to be written; None where the same is to be tried again.
    """

    outcome: Outcome
    record: Record | None = None


def judge(node: Node, ended: Ended, key: str, before: Outcome, folder: Path, out: str, log: str) -> Judged:
    """Judge one node of a command.

    A gate that failed is a result and remembered as one; what this machine lacks, a mistake and a bug are tried again.

    Args:
        node: that was to be made.
        ended: the command, with this node's share of its seconds.
        key: of the node.
        before: it ended; its command and log are kept.
        folder: of the pipeline file.
        out: the pipeline's, from there.
        log: of the command, from there.
    """

    def failed(code: int, reason: str, fix: str, state: str = FAILED) -> Outcome:
        return Outcome(state, code, reason, fix, log=before.log, command=before.command)

    if ended.exit_code < 0 or ended.exit_code == BUG:
        why = f"signal {-ended.exit_code} ended it" if ended.exit_code < 0 else "a bug in zoo"
        why += ", perhaps for want of memory" if ended.exit_code == -9 else ""
        return Judged(failed(BUG, str(error_of(ended.payload).get("message") or why), "see its log"))
    facts = own_part(node, ended.payload)
    error = error_of(facts) or error_of(ended.payload)
    path = path_of(node, facts, folder, out)
    code = code_of(node, facts or ended.payload, ended.exit_code)
    if error or path is None:
        message = error.get("message") or f"its command ended with {ended.exit_code} and left nothing"
        state = LACKING if code == UNAVAILABLE else FAILED
        outcome = failed(code or USAGE, str(message), str(error.get("fix", "")), state)
        if code != GATE:
            return Judged(outcome)
        return Judged(outcome, Record(key, "", "", GATE, ended.seconds, before.command, log=before.log,
                                      facts={"error": error}))  # fmt: skip
    try:
        found = take(folder / path)
    except (OSError, ValueError) as problem:
        return Judged(failed(INTEGRITY, f"what it left is not whole: {problem}", "run again"))
    record = Record(
        key, found.digest, path, code, round(ended.seconds, 3), before.command,
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), ended.host, log, facts,
        found.marks,
    )  # fmt: skip
    known = code in (DONE, GATE)
    outcome = Outcome(FINISHED if known else FAILED, code, reason_of(node, facts), record=record, passed=code == DONE,
                      log=log, command=before.command)  # fmt: skip
    return Judged(outcome, record if known else None)


def path_of(node: Node, facts: Mapping[str, Any], folder: Path, out: str) -> str | None:
    """Where a node's result lies, from the pipeline file's folder; None where there is none."""
    options = node.options
    if isinstance(options, Export):
        found = facts.get("artifact")
        return str(found) if found else None
    if isinstance(options, Check):
        found = facts.get("artifact")
        if not found:
            return None
        place = folder / f"{found}.check.json"
        return os.path.relpath(place, folder) if place.is_file() else None
    name = f"{out}/{node.id}"
    if options.command == "package" and getattr(options, "layout", "zoo") == "zoo":
        name = f"{name}.zoo"
    return name if (folder / name).exists() else None
