"""What a command that has ended means for a node that it was to make. Reads what it left, and writes nothing."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import BUG, DONE, GATE, INTEGRITY, UNAVAILABLE, USAGE
from .answers import code_of, error_of, own_part, reason_of
from .expand import Node
from .kinds import Check, Export
from .left import take
from .local_process import Ended
from .results import FAILED, FINISHED, LACKING, Outcome
from .state import Record


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
