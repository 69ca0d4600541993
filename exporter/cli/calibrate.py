"""`zoo calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import UsageError, quoted
from .main import DataRoot, Debug, Device, Json, Outcome, Seed, choose_device, need_torch
from .source_options import Input, Labels, Spec, Weights, source_options

MOST_ROWS = 40


def calibrate(
    source: Annotated[str, typer.Argument(help="A name of `zoo list models`, a run, torchvision:NAME, timm:NAME, "
                                               "or module:factory.")],
    data: Annotated[str, typer.Option(help="Its training images are run through the model.")],
    images: Annotated[int, typer.Option(min=1, help="How many images.")] = 512,
    method: Annotated[str, typer.Option(help="How a range is chosen: minmax, moving_average, percentile, mse or "
                                        "entropy.")] = "minmax",
    out: Annotated[Path | None, typer.Option(help="Folder for ranges.json and ranges.safetensors.")] = None,
    weights: Weights = None,
    input_: Input = None,
    spec: Spec = None,
    labels: Labels = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:  # fmt: skip
    """Show the values of a model's activations, and the range that a method chooses for each."""
    del debug, json
    from ...calibration.observers import METHODS
    from ...config import near

    if method not in METHODS:
        raise UsageError(f"unknown method {method}{near(method, METHODS)}", fix=f"one of {', '.join(METHODS)}")
    need_torch("zoo calibrate")
    from ..report.console import notes, progress, say, table, waiting

    with waiting("loading the model and the data"):
        given = source_options(weights=weights, input_=input_, spec=spec, labels=labels, seed=seed)
        from ...calibration.ranges import claim_place
        from ...models.data.catalog import open_data
        from ...models.sources import resolve
        from ..quantize.calibrate import calibrate as measure

        if out is not None:
            claim_place(out)
        where = choose_device(device)
        dataset = open_data(data, data_root)
        model = resolve(source, given)
    say(f"{model.spec.name}: weights: {model.weights}; input {'x'.join(map(str, model.spec.input))}")
    notes(model.notes)
    with progress("images", "reading images") as bar:
        made = measure(model, dataset, images=images, seed=seed, device=where, progress=bar)
    if out is not None:
        made.table.save(out)
    edges = [
        {"name": name, "low": seen.low, "high": seen.high, "range": list(span), "clipped": seen.clipped(span)}
        for name, seen in made.table.edges.items()
        for span in [seen.range(method)]
    ]

    def show() -> None:
        rows = [
            [str(one["name"]), f"{one['low']:.3g} to {one['high']:.3g}", "{:.3g} to {:.3g}".format(*one["range"]),
             f"{one['clipped']:.2%}"]
            for one in edges[:MOST_ROWS]
        ]  # fmt: skip
        table(f"{model.spec.name}, {made.table.images} images", ["tensor", "seen", method, "clipped"], rows)
        if len(edges) > MOST_ROWS:
            say(f"and {len(edges) - MOST_ROWS} more; --json and --out have all")
        notes(made.notes)
        if out is not None:
            say(f"written: {out}")

    payload = {
        "model": model.spec.name, "images": made.table.images, "method": method, "weights": made.table.weights,
        "data": made.table.data, "edges": edges, "notes": [*model.notes, *made.notes],
    }  # fmt: skip
    return Outcome(payload, show=show, next=f"zoo sensitivity {quoted(source)} --data {quoted(data)} --for onnx")
