"""`zoo build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import UnavailableError, quoted
from .main import Debug, Device, Json, Outcome, Seed


def build(
    folder: Annotated[Path, typer.Argument(help="A folder that `zoo export --build-later` wrote.")],
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build it again, for another TensorRT or GPU.")] = False,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Finish on the device what --build-later left, try it on its golden images, and put it in place."""
    del seed, debug, json
    from ..export import build as build_artifact
    from ..report.console import notes, progress, table
    from .export import as_mapping, cells

    if device == "cpu":
        raise UnavailableError("an engine cannot be built or run on the CPU", fix="leave --device cpu out")
    with progress("steps") as bar:
        row = build_artifact(folder, rebuild=rebuild, progress=bar)

    def show() -> None:
        table("built", ["artifact", "golden images", "ran", "size, time of the build"], [cells(row)])
        notes(row.artifact.manifest.notes if row.artifact else ())

    return Outcome({"artifacts": [as_mapping(row)]}, show=show, next=f"zoo check {quoted(folder)} --data DATA")
