"""`zoo lint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import DONE, GATE, quoted
from .main import Debug, Device, Json, Outcome, Seed


def lint(
    path: Annotated[Path, typer.Argument(help="An ONNX file, or an artifact that holds model.onnx.")],
    target: Annotated[str, typer.Option("--for", help="The target whose rules are applied.")] = "trt",
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Tell from the graph alone whether a target will take it; errors end with exit code 4, warnings with 0."""
    del device, seed, debug, json
    from ..lint import lint_file

    found = lint_file(path, target)
    errors = sum(one.level == "error" for one in found)

    def show() -> None:
        from ..report.console import say, table

        if found:
            rows = [[f"{one.level}: {one.rule}", one.node, one.why, one.fix, one.source] for one in found]
            table(f"{path} for {target}", ["rule", "node", "why", "what to do", "source"], rows)
        else:
            say(f"pass: {target} takes {path}, as far as the graph tells", "green")

    built_here = path.is_dir() and path.name.startswith(f"{target}-")
    after = (
        f"zoo build {quoted(path)}, on the device" if built_here else f"zoo export SOURCE --to {target} --build-later"
    )
    after = "" if errors else after
    payload = {"target": target, "errors": errors, "findings": [vars(one) for one in found]}
    return Outcome(payload, GATE if errors else DONE, show, after)
