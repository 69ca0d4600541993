"""`zoo package`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shell import Debug, Json, Outcome


def package(
    artifacts: Annotated[list[Path], typer.Argument(metavar="ARTIFACT...", help="Folders that zoo export wrote.")],
    out: Annotated[Path | None, typer.Option(help="The file; else MODEL.zoo.")] = None,
    licence: Annotated[Path | None, typer.Option(help="Of the weights: a text file.")] = None,
    require_checked: Annotated[
        bool, typer.Option("--require-checked", help="Refuse what zoo check has not passed.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the package in --out.")] = False,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Write one file that runs, verifies and times a model on a machine without torch; with its evidence."""
    del debug, json
    from ..package.bundle import pack
    from ..report.console import notes, say

    made = pack(artifacts, out, licence=licence, require_checked=require_checked, overwrite=overwrite)
    remarks = [f"{name}: {reason}" for name, reason in made.unchecked.items()]

    def show() -> None:
        say(f"{made.path}: {made.bytes / 1e6:.1f} MB, {'replaced' if made.replaced else 'written'}", "bold")
        if made.checked:
            say(f"with the evidence of {', '.join(made.checked)}")
        notes(remarks)

    payload = {"package": str(made.path), "bytes": made.bytes, "checked": list(made.checked), "notes": remarks}
    return Outcome(payload, show=show, next=f"zoo verify {made.path}")
