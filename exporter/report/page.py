"""The report of `zoo check` as one HTML file that needs nothing else: no network, and no script to be read.

template/ is filled in by jinja2, which escapes whatever it is given; page.css and page.js go into the page whole.
Figures are plotly's, and only a page that has one holds it. The page forbids itself the network and any other script.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UnavailableError
from .figure import Figure
from .figures import distributions, margins, most_changed, precisions, recalls, tradeoff
from .rows import Gate, Row, bisect_of, columns, count, elsewhere, problems, read_rows, standing

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATE = Path(__file__).parent / "template"
PNG = b"\x89PNG\r\n\x1a\n"
SMALL = 64  # pixels across: up to here a picture is enlarged, without smoothing
ACROSS = 96, 160  # pixels that a small and a large picture have in the page
TABLED = {"numerics", "consistency", "accuracy", "latency", "precision"}  # gates with a section of their own

SYMBOLS = {
    "pass": ("✓", "pass"),
    "fail": ("✕", "fail"),
    "error": ("✕", "error"),
    "inconclusive": ("?", "cannot tell"),
    "unavailable": ("?", "unavailable"),
    "skipped": ("–", "skipped"),
}

# How a number is written; what it is stands beside it, as the value of its element.
FORMS: Mapping[str, Callable[[Any], str]] = {
    "percent": lambda value: f"{value:.2%}",
    "tenths": lambda value: f"{value:.1%}",
    "points": lambda value: f"{100 * value:.2f}",
    "count": lambda value: f"{value:,}",
    "megabytes": lambda value: f"{value / 1e6:.1f}",
    "ratio": lambda value: f"{value:.3f}",
    "exact": lambda value: f"{value:.5f}",
    "plain": lambda value: f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}",
}


@dataclass(frozen=True)
class Picture:
    """A PNG file as an image of the page: its address, the size it is shown at, whether that enlarges it."""

    uri: str
    width: int
    height: int
    small: bool


def render_page(result: Mapping[str, Any], pictures: Mapping[int, bytes]) -> str:
    """The whole page.

    Args:
        result: what `zoo check --json` prints.
        pictures: PNG files of validation images, by index in the data; what is no PNG is left out.

    Raises:
        UnavailableError: plotly or jinja2 is missing.
    """
    try:
        from plotly.offline import get_plotlyjs

        environment = _environment()
    except ImportError as error:
        raise UnavailableError("the page needs plotly and jinja2", fix='pip install "zoo-export[full]"') from error
    rows = read_rows(result)
    figures = _figures(rows)
    scripts = [*([get_plotlyjs()] if figures else []), _file("page.js")]
    verdict, sentence, rest = standing(result, rows)
    page = environment.get_template("page.html").render(
        result=result,
        rows=rows,
        verdict=verdict,
        sentence=sentence,
        rest=rest,
        problems=problems(rows),
        columns=columns(rows),
        sections=_sections(rows, figures),
        having=lambda name: [(row, gate) for row in rows if (gate := row.gate(name))],
        others=[(row, gate) for row in rows for gate in row.gates if gate.name not in TABLED],
        figures=figures,
        scripts=scripts,
        allowed=" ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in scripts),
        pictures={index: read_picture(data) for index, data in pictures.items()},
    )
    return page.encode("utf-8", "backslashreplace").decode()  # a path may hold bytes that are no text


def read_picture(data: bytes) -> Picture | None:
    """A PNG file as an image of the page; None for anything else."""
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not data.startswith(PNG) or not width or not height:
        return None
    small = width <= SMALL
    scale = max(1, round(ACROSS[0] / width)) if small else min(1.0, ACROSS[1] / width)
    uri = f"data:image/png;base64,{b64encode(data).decode()}"
    return Picture(uri, round(width * scale), round(height * scale), small)


def _figures(rows: Sequence[Row]) -> dict[str, Figure]:
    drawn = [tradeoff(rows), distributions(rows), precisions(rows)]
    drawn += [figure for row in rows for figure in (recalls(row), margins(row))]
    return {figure.id: figure for figure in drawn if figure}


def _sections(rows: Sequence[Row], figures: Mapping[str, Figure]) -> dict[str, str]:
    """The headings of the page by their place, those that have something to show."""
    names = {gate.name for row in rows for gate in row.gates}
    layers = any(row.data.get("layers") for row in rows)
    parts = {
        "summary": ("At a glance", bool(rows)),
        "tradeoff": ("Accuracy against latency", "tradeoff" in figures),
        "latency": ("Latency", "latency" in names),
        "answers": ("Answers", "accuracy" in names),
        "layers": ("Precision of the layers", layers or "precision" in names),
        "numbers": ("Numerics and consistency", not names.isdisjoint(("numerics", "consistency"))),
        "others": ("Other gates", not names <= TABLED),
        "repeat": ("Repeat it", True),
    }
    return {place: title for place, (title, shown) in parts.items() if shown}


def _environment() -> Environment:
    from jinja2 import ChainableUndefined, Environment, FunctionLoader

    made = Environment(
        loader=FunctionLoader(_file),
        autoescape=True,
        undefined=ChainableUndefined,  # a key that is missing is shown as not known
        finalize=lambda value: "" if value is None else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    made.filters |= {"number": _number, "scalars": _scalars}
    made.globals |= {
        "SYMBOLS": SYMBOLS,
        "bisect_of": bisect_of,
        "count": count,
        "elsewhere": elsewhere,
        "file": _file,
        "most_changed": most_changed,
    }
    return made


def _file(name: str) -> str:
    return (TEMPLATE / name).read_text(encoding="utf-8")


def _number(value: object, form: str) -> Markup:
    """A number as people read it, in an element that holds it unrounded."""
    from markupsafe import Markup

    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return Markup('<span class="none">–</span>')
    return Markup('<data value="{}">{}</data>').format(json.dumps(value), FORMS[form](value))


def _scalars(gate: Gate) -> dict[str, int | float | str]:
    """What a gate that has no table of its own says in single values."""
    left = ("name", "verdict", "reason")
    return {
        name: value for name, value in gate.numbers.items() if isinstance(value, (int, float, str)) and name not in left
    }
