"""`zoo export`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import UNAVAILABLE, UsageError, quoted, worst
from .main import DataRoot, Debug, Device, Json, Outcome, Seed, choose_device, need_torch
from .source_options import Input, Labels, Spec, Weights, source_options

if TYPE_CHECKING:
    from ..artifact.manifest import Layer, Manifest
    from ..export import Exported

SMALLEST_DROP = 0.001  # points of top-1


def export(
    source: Annotated[str, typer.Argument(help="A name of `zoo list models`, a run, torchvision:NAME, timm:NAME, "
                                               "or module:factory.")],
    to: Annotated[str, typer.Option(help="Backends, separated by commas: torchscript,onnx,trt.")],
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision, in the graph.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16, in the graph.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers, calibrated with --data.")] = False,
    plan: Annotated[Path | None, typer.Option(help="artifact.json of an earlier int8 export: make the same choices "
                                              "again without measuring.")] = None,
    never_slower: Annotated[bool, typer.Option(help="Keep in float the layers that make int8 slower on this "
                                               "machine.")] = True,
    max_drop: Annotated[float | None, typer.Option(help="Points of top-1 that int8 may lose; layers are kept in "
                                                   "float until that holds.")] = None,
    images: Annotated[int | None, typer.Option(min=1, show_default="512",
                                               help="How many images --int8 calibrates with.")] = None,
    graph: Annotated[Path | None, typer.Option(help="An ONNX graph of the model to export as it is.")] = None,
    weights: Weights = None,
    data: Annotated[str | None, typer.Option(help="Golden images are taken from it; without it they are made.")] = None,
    input_: Input = None,
    spec: Spec = None,
    labels: Labels = None,
    batch: Annotated[str | None, typer.Option(help="Batch sizes SMALLEST:USUAL:LARGEST, or only the largest.",
                                              show_default="1:8:32 for trt")] = None,
    with_preprocess: Annotated[bool, typer.Option("--with-preprocess", help="The artifact takes cropped uint8 "
                                                  "pixels and normalises them itself.")] = False,
    build_later: Annotated[bool, typer.Option("--build-later", help="Write everything except what needs the GPU; "
                                              "`zoo build` finishes it on the machine with the GPU.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A backend's own option, such as "
                                                   "trt.optimization_level=5 or torchscript.engine=onednn.")] = None,
    out: Annotated[Path, typer.Option(help="Artifacts go to OUT/MODEL/BACKEND-PRECISION.")] = Path("exports"),
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:  # fmt: skip
    """Export a model; each artifact is tried on its golden images before it takes its place."""
    del debug, json
    asked = [name for name, wanted in (("fp16", fp16), ("bf16", bf16), ("int8", int8)) if wanted]
    if len(asked) > 1:
        raise UsageError(
            f"--{' and --'.join(asked)} contradict each other", fix="export once for each, the folders differ"
        )
    names = [name.strip() for name in to.split(",") if name.strip()]
    from ..artifact.manifest import Batch
    from ..backends.registry import get_backend

    if not names:
        raise UsageError("--to names no backend", fix="for example --to torchscript,onnx")
    for name in names:
        get_backend(name)
    settings = _settings(set_ or ())
    sizes = Batch.parse(batch) if batch is not None else None
    need_torch("zoo export")
    from ..backends.options import ExportOptions
    from ..report.console import COLOURS, duration, notes, progress, say, table, waiting

    if int8 and data is None and graph is None:
        raise UsageError(
            "int8 needs images to calibrate with, or a graph that holds Q/DQ",
            fix="give --data, or --graph FILE.onnx",
        )
    of_int8 = {"--plan": plan is not None, "--max-drop": max_drop is not None, "--images": images is not None,
               "--no-never-slower": not never_slower}  # fmt: skip
    pointless = [flag for flag, given in of_int8.items() if given]
    if pointless and not int8:
        raise UsageError(f"{', '.join(pointless)}: only with --int8", fix="add --int8 --data DATA")
    if max_drop is not None and 0 < max_drop < SMALLEST_DROP:
        raise UsageError(
            f"--max-drop {max_drop:g}: no data shows so few points of top-1, one image of 100,000 is {SMALLEST_DROP:g}",
            fix="for example --max-drop 0.5",
        )
    precision = "fp16" if fp16 else "bf16" if bf16 else "int8" if int8 else "fp32"
    options = ExportOptions(precision, sizes, build_later, graph, settings, with_preprocess)
    begun = time.perf_counter()
    with waiting("loading the model and the data"):
        given = source_options(weights=weights, input_=input_, spec=spec, labels=labels, seed=seed)
        from ...calibration.images import DEFAULT_IMAGES
        from ...models.data.catalog import open_data
        from ...models.sources import resolve
        from ..artifact.folder import evidence_path
        from ..export import export as export_model
        from ..export import refuse_options
        from ..quantize.options import Int8Options

        share = None if max_drop is None else max_drop / 100
        counted = DEFAULT_IMAGES if images is None else images
        how = Int8Options(counted, never_slower, plan=plan, max_drop=share) if int8 else None
        refuse_options(names, options)
        where = choose_device(device)
        dataset = open_data(data, data_root) if data else None
        model = resolve(source, given)
    say(f"{model.spec.name}: weights: {model.weights}; input {'x'.join(map(str, model.spec.input))}"
        f"{f'; batch {sizes}' if sizes else ''}{f'; {settings}' if settings else ''}")  # fmt: skip
    notes(model.notes)
    with progress("steps", "making golden images") as bar:
        rows = export_model(
            model, names, options, out=out, data=dataset, device=where, seed=seed, progress=bar,
            int8=how, tell=say,
        )  # fmt: skip
    seconds = time.perf_counter() - begun

    def show() -> None:
        done = [row for row in rows if row.error is None]
        if done:
            table("exported", ["artifact", "golden images", "ran", "size, own time"], list(map(cells, done)))
            say(f"{duration(seconds)} in all, with loading, calibration and golden images")
        told = [note for row in rows if row.artifact for note in row.artifact.manifest.notes[len(model.notes) :]]
        notes(list(dict.fromkeys(told)))
        for row in rows:
            notes(not_integer(row.artifact.manifest, str(row.folder)) if row.artifact else [])
            if row.replaced and evidence_path(row.folder).exists():
                notes([f"{row.folder}.check.json belongs to the artifact that was replaced: run zoo check again"])
            if row.error is not None:
                word = {3: "unavailable", 4: "fail"}.get(row.error.exit_code, "error")
                say(f"{row.backend} {row.precision}: {word}: {row.error}", COLOURS[word])

    made = [str(row.folder) for row in rows if row.artifact and row.artifact.manifest.built]
    left = [str(row.folder) for row in rows if row.artifact and not row.artifact.manifest.built]
    lacking = any(row.error is not None and row.error.exit_code == UNAVAILABLE for row in rows)
    checked = f"zoo check {' '.join(map(quoted, made))} --data {quoted(data or 'DATA')}"
    after = checked if made else "zoo doctor" if lacking else ""
    if left:
        there = quoted(Path(left[0]).name)
        after = f"copy the folder {left[0]} to the GPU machine and there, with zoo: zoo build {there}"
    payload = {
        "model": model.spec.name,
        "weights": model.weights,
        "notes": list(model.notes),
        "seconds": round(seconds, 2),
        "artifacts": [as_mapping(row) for row in rows],
    }
    return Outcome(payload, worst(row.exit_code for row in rows), show, after)


def _settings(given: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`trt.optimization_level=5` and its like, by backend."""
    from ...config import parse_setting
    from ..backends.registry import get_backend

    found: dict[str, dict[str, Any]] = {}
    for text in given:
        path, value = parse_setting(text, "trt.optimization_level=5")
        backend, dot, key = path.partition(".")
        if not dot or not key:
            raise UsageError(f"--set {text}: expected BACKEND.key=value", fix="for example --set trt.tf32=true")
        get_backend(backend)
        found.setdefault(backend, {})[key] = value
    return found


def as_mapping(row: Exported) -> dict[str, object]:
    """A row as --json shows it."""
    common: dict[str, object] = {"backend": row.backend, "precision": row.precision}
    if row.error is not None or row.artifact is None or row.golden is None:
        assert row.error is not None
        return {**common, "artifact": None, "error": row.error.as_mapping()}
    from ..checks.precision import integer_share

    receipt = row.artifact.manifest.receipt
    return {
        **common,
        "artifact": str(row.folder),
        "replaced": row.replaced,
        "built": row.artifact.manifest.built,
        "bytes": row.bytes,
        "seconds": round(row.seconds, 2),
        "golden": row.golden.as_mapping(),
        "receipt": vars(receipt) if receipt else None,
        "int8_share": integer_share(receipt, row.artifact.manifest.plan) if receipt else None,
        "notes": list(row.artifact.manifest.notes),
    }


def not_integer(manifest: Manifest, name: str) -> list[str]:
    """Lines that say which layers of an int8 artifact do not run in int8, and why; none where all do."""
    plan = manifest.plan
    if manifest.precision != "int8" or not any(layer.precision == "int8" for layer in plan):
        return []
    ran = manifest.receipt.ran if manifest.receipt else {}
    reasons: dict[str, list[Layer]] = {}
    for layer in plan:
        if layer.precision != "int8":
            reasons.setdefault(layer.reason or "it has no integer kernel, or its tensors have no range", []).append(
                layer
            )
        elif ran and ran.get(layer.name) != "int8":
            found = f"it ran in {ran[layer.name]}" if layer.name in ran else "the runtime does not list it"
            reasons.setdefault(f"planned as int8, but {found}: the runtime has no integer kernel for it", []).append(
                layer
            )
    if not reasons:
        return []
    total = sum(layer.macs for layer in plan) or 1

    def share(layers: Sequence[Layer]) -> str:
        return f"{sum(layer.macs for layer in layers) / total:.0%} of the MACs"

    others = [layer for same in reasons.values() for layer in same]
    left = [layer for layer in plan if layer not in others]
    lines = [f"{name}: {share(left)} in int8, {len(others)} of {len(plan)} layers are not:"]
    for reason, same in reasons.items():
        named = ", ".join(layer.name for layer in same[:4]) + (f" and {len(same) - 4} more" if len(same) > 4 else "")
        lines.append(f"{named} ({share(same)}): {reason}")
    return lines


def cells(row: Exported) -> list[str]:
    """A row of the table."""
    from ..checks.precision import integer_share
    from ..report.console import duration, megabytes, ran_as

    assert row.golden is not None
    built = row.artifact is None or row.artifact.manifest.built
    size = f"{megabytes(row.bytes) if built else 'to be built'}, {duration(row.seconds)}"
    receipt = row.artifact.manifest.receipt if row.artifact else None
    ran = ran_as(receipt) if receipt else "not run here"
    if row.precision == "int8" and receipt and row.artifact:
        share = integer_share(receipt, row.artifact.manifest.plan)
        ran += "" if share is None else f", {share:.0%} of the MACs in int8"
    place = f"{row.folder}{' (replaced)' if row.replaced else ''}"
    return [place, f"{row.golden.verdict}: {row.golden.reason}", ran, size]
