"""The reference in docs/pipeline.md, made of the classes that read the file.

`python -m zoo.exporter.pipeline.reference docs/pipeline.md` writes the part between the two marks anew; a test holds
the page against it.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from .config import COMMON, Needs, Settings
from .kinds import KINDS, Kind, default_of, flag_of

BEGIN, END = "<!-- made by zoo.exporter.pipeline.reference: begin -->", "<!-- end -->"


def reference() -> str:
    """Markdown of every table and key."""
    parts = ["### `[pipeline]`", "", *_table(_described(Settings))]
    parts += ["", "### Every `[steps.NAME]`", "", "| key | type | default | |", "|---|---|---|---|"]
    parts += ["| `do` | str | | What the step does: one of the kinds below. |",
              "| `from` | str or list | | The steps whose results it takes. |"]  # fmt: skip
    parts += _rows(row for row in _described(Needs) if row[0] in COMMON)
    for name, kind in KINDS.items():
        parts += ["", f'### `do = "{name}"`', "", " ".join(inspect.getdoc(kind).split()), ""]  # pyright: ignore[reportOptionalMemberAccess]
        takes = " or ".join(f"{one}s" for one in kind.takes) or "nothing"
        ran = f"runs `zoo {kind.command}`" if kind.command else "runs nothing"
        lists = f"; lists in {', '.join(f'`{one}`' for one in kind.matrix)} are a matrix" if kind.matrix else ""
        parts += [f"Takes {takes}, gives {kind.gives}s; {ran}{lists}.", "", *_table(_of_kind(kind))]
    return "\n".join(parts)


def _of_kind(kind: type[Kind]) -> Iterator[tuple[str, str, str, str]]:
    hints = typing.get_type_hints(kind)
    for one in fields(kind):
        flag = flag_of(one)
        named = f" `{flag}`" if flag and flag != f"--{one.name.replace('_', '-')}" else ""
        yield one.name, _type(hints[one.name]), _default(default_of(one)), f"{one.metadata['help']}{named}"


def _described(cls: type[Any]) -> Iterator[tuple[str, str, str, str]]:
    """Keys of a class whose docstring describes its attributes."""
    hints = typing.get_type_hints(cls)
    text = re.split(r"\n\s*Attributes:\n", cls.__doc__ or "")[1]
    found = {m[1]: " ".join(m[2].split()) for m in re.finditer(r"^ {8}(\w+): ((?:.|\n {12})*)", text, re.MULTILINE)}
    for one in fields(cls):
        default = one.default if one.default is not MISSING else None
        told = found[one.name]
        yield one.name, _type(hints[one.name]), _default(default), f"{told[0].upper()}{told[1:]}"


def _table(rows: Iterator[tuple[str, str, str, str]]) -> list[str]:
    return ["| key | type | default | |", "|---|---|---|---|", *_rows(rows)]


def _rows(rows: Iterator[tuple[str, str, str, str]]) -> list[str]:
    return [f"| `{name}` | {kind} | {default} | {text} |" for name, kind, default, text in rows]


def _type(hint: Any) -> str:
    """As people say it; None is said by the default."""
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(map(str, typing.get_args(hint)))
    arguments = [one for one in typing.get_args(hint) if one is not type(None)]
    if typing.get_origin(hint) is dict:
        return "table"
    if typing.get_origin(hint) is tuple:
        return "list"
    if arguments:
        return " or ".join(dict.fromkeys(_type(one) for one in arguments))
    return getattr(hint, "__name__", str(hint))


def _default(value: Any) -> str:
    if value in (None, (), {}, ""):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def put_in(page: str) -> str:
    """A page with the part between the marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(put_in(path.read_text(encoding="utf-8")), encoding="utf-8")
