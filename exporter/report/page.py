"""The report of `zoo check` as one HTML file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .figure import Figure
from .figures import distributions, margins, most_changed, precisions, recalls, tradeoff
from .rows import Gate, Row, bisect_of, columns, count, data_of, elsewhere, problems, read_rows, standing
from .skeleton import fill, require_libraries

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = 64  # pixels across: up to here a picture is enlarged, without smoothing
ACROSS = 96, 160  # pixels that a small and a large picture have in the page
SINGLE = 24  # artifacts, up to which each has figures of its own
TABLED = {"numerics", "consistency", "accuracy", "latency", "precision"}  # gates with a section of their own


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
    require_libraries()
    rows = read_rows(result)
    figures = figures_of_rows(rows)
    verdict, sentence, rest = standing(result, rows)
    values = {
        **check_values(result, rows, pictures),
        "verdict": verdict,
        "sentence": sentence,
        "rest": rest,
        "problems": problems(rows, data_of(result)),
        "sections": sections_of(rows, figures),
    }
    return fill("page.html", "zoo check", figures, values, FUNCTIONS)


def check_values(result: Mapping[str, Any], rows: Sequence[Row], pictures: Mapping[int, bytes]) -> dict[str, Any]:
    """What the parts of the page that show checks are filled with."""
    return {
        "result": result,
        "rows": rows,
        "columns": columns(rows),
        "few": len(rows) <= SINGLE,
        "having": lambda name: [(row, gate) for row in rows if (gate := row.gate(name))],
        "others": [(row, gate) for row in rows for gate in row.gates if gate.name not in TABLED],
        "pictures": {index: read_picture(data) for index, data in pictures.items()},
    }


def read_picture(data: bytes) -> Picture | None:
    """A PNG file as an image of the page; None for anything else."""
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not data.startswith(PNG) or not width or not height:
        return None
    small = width <= SMALL
    scale = max(1, round(ACROSS[0] / width)) if small else min(1.0, ACROSS[1] / width)
    uri = f"data:image/png;base64,{b64encode(data).decode()}"
    return Picture(uri, round(width * scale), round(height * scale), small)


def figures_of_rows(rows: Sequence[Row]) -> dict[str, Figure]:
    """All figures of checks, by id; of single artifacts only where they are few, for a browser draws each."""
    drawn = [tradeoff(rows), distributions(rows), precisions(rows)]
    if len(rows) <= SINGLE:
        drawn += [figure for row in rows for figure in (recalls(row), margins(row))]
    return {figure.id: figure for figure in drawn if figure}


def sections_of(rows: Sequence[Row], figures: Mapping[str, Figure]) -> dict[str, str]:
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


def scalars(gate: Gate) -> dict[str, int | float | str]:
    """What a gate that has no table of its own says in single values."""
    left = ("name", "verdict", "reason")
    return {
        name: value for name, value in gate.numbers.items() if isinstance(value, (int, float, str)) and name not in left
    }


# That the parts call.
FUNCTIONS = {
    "bisect_of": bisect_of,
    "count": count,
    "elsewhere": elsewhere,
    "most_changed": most_changed,
    "scalars": scalars,
}
