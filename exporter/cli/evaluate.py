"""`zoo evaluate`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .main import DataRoot, Debug, Device, Json, Outcome, Seed, choose_device, need_torch
from .source_options import Input, Labels, Spec, Weights, source_options


def evaluate(
    what: Annotated[
        str, typer.Argument(metavar="SOURCE|ARTIFACT", help="A run, an artifact, or another model source.")
    ],
    data: Annotated[str, typer.Option(help="Labelled data, as for zoo train.")],
    weights: Weights = None,
    input_: Input = None,
    spec: Spec = None,
    labels: Labels = None,
    out: Annotated[Path | None, typer.Option(help="Where the files go; else evaluations/NAME.")] = None,
    test_flip: Annotated[
        bool, typer.Option("--test-flip", help="Answer by the mean of each image and its mirror image.")
    ] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Measure a model on labelled data: metrics.json, confusion.png, tsne.png."""
    del debug, json
    need_torch("zoo evaluate")
    from ...models.data.catalog import open_data
    from ..evaluate import FILES
    from ..evaluate import evaluate as evaluate_opened
    from ..load import is_artifact, open_any
    from ..report.console import notes, progress, table

    options = source_options(weights=weights, input_=input_, spec=spec, labels=labels, seed=seed)
    folder = out or Path("evaluations") / "-".join([*Path(what.replace(":", "-")).parts[-2:], Path(data).name])
    with progress("images", "loading the model and the data") as bar:
        dataset = open_data(data, data_root)
        with open_any(what, options, choose_device(device)) as opened:
            done = evaluate_opened(opened, dataset, folder, seed=seed, flip=test_flip, progress=bar)
        remarks = [*dataset.notes, *(opened.model.notes if opened.model else ()), *done.notes]
    metrics = done.metrics

    def show() -> None:
        rows = [
            ["accuracy", f"{metrics.accuracy:.2%}"],
            *([["top-5", f"{metrics.top5:.2%}"]] if metrics.top5 is not None else []),
            ["macro_precision", f"{metrics.macro_precision:.2%}"],
            ["macro_recall", f"{metrics.macro_recall:.2%}"],
            ["images", f"{metrics.images:,}"],
            *([[f"recall of {name}", f"{value:.2%}"] for name, value in metrics.per_class.items()][:20]),
            *[[name, str(folder / name)] for name in FILES],
        ]
        flipped = ", each image and its mirror image" if test_flip else ""
        table(f"{done.what} on {data}{flipped}", ["", ""], rows)
        notes(remarks)

    named = shlex.quote(what)
    on = shlex.quote(data)
    after = f"zoo export {named} --to torchscript,onnx --data {on}"
    after = f"zoo check {named} --data {on}" if is_artifact(what) else after
    payload = {
        "what": done.what,
        "data": data,
        "test_flip": test_flip,
        "out": str(folder),
        "accuracy": metrics.accuracy,
        "top5": metrics.top5,
        "macro_precision": metrics.macro_precision,
        "macro_recall": metrics.macro_recall,
        "images": metrics.images,
        "confusion": metrics.confusion,
        "notes": remarks,
    }
    return Outcome(payload, show=show, next=after)
