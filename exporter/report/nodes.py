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


def problems(nodes: Sequence[Node], rows: Sequence[Row]) -> list[Problem]:
    """What failed with its reason, the gates that did not pass, then what this machine lacks, once for each reason."""
    told = {row.label for row in rows}
    found = [
        Problem(node.id, node.name, "", node.verdict, _reason(node), str(node.data.get("fix") or ""))
        for node in nodes
        if node.verdict in ("fail", "error", "inconclusive") and not (node.kind == "check" and label_of(node) in told)
    ]
    lacking: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        if node.verdict == "unavailable":
            lacking.setdefault((_reason(node), str(node.data.get("fix") or "")), []).append(node)
    for (reason, fix), group in lacking.items():
        found.append(Problem(group[0].id, named([one.name for one in group]), "", "unavailable", reason, fix))
    return sorted([*found, *problems_of_rows(rows)], key=lambda one: rank(one.verdict))


def label_of(node: Node) -> str:
    """The artifact that a node makes or checks: resnet18/onnx-int8."""
    return f"{node.variant}/{node.data.get('form') or ''}"


def named(names: Sequence[str]) -> str:
    """A few names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def standing(result: Mapping[str, Any], nodes: Sequence[Node], rows: Sequence[Row]) -> tuple[str, str, str]:
    """Pass, fail or inconclusive, the sentence that says so with counts, and what there is besides."""
    code = result.get("exit_code")
    gates = [gate.verdict for row in rows for gate in row.gates]
    bad, unsure = gates.count("fail"), gates.count("inconclusive")
    failed = sum(node.verdict in ("fail", "error", "inconclusive") for node in nodes if node.kind != "check")
    lacking = sum(node.verdict == "unavailable" for node in nodes)
    parts = [
        f"{failed} of {len(nodes)} could not be made" if failed else "",
        f"{bad} of {count(len(gates), 'gate')} failed" if bad else "",
        f"{unsure} of {count(len(gates), 'gate')} cannot be judged" if unsure else "",
        f"{lacking} of {len(nodes)} cannot be made here" if lacking else "",
    ]
    verdict = "pass" if code == 0 and nodes else "inconclusive" if code in (0, UNAVAILABLE, INCONCLUSIVE) else "fail"
    there = sum(node.there for node in nodes)
    passed = gates.count("pass")
    told = ", ".join(part for part in parts if part)
    if not told:
        every = f"all {there} are made" if there == len(nodes) else f"{there} of {len(nodes)} are made"
        ended = "" if verdict == "pass" else f", and the command ended with exit code {code}"
        told = f"{every}, {count(passed, 'gate')} passed{ended}" if nodes else "there is nothing to make"
    cached, made = (sum(node.data.get("state") == state for node in nodes) for state in THERE)
    waiting = sum(node.data.get("state") == BLOCKED for node in nodes)
    rest = [f"{number} {words}" for number, words in
            ((made, "made now"), (cached, "done before"), (waiting, "wait for others")) if number]  # fmt: skip
    rest += [f"{count(passed, 'gate')} passed"] if any(parts) and gates else []
    return verdict, f"{WORDS[verdict]}: {told}", ", ".join(rest)


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
