"""A pipeline's nodes, made ready to be shown: what each step made, what is lacking, what failed, one sentence.

Reads tolerantly, as rows.py does: a report of a failure must not fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .rows import WORDS, Problem, Row, count, rank
from .rows import problems as problems_of_rows

CACHED, DONE, LACKING, BLOCKED = "cached", "done", "lacking", "blocked"
THERE = (CACHED, DONE)
UNAVAILABLE, INCONCLUSIVE = 3, 6  # exit codes
SHOWN = 6  # names in a sentence, nodes of a step
OPEN = 24  # nodes of a step of which some failed; more are opened by the links to those


@dataclass(frozen=True, eq=False)
class Node:
    """One thing that was to be made.

    Attributes:
        id: of its place in the page.
        name: exports/resnet18/onnx-int8.
        data: the node as printed.
        verdict: a word of the page's badges.
        word: what the badge says.
    """

    id: str
    name: str
    data: Mapping[str, Any]
    verdict: str
    word: str

    @property
    def kind(self) -> str:
        """The command."""
        return str(self.data.get("kind") or "")

    @property
    def variant(self) -> str:
        """The model, through all that was done to it."""
        return str(self.data.get("variant") or "")

    @property
    def there(self) -> bool:
        """Whether what it makes is there."""
        return self.data.get("state") in THERE


@dataclass(frozen=True)
class Step:
    """All nodes of one table of the pipeline's file."""

    id: str
    name: str
    nodes: tuple[Node, ...]

    @property
    def kinds(self) -> str:
        """The commands that it runs."""
        return ", ".join(dict.fromkeys(node.kind for node in self.nodes))

    def number(self, *states: str) -> int:
        """Of nodes in these states."""
        return sum(node.data.get("state") in states for node in self.nodes)

    @property
    def seconds(self) -> float:
        """That its nodes took when they were made."""
        return sum(seconds_of(node) for node in self.nodes)

    @property
    def failed(self) -> int:
        """Nodes that failed, or whose gates did."""
        return sum(node.verdict in ("fail", "error", "inconclusive") for node in self.nodes)

    @property
    def open(self) -> bool:
        """Whether its nodes are worth to be seen at once."""
        return len(self.nodes) <= (OPEN if self.failed else SHOWN)


def read_nodes(result: Mapping[str, Any]) -> list[Node]:
    """All nodes, in the order of the pipeline."""
    return [_node(index, data) for index, data in enumerate(result.get("nodes") or [])]


def steps_of(nodes: Sequence[Node]) -> list[Step]:
    """The tables of the file, in the order of their first node."""
    found: dict[str, list[Node]] = {}
    for node in nodes:
        found.setdefault(str(node.data.get("step") or "step"), []).append(node)
    return [Step(f"s{index}", name, tuple(mine)) for index, (name, mine) in enumerate(found.items())]


def seconds_of(node: Node) -> float:
    """That it took; 0 where that is not known."""
    found = node.data.get("seconds")
    return float(found) if isinstance(found, (int, float)) else 0.0


def problems(nodes: Sequence[Node], rows: Sequence[Row], data: str = "") -> list[Problem]:
    """What failed with its reason, and the gates that did not pass; what this machine lacks is no problem."""
    told = {row.label for row in rows}
    found = [
        Problem(node.id, node.name, "", node.verdict, _reason(node), str(node.data.get("fix") or ""))
        for node in nodes
        if node.verdict in ("fail", "error", "inconclusive") and not (node.kind == "check" and label_of(node) in told)
    ]
    return sorted([*found, *problems_of_rows(rows, data)], key=lambda one: rank(one.verdict))


def lacking(nodes: Sequence[Node]) -> str:
    """Return what this machine lacks as one sentence, each reason once with its remedy; "" where it lacks nothing."""
    reasons = {_reason(node): str(node.data.get("fix") or "") for node in nodes if node.verdict == "unavailable"}
    if not reasons:
        return ""
    why = "; ".join(f"{reason} ({fix})" if fix else reason for reason, fix in reasons.items())
    return f"Not made on this machine: {len(lost(nodes))} of {len(nodes)}, because {why}."


def lost(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes that cannot be made on this machine: what it lacks, and what waits for that."""
    found: dict[str, Node] = {}
    for node in nodes:
        needs = [need in found for need in node.data.get("needs") or ()]
        without = all(needs) if node.kind == "package" else any(needs)  # a package takes what there is
        waits = node.data.get("state") == BLOCKED and bool(needs) and without
        if node.verdict == "unavailable" or waits:
            found[node.name] = node
    return list(found.values())


def label_of(node: Node) -> str:
    """The artifact that a node makes or checks: resnet18/onnx-int8."""
    return f"{node.variant}/{node.data.get('form') or ''}"


def named(names: Sequence[str]) -> str:
    """A few names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def standing(result: Mapping[str, Any], nodes: Sequence[Node], rows: Sequence[Row]) -> tuple[str, str, str]:
    """Pass, fail or inconclusive; the sentence that says with numbers what was proven or failed; what there is besides.

    What this machine lacks changes neither: `lacking` says it.
    """
    code = result.get("exit_code")
    gates = [gate.verdict for row in rows for gate in row.gates if gate.verdict != "skipped"]
    bad, unsure, passed = (gates.count(word) for word in ("fail", "inconclusive", "pass"))
    failed = sum(node.verdict in ("fail", "error", "inconclusive") for node in nodes if node.kind != "check")
    there = sum(node.there for node in nodes)
    parts = [
        f"{failed} of {len(nodes)} could not be made" if failed else "",
        f"{bad} of {count(len(gates), 'check')} failed" if bad else "",
        f"{unsure} of {count(len(gates), 'check')} cannot be judged" if unsure else "",
    ]
    told = ", ".join(part for part in parts if part)
    fine = not told and there and (code == 0 or (code == UNAVAILABLE and passed))
    verdict = "pass" if fine else "inconclusive" if code in (0, UNAVAILABLE, INCONCLUSIVE) else "fail"
    sentence = proven(rows) or f"{there} of {len(nodes)} are made, and nothing was checked"
    if told:
        sentence = f"{WORDS[verdict]}: {told}"
    elif not nodes:
        sentence = "There is nothing to make"
    elif verdict == "fail":
        sentence = f"{sentence}; the command ended with exit code {code}"
    cached, made = (sum(node.data.get("state") == state for node in nodes) for state in THERE)
    here = lost(nodes)
    waiting = sum(node.data.get("state") == BLOCKED and node not in here for node in nodes)
    rest = [f"{number} {words}" for number, words in
            ((made, "made now"), (cached, "done before"), (waiting, "wait for others")) if number]  # fmt: skip
    rest += [f"{count(passed, 'check')} passed"] if told and gates else []
    return verdict, sentence, ", ".join(rest)


def proven(rows: Sequence[Row]) -> str:
    """Return what the checks proved: how many passed, of how many artifacts, and how many answers changed."""
    gates = [gate.verdict for row in rows for gate in row.gates if gate.verdict != "skipped"]
    passed = gates.count("pass")
    if not passed:
        return ""
    judged = count(sum(bool(row.gates) for row in rows), "artifact")
    facts = [f"{passed} of {count(len(gates), 'check')} passed on {judged}"]
    answers = [(numbers.get("flips_in_all"), numbers.get("images")) for row in rows
               if (numbers := row.numbers("accuracy")).get("verdict") == "pass"]  # fmt: skip
    known = [(changed, images) for changed, images in answers if isinstance(changed, int) and isinstance(images, int)]
    if known:
        changed, images = (sum(values) for values in zip(*known, strict=True))
        facts.append(f"{changed:,} of {count(images, 'answer')} changed")
    return ": ".join(facts)


def _node(index: int, data: Mapping[str, Any]) -> Node:
    verdict, word = _standing(data)
    return Node(f"n{index}", str(data.get("id") or f"node {index + 1}"), data, verdict, word)


def _standing(data: Mapping[str, Any]) -> tuple[str, str]:
    """The badge of a node and its word."""
    state, code = data.get("state"), data.get("exit_code")
    if state in THERE and not code:
        return "pass", "done before" if state == CACHED else "made"
    if state == LACKING:
        return "unavailable", "lacking here"
    if state == BLOCKED:
        return "skipped", "waits"
    if code == INCONCLUSIVE:
        return "inconclusive", "cannot tell"
    if state in THERE:
        return "fail", "a gate failed"
    return ("error", "failed") if state == "failed" else ("skipped", str(state or "not known"))


def _reason(node: Node) -> str:
    return str(node.data.get("reason") or "no reason was given")
