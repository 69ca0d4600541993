"""The page holds what it was given, whatever that is, and nothing that would run or be fetched."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
from page_help import check_outline, embedded, light, nasty, without_numbers
from PIL import Image
from zoo.exporter.report.page import read_picture, render_page


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
