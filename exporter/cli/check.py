"""`zoo check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import UsageError, worst
from .shell import DataRoot, Debug, Device, Json, Outcome, Seed, choose_device, error_mapping, need_torch

if TYPE_CHECKING:
    from ..checks.check import Checked


def check(
    artifacts: Annotated[list[Path], typer.Argument(help="Folders that `zoo export` wrote.")],
    data: Annotated[str | None, typer.Option(help="Labelled data; else only the golden images are compared.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Compare with this source, not with the artifact's own.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first so many images.")] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Judge artifacts against their reference: numerics and accuracy, with the evidence."""
    del debug, json
    need_torch("zoo check")
    if limit is not None and data is None:
        raise UsageError("--limit is of --data, which is missing", fix="give --data")
    from ...models.data.catalog import open_data
    from ...models.sources import SourceOptions, resolve
    from ..checks.check import check as check_artifacts
    from ..report.console import notes, progress, ran_as, table

    where = choose_device(device)
    dataset = open_data(data, data_root) if data else None
    module = resolve(reference, SourceOptions(seed=seed)).module if reference else None
    with progress("images") as bar:
        rows = check_artifacts(artifacts, dataset, reference=module, device=where, limit=limit, progress=bar)

    def as_mapping(row: Checked) -> dict[str, object]:
        common: dict[str, object] = {"artifact": row.artifact, "backend": row.backend, "precision": row.precision}
        if row.error is not None:
            return {**common, "gates": [], "error": error_mapping(row.error)}
        receipt = vars(row.receipt) if row.receipt else None
        return {**common, "gates": [gate.as_mapping() for gate in row.gates], "receipt": receipt}

    def cells(row: Checked) -> list[list[str]]:
        if row.error is not None:
            word = "unavailable" if row.error.exit_code == 3 else "error"
            return [[row.artifact, "", "", f"{word}: {row.error}"]]
        lines = [["", "", gate.name, f"{gate.verdict}: {gate.reason}"] for gate in row.gates]
        lines[0][:2] = [row.artifact, ran_as(row.receipt) if row.receipt else ""]
        return lines

    def show() -> None:
        title = f"checked{f' on {data}' if data else ''}"
        columns = ["artifact", "ran", "gate", "verdict"]
        table(title, columns, [line for row in rows for line in cells(row)])
        notes(dataset.notes if dataset else ())

    code = worst(row.exit_code for row in rows)
    first = next((row.artifact for row in rows if row.error is None), "ARTIFACT")
    return Outcome(
        {"artifacts": [as_mapping(row) for row in rows]},
        code,
        show,
        {0: f"zoo predict {first} IMAGE", 3: _after(rows)}.get(code, ""),
    )


def _after(rows: Sequence[Checked]) -> str:
    """What to do when something was not available: the row's own way out, if it has one."""
    fixes = [row.error.fix for row in rows if row.error is not None and row.error.fix.startswith("zoo ")]
    return fixes[0] if fixes else "zoo doctor"
