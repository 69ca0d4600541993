"""What a command's JSON says of each node that it made: a command may have done several. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import DONE, GATE, INCONCLUSIVE, USAGE, ZooError
from .expand import Node
from .kinds import Check, Export

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
