"""`zoo export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import UsageError, worst
from .shell import DataRoot, Debug, Device, Json, Outcome, Seed, choose_device, error_mapping, need_torch, parse_input

if TYPE_CHECKING:
    from ..export import Exported


def export(
    source: Annotated[str, typer.Argument(help="A name of `zoo list models`, a run, torchvision:NAME, timm:NAME, "
                                               "or module:factory.")],
    to: Annotated[str, typer.Option(help="Backends, separated by commas: torchscript,onnx,trt.")],
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision, in the graph.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16, in the graph.")] = False,
    weights: Annotated[str | None, typer.Option(help="A run, a .safetensors or .pth, imagenet, or random.")] = None,
    data: Annotated[str | None, typer.Option(help="Golden images come from it; else they are made.")] = None,
    input_: Annotated[str | None, typer.Option("--input", help="CxHxW of a model that does not bring it.")] = None,
    spec: Annotated[Path | None, typer.Option(help="spec.toml of a user's own model.")] = None,
    batch: Annotated[int, typer.Option(min=2, max=65536, help="The largest batch; smaller ones work too.")] = 1024,
    out: Annotated[Path, typer.Option(help="Artifacts go to OUT/MODEL/BACKEND-PRECISION.")] = Path("exports"),
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:  # fmt: skip
    """Export a model; each artifact is tried on its golden images before it takes its place."""
    del debug, json
    if fp16 and bf16:
        raise UsageError("--fp16 and --bf16 contradict each other", fix="export twice, the folders differ")
    names = [name.strip() for name in to.split(",") if name.strip()]
    from ..backends import get_backend

    if not names:
        raise UsageError("--to names no backend", fix="for example --to torchscript,onnx")
    for name in names:
        get_backend(name)
    need_torch("zoo export")
    from ...models.data.catalog import open_data
    from ...models.sources import SourceOptions, resolve
    from ..backends.base import ExportOptions
    from ..export import export as export_model
    from ..report.console import notes, progress, say, table

    where = choose_device(device)
    dataset = open_data(data, data_root) if data else None
    model = resolve(source, SourceOptions(weights=weights, input=parse_input(input_), spec=spec, seed=seed))
    say(f"{model.spec.name}: weights: {model.weights}; input {'x'.join(map(str, model.spec.input))}")
    notes(model.notes)
    options = ExportOptions("fp16" if fp16 else "bf16" if bf16 else "fp32", batch)
    with progress("backends") as bar:
        rows = export_model(
            model, names, options, out=out, data=dataset, device=where, seed=seed,
            progress=lambda _what, done, total: bar("exporting", done, total),
        )  # fmt: skip

    def show() -> None:
        table("exported", ["artifact", "golden images", "ran", "size, time"], list(map(_cells, rows)))
        notes([note for row in rows if row.artifact for note in row.artifact.manifest.notes[len(model.notes) :]])

    made = [str(row.folder) for row in rows if row.error is None]
    after = f"zoo check {' '.join(made)} --data {data or 'DATA'}" if made else "zoo doctor"
    payload = {
        "model": model.spec.name,
        "weights": model.weights,
        "notes": list(model.notes),
        "artifacts": [_as_mapping(row) for row in rows],
    }
    return Outcome(payload, worst(row.exit_code for row in rows), show, after)


def _as_mapping(row: Exported) -> dict[str, object]:
    """A row as --json shows it."""
    common: dict[str, object] = {"backend": row.backend, "precision": row.precision}
    if row.error is not None or row.artifact is None or row.golden is None:
        assert row.error is not None
        return {**common, "artifact": None, "error": error_mapping(row.error)}
    receipt = row.artifact.manifest.receipt
    return {
        **common,
        "artifact": str(row.folder),
        "replaced": row.replaced,
        "bytes": row.bytes,
        "seconds": round(row.seconds, 2),
        "golden": row.golden.as_mapping(),
        "receipt": vars(receipt) if receipt else None,
        "notes": list(row.artifact.manifest.notes),
    }


def _cells(row: Exported) -> list[str]:
    """A row of the table."""
    from ..report.console import megabytes, ran_as

    if row.error is not None:
        word = {3: "unavailable", 4: "fail"}.get(row.error.exit_code, "error")
        return [f"{row.backend} {row.precision}", f"{word}: {row.error}", "", ""]
    assert row.golden is not None
    size = f"{megabytes(row.bytes)}, {row.seconds:.1f} s"
    receipt = row.artifact.manifest.receipt if row.artifact else None
    ran = ran_as(receipt) if receipt else "not run here"
    place = f"{row.folder}{' (replaced)' if row.replaced else ''}"
    return [place, f"{row.golden.verdict}: {row.golden.reason}", ran, size]
