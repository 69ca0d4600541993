"""What zoo's backends can do, as the table of docs/backends.md: made from their records."""

from __future__ import annotations

from collections.abc import Iterable

from .info import BackendInfo

HEAD = ("backend", "file", "runs in", "precisions", "int8 is held against", "in packages", "Triton", "install")


def as_markdown(infos: Iterable[BackendInfo]) -> str:
    """A table in Markdown, a row for each record."""
    rows = [HEAD, ("---",) * len(HEAD), *(row_of(info) for info in infos)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def row_of(info: BackendInfo) -> tuple[str, ...]:
    """What a record says, in the order of `HEAD`."""
    emulated = [f"{one} (emulated in {info.emulates[one]})" if one in info.emulates else one for one in info.precisions]
    int8 = info.int8
    return (
        f"`{info.name}`",
        f"{info.model or 'the weights'}{', a program' if info.is_program else ''}",
        info.runtime,
        ", ".join(emulated),
        "no int8" if int8 is None else f"{int8.fastest_float} on {int8.device}",
        "yes" if info.predictor else "packed, not run",
        info.serving.triton if info.serving is not None else "no",
        f"`zoo-export[{info.extra}]`",
    )
