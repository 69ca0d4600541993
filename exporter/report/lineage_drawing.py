"""The drawing of where packages come from: boxes and lines in their places. Pure.

Columns are what a thing is, bands are variants of the model. Of many nodes those of one variant share a box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..backends.infos import builds
from .figure import short
from .lineage import MODELS, ORDER, Item, column_of, edges_of, items_of, sort_of
from .nodes import Node
from .rows import count
from .skeleton import SYMBOLS

MANY = 60  # nodes, from which on those of one variant and kind share a box
HEIGHT, BETWEEN, MARGIN = 46, 12, 6  # of a box, the gap below it, the border
ROOM = 1080  # that the page has across
WIDEST, NARROWEST, ACROSS = 168, 116, (40, 20)  # a box, and the gap beside it where boxes are wide or narrow
LETTER, PADDING = 6.3, 7  # across
HEADS = {"origin": "comes from", "model": "model", "graph": "graph to build", "artifact": "artifact", "check": "check",
         "package": "package", "profile": "profile"}  # fmt: skip


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
            mine = sorted((one for one in items if column_of(one) == column and one.band == band), key=_is_built)
            room = heights[band] * (HEIGHT + BETWEEN)
            for index, one in enumerate(mine):
                places[one.key] = (x, tops[band] + room * (index + 0.5) / len(mine) - HEIGHT / 2 - BETWEEN / 2)
    places |= _beside_what_is_built(items, places)
    boxes = tuple(_box(one, *places[one.key], width) for one in items)
    paths = tuple(_path(places[one], places[other], width, across) for one, other in edges_of(items))
    heads = tuple((x + width / 2, HEADS[column[0]]) for column, x in columns.items())
    return Drawing(max(columns.values()) + width + MARGIN, top, boxes, paths, heads, grouped, words_of(nodes))


def words_of(nodes: Sequence[Node]) -> str:
    """The drawing in a sentence."""
    number = {sort: sum(sort_of(node) == sort for node in nodes) for sort in ("model", *ORDER)}
    told = [count(number[sort], sort) for sort in ("model", "artifact", "check", "package", "profile") if number[sort]]
    return f"From left to right: {', '.join(told)}. Lines lead from what a thing is made of."


def _is_built(item: Item) -> bool:
    """Whether it hangs on a graph: those stand last, so that lines to the others pass beside the graphs."""
    backend = str(item.nodes[0].data.get("form") or "").partition("-")[0] if item.nodes else ""
    return builds(backend)


def _beside_what_is_built(
    items: Sequence[Item], places: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Where graphs stand: at the height of what is built of them."""
    found: dict[str, tuple[float, float]] = {}
    for one in items:
        built = [other for other in items if other.sort == "artifact" and _needs(other, one)]
        if one.sort == "graph" and built:
            found[one.key] = places[one.key][0], sum(places[other.key][1] for other in built) / len(built)
    return found


def _needs(item: Item, other: Item) -> bool:
    return any(need == node.name for one in item.nodes for need in one.data.get("needs") or [] for node in other.nodes)


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


def _box(item: Item, x: float, y: float, width: float) -> Box:
    names = ", ".join(node.name for node in item.nodes) or item.title
    about = f"{names}: {item.line}" if item.line else names
    many = len(item.nodes) > 1
    shown = [node for node in item.nodes if sort_of(node) != "graph"] or list(item.nodes)
    marks = tuple((SYMBOLS[node.verdict][0], node.verdict) for node in shown) if many else ()
    verdict = item.nodes[0].verdict if len(item.nodes) == 1 else "group" if many else "origin"
    href = f"#{item.nodes[0].id}" if item.nodes else ""
    letters = int((width - 2 * PADDING) / LETTER)
    title, line = short(item.title, letters), short(item.line, letters - 2)
    return Box(x, y, width, HEIGHT, title, line, about, href, verdict, marks)


def _path(one: tuple[float, float], other: tuple[float, float], width: float, across: float) -> str:
    """From the right side of a box to the left side of another."""
    x, y, to_x, to_y = one[0] + width, one[1] + HEIGHT / 2, other[0], other[1] + HEIGHT / 2
    start = max(x, to_x - across)  # straight through the columns between, and bent before the box
    bend = (to_x - start) / 2
    return f"M{x:.0f} {y:.1f}H{start:.0f}C{start + bend:.0f} {y:.1f} {to_x - bend:.0f} {to_y:.1f} {to_x:.0f} {to_y:.1f}"
