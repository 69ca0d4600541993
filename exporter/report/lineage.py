"""Where packages come from, as boxes and lines: origins, models, artifacts, checks, packages, profiles. Pure.

Columns are what a thing is, bands are variants of the model. Of many nodes those of one variant share a box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .nodes import Node
from .rows import count
from .skeleton import SYMBOLS

MANY = 60  # nodes, from which on those of one variant and kind share a box
PREFIX = 12  # of a hash
HEIGHT, BETWEEN, MARGIN = 46, 12, 6  # of a box, the gap below it, the border
ROOM = 1080  # that the page has across
WIDEST, NARROWEST, ACROSS = 168, 116, (40, 20)  # a box, and the gap beside it where boxes are wide or narrow
LETTER, PADDING = 6.3, 7  # across
MODELS = ("source", "train", "prune", "calibrate")
ORDER = ("graph", "artifact", "check", "package", "profile")  # columns behind the models
HEADS = {"origin": "comes from", "model": "model", "graph": "graph to build", "artifact": "artifact", "check": "check",
         "package": "package", "profile": "profile"}  # fmt: skip


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
class Box:
    """A box in its place."""

    x: float
    y: float
    width: float
    height: float
    title: str
    line: str
    about: str
    href: str
    verdict: str
    marks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Drawing:
    """All of it; heads are the columns' names with their middle."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    paths: tuple[str, ...]
    heads: tuple[tuple[float, str], ...]
    grouped: bool
    words: str


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


def draw(nodes: Sequence[Node], many: int = MANY) -> Drawing | None:
    """The drawing; None where there is nothing to draw."""
    grouped = len(nodes) > many
    items = items_of(nodes, grouped=grouped)
    if not items:
        return None
    columns, width, across = _columns(items)
    bands = _bands(nodes)
    heights = {band: max(sum(one.band == band and column_of(one) == column for one in items) for column in columns)
               for band in bands}  # fmt: skip
    top, tops = MARGIN + 26.0, {}
    for band in bands:
        tops[band] = top
        top += heights[band] * (HEIGHT + BETWEEN) + BETWEEN
    places: dict[str, tuple[float, float]] = {}
    for column, x in columns.items():
        for band in bands:
            mine = [one for one in items if column_of(one) == column and one.band == band]
            room = heights[band] * (HEIGHT + BETWEEN)
            for index, one in enumerate(mine):
                places[one.key] = (x, tops[band] + room * (index + 0.5) / len(mine) - HEIGHT / 2 - BETWEEN / 2)
    boxes = tuple(_box(one, *places[one.key], width) for one in items)
    paths = tuple(_path(places[one], places[other], width, across) for one, other in edges_of(items))
    heads = tuple((x + width / 2, HEADS[column[0]]) for column, x in columns.items())
    return Drawing(max(columns.values()) + width + MARGIN, top, boxes, paths, heads, grouped, words_of(nodes))


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
    found: dict[tuple[str, str], None] = {}
    for item in items:
        for node in item.nodes:
            for need in node.data.get("needs") or []:
                sibling = node.kind == "check" and need != node.data["needs"][0]  # is only compared with
                if need in of and of[need] != item.key and not sibling:
                    found[of[need], item.key] = None
    for node, origins in new_origins([node for item in items for node in item.nodes]).items():
        for kind, name, _ in origins:
            found[f"origin {kind} {name}", of[node.name]] = None
    return list(found)


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
        weights = next((str(one.data["weights_sha256"]) for one in (node, *before) if one.data.get("weights_sha256")), "")
        packages = tuple(
            (one.name, str(one.data.get("digest") or "")) for one in nodes
            if one.kind == "package" and one.there and node in _before(one, named)
        )  # fmt: skip
        found.append(Trace(f"{node.variant}/{node.data.get('form') or ''}", node.id, str(node.data.get("digest") or ""),
                           weights, tuple(one.variant for one in models), tuple(origins), packages))  # fmt: skip
    return found


def words_of(nodes: Sequence[Node]) -> str:
    """The drawing in a sentence."""
    number = {sort: sum(sort_of(node) == sort for node in nodes) for sort in ("model", *ORDER)}
    told = [count(number[sort], sort) for sort in ("model", "artifact", "check", "package", "profile") if number[sort]]
    return f"From left to right: {', '.join(told)}. Lines lead from what a thing is made of."


def _before(node: Node, named: Mapping[str, Node]) -> list[Node]:
    """All that a node is made of, the first before the last."""
    found: dict[str, Node] = {}

    def visit(one: Node) -> None:
        needs = [str(need) for need in one.data.get("needs") or []]
        for need in needs[:1] if one.kind == "check" else needs:
            if need in named and need not in found:
                visit(named[need])
                found[need] = named[need]

    visit(node)
    return list(found.values())


def _depths(nodes: Sequence[Node]) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in nodes:
        if node.kind in MODELS:
            before = [found[need] + 1 for need in node.data.get("needs") or [] if need in found]
            found[node.name] = max(before, default=0)
    return found


def _bands(nodes: Sequence[Node]) -> list[str]:
    """The variants, each behind the one it was made of."""
    of = {node.name: node.variant for node in nodes if node.kind in MODELS}
    children: dict[str, list[str]] = {}
    for node in nodes:
        parents = [of[need] for need in node.data.get("needs") or [] if need in of and of[need] != node.variant]
        mine = children.setdefault(parents[0] if parents and node.kind in MODELS else "", [])
        if node.variant not in mine and not any(node.variant in one for key, one in children.items() if key):
            mine.append(node.variant)
    found: list[str] = []

    def visit(band: str) -> None:
        if band not in found:
            found.append(band)
            for child in children.get(band, []):
                visit(child)

    for band in children.get("", []):
        visit(band)
    return found + [band for band in dict.fromkeys(node.variant for node in nodes) if band not in found]


def _columns(items: Sequence[Item]) -> tuple[dict[tuple[str, int], float], float, float]:
    """Where each column stands, of those that hold something; how wide boxes and the gaps between them are."""
    rank = {sort: index for index, sort in enumerate(("origin", "model", *ORDER))}
    found = sorted({column_of(one) for one in items}, key=lambda column: (rank[column[0]], column[1]))
    wide = len(found) * (WIDEST + ACROSS[0]) <= ROOM + ACROSS[0]
    across = ACROSS[0] if wide else ACROSS[1]
    width = WIDEST if wide else max(NARROWEST, (ROOM + across) // len(found) - across)
    return {column: MARGIN + index * (width + across) for index, column in enumerate(found)}, width, across


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


def _box(item: Item, x: float, y: float, width: float) -> Box:
    names = ", ".join(node.name for node in item.nodes) or item.title
    about = f"{names}: {item.line}" if item.line else names
    many = len(item.nodes) > 1
    shown = [node for node in item.nodes if sort_of(node) != "graph"] or list(item.nodes)
    marks = tuple((SYMBOLS[node.verdict][0], node.verdict) for node in shown) if many else ()
    verdict = item.nodes[0].verdict if len(item.nodes) == 1 else "group" if many else "origin"
    href = f"#{item.nodes[0].id}" if item.nodes else ""
    letters = int((width - 2 * PADDING) / LETTER)
    return Box(x, y, width, HEIGHT, short(item.title, letters), short(item.line, letters - 2), about, href, verdict, marks)


def short(text: str, letters: int) -> str:
    """What fits into a box: both ends of a name say more than its beginning alone."""
    if len(text) <= letters:
        return text
    return f"{text[: letters // 2]}…{text[len(text) - (letters - letters // 2 - 1) :]}"


def _path(one: tuple[float, float], other: tuple[float, float], width: float, across: float) -> str:
    """From the right side of a box to the left side of another."""
    x, y, to_x, to_y = one[0] + width, one[1] + HEIGHT / 2, other[0], other[1] + HEIGHT / 2
    start = max(x, to_x - across)  # straight through the columns between, and bent before the box
    bend = (to_x - start) / 2
    return f"M{x:.0f} {y:.1f}H{start:.0f}C{start + bend:.0f} {y:.1f} {to_x - bend:.0f} {to_y:.1f} {to_x:.0f} {to_y:.1f}"
