"""What a page of zoo is read with, and what is put into it to break it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

NASTY = '</script><script>alert(1)</script> & "quotes" \' {{ 7 * 7 }} \U0001f600'
RESULT = re.compile(r'<script type="application/json" id="result">(.*?)</script>', re.DOTALL)
OUTSIDE = re.compile(r"""(?:src|href|action)=["'](?!#|data:)""")


class Outline(HTMLParser):
    """Elements, identifiers, links inside the page, headings."""

    VOID = ("meta", "link", "img", "br", "input", "hr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.ids, self.links, self.levels, self.scripts = [], [], [], [], []
        self.feed(page)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"][1:]] if found.get("href", "").startswith("#") else []
        self.levels += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.scripts += [found.get("type", "text/javascript")] if tag == "script" else []
        assert not [name for name in found if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def light(page: str) -> str:
    """Without plotly, which is long."""
    return "".join(part for part in re.split(r"(?=<script>)", page) if "plotly.js v" not in part[:200])


def check_outline(page: str) -> Outline:
    outline = Outline(light(page))
    assert len(set(outline.ids)) == len(outline.ids)
    assert set(outline.links) <= set(outline.ids)
    assert outline.levels[0] == 1
    assert outline.levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.levels, outline.levels[1:]))
    assert not OUTSIDE.search(light(page))
    return outline


def embedded(page: str) -> Any:
    (found,) = RESULT.findall(page)
    return json.loads(found)


def nasty(value: Any) -> Any:
    """The same with every text of people and models replaced."""
    if isinstance(value, dict):
        kept = ("name", "verdict", "kind", "precision", "ran")
        return {key: each if key in kept else nasty(each) for key, each in value.items()}
    if isinstance(value, list):
        return [nasty(each) for each in value]
    return NASTY if isinstance(value, str) else value


def without_numbers(value: Any, which: Callable[[], bool] = lambda: True) -> Any:
    if isinstance(value, dict):
        return {key: without_numbers(each, which) for key, each in value.items()}
    if isinstance(value, list):
        return [without_numbers(each, which) for each in value]
    return None if isinstance(value, (int, float)) and not isinstance(value, bool) and which() else value
