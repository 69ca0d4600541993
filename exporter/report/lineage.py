"""Where packages come from: what gets a box of the drawing, what leads to what, and each artifact's trace. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .nodes import Node
from .rows import count

PREFIX = 12  # of a hash
MODELS = ("source", "train", "prune", "calibrate")
ORDER = ("graph", "artifact", "check", "package", "profile")  # columns behind the models


@dataclass(frozen=True)
class Item:
    """What gets one box.

    Attributes:
        key: unique.
        sort: origin, model, or one of ORDER.
        band: the variant.
        title, line: its words.
        nodes: that it stands for; none for an origin.
        depth: of a model, how many are before it.
    """

    key: str
    sort: str
    band: str
    title: str
    line: str
    nodes: tuple[Node, ...] = ()
    depth: int = 0


@dataclass(frozen=True)
class Trace:
    """One artifact with all that it came from and went into; hashes whole."""

    name: str
    place: str
    sha256: str
    weights: str
    models: tuple[str, ...]
    origins: tuple[str, ...]
    packages: tuple[tuple[str, str], ...]


def items_of(nodes: Sequence[Node], *, grouped: bool) -> list[Item]:
    """What gets a box, in order: origins, then each node, or with `grouped` each variant's nodes of a sort."""
    depth = _depths(nodes)
    found: dict[str, Item] = {}
    for node, origins in new_origins(nodes).items():
        for kind, name, hash_ in origins:  # each in the band of the first variant that is made of it
            line = f"{kind} {hash_[:PREFIX]}" if hash_ else kind
            found.setdefault(f"origin {kind} {name}", Item(f"origin {kind} {name}", "origin", node.variant, name, line))
    for node in nodes:
        sort = sort_of(node)
        if sort == "model" or not grouped:
            found[node.name] = Item(node.name, sort, node.variant, _title(node, sort), _line(node), (node,),
                                    depth.get(node.name, 0))  # fmt: skip
            continue
        sort = "artifact" if sort == "graph" else sort  # which is what becomes of it
        key = f"{node.variant} {sort}"
        mine = (*found[key].nodes, node) if key in found else (node,)
        number = sum(sort_of(one) != "graph" for one in mine)
        title, line = (_title(node, sort), _line(node)) if len(mine) == 1 else (count(number, sort), "")
        found[key] = Item(key, sort, node.variant, title, line, mine)
    return list(found.values())


def edges_of(items: Sequence[Item]) -> list[tuple[str, str]]:
    """Between keys of items, each once."""
    of = {node.name: item.key for item in items for node in item.nodes}
    named = {node.name: node for item in items for node in item.nodes}
    found: dict[tuple[str, str], None] = {}
    for item in items:
        for node in item.nodes:
            for need in made_of(node, named):
                if of[need.name] != item.key:
                    found[of[need.name], item.key] = None
    for node, origins in new_origins([node for item in items for node in item.nodes]).items():
        for kind, name, _ in origins:
            found[f"origin {kind} {name}", of[node.name]] = None
    return list(found)


def made_of(node: Node, named: Mapping[str, Node]) -> list[Node]:
    """What a node is really made of: a check only compares with a sibling, a package leaves out what did not pass."""
    needs = [named[str(need)] for need in node.data.get("needs") or [] if need in named]
    if node.kind == "check":
        return needs[:1]
    return [need for need in needs if need.verdict == "pass"] if node.kind == "package" and node.there else needs


def new_origins(nodes: Sequence[Node]) -> dict[Node, list[tuple[str, str, str]]]:
    """The origins of each model that none of the models before it has."""
    named = {node.name: node for node in nodes}
    found = {}
    for node in nodes:
        if node.kind in MODELS:
            known = [origin for one in _before(node, named) for origin in origins_of(one)]
            found[node] = [one for one in origins_of(node) if one not in known]
    return found


def origins_of(node: Node) -> list[tuple[str, str, str]]:
    """What a model begins with, outside of the pipeline: kind, name, and the hash where it is known."""
    options: Mapping[str, Any] = node.data.get("options") or {}
    found = []
    if node.kind in ("train", "prune") and options.get("data"):
        found.append(("data", str(options["data"]), str(node.data.get("data_sha256") or "")))
    if not node.data.get("needs"):
        weights = options.get("weights")
        if weights or not found:
            found.append(("weights", str(weights or "as the source brings them"), ""))
    return found


def sort_of(node: Node) -> str:
    """The column of a node."""
    if node.kind in MODELS:
        return "model"
    if node.kind == "export":
        return "graph" if node.name.startswith("graphs/") else "artifact"
    return "artifact" if node.kind == "build" else node.kind if node.kind in ORDER else "artifact"


def column_of(item: Item) -> tuple[str, int]:
    """Sort and depth."""
    return item.sort, item.depth


def traces_of(nodes: Sequence[Node]) -> list[Trace]:
    """Each artifact back to its data and on to its packages."""
    named = {node.name: node for node in nodes}
    found = []
    for node in nodes:
        if sort_of(node) != "artifact" or not node.there:
            continue
        before = _before(node, named)
        models = [one for one in before if one.kind in MODELS]
        origins = dict.fromkeys(
            f"{kind} {name}{f' {hash_[:PREFIX]}' if hash_ else ''}"
            for one in models for kind, name, hash_ in origins_of(one)
        )  # fmt: skip
        hashes = [str(one.data["weights_sha256"]) for one in (node, *before) if one.data.get("weights_sha256")]
        packages = tuple(
            (one.name, str(one.data.get("digest") or "")) for one in nodes
            if one.kind == "package" and one.there and node in _before(one, named)
        )  # fmt: skip
        found.append(
            Trace(
                f"{node.variant}/{node.data.get('form') or ''}",
                node.id,
                str(node.data.get("digest") or ""),
                hashes[0] if hashes else "",
                tuple(one.variant for one in models),
                tuple(origins),
                packages,
            )
        )
    return found


def _before(node: Node, named: Mapping[str, Node]) -> list[Node]:
    """All that a node is made of, the first before the last."""
    found: dict[str, Node] = {}

    def visit(one: Node) -> None:
        for need in made_of(one, named):
            if need.name not in found:
                visit(need)
                found[need.name] = need

    visit(node)
    return list(found.values())


def _depths(nodes: Sequence[Node]) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in nodes:
        if node.kind in MODELS:
            before = [found[need] + 1 for need in node.data.get("needs") or [] if need in found]
            found[node.name] = max(before, default=0)
    return found


def _title(node: Node, sort: str) -> str:
    if sort == "model":
        return f"{node.variant} (ranges)" if node.kind == "calibrate" else node.variant
    if sort in ("graph", "artifact", "check"):
        return str(node.data.get("form") or node.name)
    return str(node.data.get("form") or node.name.partition("/")[2])


def _line(node: Node) -> str:
    """Hashes of what has some; what it is of the rest."""
    data, options = node.data, node.data.get("options") or {}
    if not node.there:
        return node.word
    if node.kind == "check":
        data_name = f", {options['data']}" if options.get("data") else ""
        return f"passed{data_name}" if node.verdict == "pass" else node.word
    if node.kind == "profile":
        return f"on {str(options.get('on') or 'this machine').removeprefix('ssh://')}"
    hash_ = data.get("weights_sha256" if node.kind in MODELS else "digest")
    return str(hash_)[:PREFIX] if hash_ else node.word
