"""What the pages of zoo have in common: one HTML file that needs nothing else, no network, and no script to be read.

template/ is filled in by jinja2, which escapes whatever it is given; page.css and page.js go into the page whole.
Figures are plotly's, and only a page that has one holds it. The page forbids itself the network and any other script.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UnavailableError
from .figure import Figure

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATE = Path(__file__).parent / "template"

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
    "whole": lambda value: f"{value:,.0f}",
    "megabytes": lambda value: f"{value / 1e6:.1f}",
    "ratio": lambda value: f"{value:.3f}",
    "time": lambda value: f"{value:.3g}" if abs(value) < 1 else f"{value:,.2f}",
    "exact": lambda value: f"{value:.5f}",
    "plain": lambda value: f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}",
}


def require_libraries() -> None:
    """Raise UnavailableError where plotly or jinja2 is missing."""
    try:
        import jinja2
        import plotly
    except ImportError as error:
        raise UnavailableError("the page needs plotly and jinja2", fix='pip install "zoo-export[full]"') from error
    del jinja2, plotly


def fill(
    template: str,
    made_by: str,
    figures: Mapping[str, Figure],
    values: Mapping[str, Any],
    functions: Mapping[str, Callable[..., Any]],
) -> str:
    """The whole page.

    Args:
        template: extends skeleton.html.
        made_by: the command.
        figures: by their id.
        values: of the template: result, verdict, sentence, rest and sections, and what it has of its own.
        functions: that its parts call.
    """
    from plotly.offline import get_plotlyjs

    environment = _environment()
    environment.globals |= functions
    scripts = [*([get_plotlyjs()] if figures else []), _file("page.js")]
    page = environment.get_template(template).render(
        values,
        made_by=made_by,
        figures=figures,
        scripts=scripts,
        allowed=" ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in scripts),
    )
    return page.encode("utf-8", "backslashreplace").decode()  # a path may hold bytes that are no text


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
    made.filters |= {"number": _number}
    made.globals |= {"SYMBOLS": SYMBOLS, "file": _file}
    return made


def _file(name: str) -> str:
    return (TEMPLATE / name).read_text(encoding="utf-8")


def _number(value: object, form: str) -> Markup:
    """A number as people read it, in an element that holds it unrounded."""
    from markupsafe import Markup

    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return Markup('<span class="none">–</span>')
    return Markup('<data value="{}">{}</data>').format(json.dumps(value), FORMS[form](value))
