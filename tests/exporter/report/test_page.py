"""The page holds what it was given, whatever that is, and nothing that would run or be fetched."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image
from zoo.exporter.report.page import read_picture, render_page

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


def test_a_page_of_everything(sample, pictures) -> None:
    page = render_page(sample, pictures)
    outline = check_outline(page)
    assert embedded(page) == sample
    assert page.count("plotly.js v") == 1
    assert outline.scripts.count("application/json") == 1 + 5, "the result, three figures for all, two of onnx-int8"
    places = [page.index(f'<h2 id="{place}"') for place in ("problems", "summary", "tradeoff", "answers", "repeat")]
    assert places == sorted(places)
    assert page.index("<code>node_conv2d_5</code>") < places[1], "the layer that departs is told above"
    assert light(page).count("data:image/png") == 12
    assert sample["command"] in page
    assert sample["artifacts"][0]["weights_sha256"] in page


def test_nothing_that_was_given_becomes_markup(sample, pictures) -> None:
    given = nasty(sample)
    page = render_page(given, pictures)
    check_outline(page)
    assert embedded(page) == given
    assert "<script>alert" not in page
    assert "49 \U0001f600" not in page, "no template in a template"
    assert "&lt;script&gt;alert(1)" in page


def test_every_number_may_be_null(sample, pictures) -> None:
    given = without_numbers(sample)
    page = render_page(given, pictures)
    check_outline(page)
    assert embedded(page) == given


@pytest.mark.parametrize("seed", range(12))
def test_any_number_may_be_null(sample, seed: int) -> None:
    drawn = random.Random(seed)
    check_outline(render_page(without_numbers(sample, lambda: drawn.random() < 0.3), {}))


def test_every_key_of_a_gate_may_be_missing(sample) -> None:
    for row in sample["artifacts"]:
        row["gates"] = [{"name": gate["name"], "verdict": "pass"} for gate in row["gates"]]
        for key in ("layers", "receipt", "bytes", "tools", "weights"):
            row.pop(key, None)
    page = render_page(sample, {})
    check_outline(page)
    assert "plotly.js v" not in page, "no figure, no plotly"


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"artifacts": []},
        {"artifacts": [{}]},
        {"artifacts": [{"artifact": "x", "error": {"kind": "integrity", "message": "m", "fix": "f"}, "gates": []}]},
        {"artifacts": [{"gates": [{"name": "brand new", "verdict": "fail", "reason": "r", "value": 1, "word": "w"}]}]},
        {"artifacts": [{"gates": [{"name": "numerics", "verdict": "fail", "bisect": "it cannot be cut"}]}]},
        {"artifacts": None, "data": None, "versions": None, "machine": None, "notes": None},
    ],
)
def test_little_or_nothing(result: dict[str, Any]) -> None:
    page = render_page(result, {})
    check_outline(page)
    assert embedded(page) == result
    assert "Passed" not in page


def test_a_thousand_classes_and_twelve_artifacts(sample, pictures) -> None:
    row = sample["artifacts"][2]
    classes = [
        {
            "label": f"a class with a very long name, number {index}",
            "images": 50,
            "reference": 0.5,
            "artifact": index / 1000,
        }
        for index in range(1000)
    ]
    row["gates"][2] |= {"classes": classes}
    sample["artifacts"] = [row | {"artifact": f"exports/{index}", "model": f"net{index}"} for index in range(12)]
    page = render_page(sample, pictures)
    check_outline(page)
    assert page.count("number 999<") == 12
    assert 'changed most, 20 of <data value="1000">1,000<' in page


def test_a_picture_that_is_missing_or_none() -> None:
    assert read_picture(b"") is None
    assert read_picture(b"GIF89a" + bytes(40)) is None


@pytest.mark.parametrize(
    ("size", "shown", "small"),
    [
        ((28, 28), (84, 84), True),
        ((8, 8), (96, 96), True),
        ((224, 112), (160, 80), False),
        ((100, 50), (100, 50), False),
    ],
)
def test_pictures_keep_their_shape(size: tuple[int, int], shown: tuple[int, int], small: bool) -> None:
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    found = read_picture(file.getvalue())
    assert found is not None
    assert (found.width, found.height, found.small) == (*shown, small)


def test_a_path_that_is_no_text(sample) -> None:
    sample["artifacts"][0]["artifact"] = "exports/\udcff"
    page = render_page(sample, {})
    page.encode("utf-8")
    assert embedded(page)["artifacts"][0]["artifact"] == "exports/\udcff"
