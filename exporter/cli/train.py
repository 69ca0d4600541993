"""`zoo train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .shell import DataRoot, Debug, Device, Json, Outcome, Seed, choose_device, need_torch, parse_input

if TYPE_CHECKING:
    from ...models.training.loop import Epoch


def train(
    source: Annotated[
        str, typer.Argument(help="A name of `zoo list models`, a run, torchvision:NAME, module:factory.")
    ],
    data: Annotated[str, typer.Option(help="digits, fashion-mnist, cifar10, cifar100, or a folder of class folders.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data; else the recipe's.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A name of `zoo list recipes` or a TOML file.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipe: key=value.")] = None,
    weights: Annotated[str | None, typer.Option(help="Start from a run, a file, or imagenet.")] = None,
    input_: Annotated[str | None, typer.Option("--input", help="CxHxW; else what suits the data.")] = None,
    stem: Annotated[str | None, typer.Option(help="paper or small; else small up to 64 pixels.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; else runs/MODEL-DATA.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Train a classifier; writes a run folder that every other command takes as a source."""
    del debug, json
    need_torch("zoo train")
    from ...models.data.catalog import open_data
    from ...models.runs import WEIGHTS, claim, is_run, read_run
    from ...models.sources import SourceOptions, new_model
    from ...models.training.loop import Watcher
    from ...models.training.loop import train as train_model
    from ...models.training.recipe import default_recipe, load_recipe
    from ...models.training.setup import spec_for_training, stem_arguments
    from ..report.console import notes, progress, say

    where = choose_device(device)
    dataset = open_data(data, data_root)
    spec = spec_for_training(source, dataset, parse_input(input_))
    chosen = recipe or default_recipe(spec.input[1], len(dataset.train))
    settings = load_recipe(chosen, set_ or (), epochs=epochs)
    folder = out or Path("runs") / f"{spec.name}-{Path(data).name}"
    claim(folder, resume=resume, overwrite=overwrite, dry=True)
    options = SourceOptions(weights=weights, arguments=stem_arguments(source, stem, spec), seed=seed)
    model = new_model(source, spec, options)
    notes((*dataset.notes, *model.notes))
    say(f"{spec.name}: {model.weights}; {len(dataset.train)} images of {data}, recipe {chosen}")

    with progress("steps") as bar:
        watcher = Watcher(
            start=say,
            step=lambda epoch, total, step, steps: bar("training", epoch * steps + step, total * steps),
            epoch=lambda done: say(_line(done, settings.epochs)),
        )
        parent = str(weights) if weights and is_run(Path(weights)) else ""
        run = train_model(
            model, dataset, settings, folder, device=where, seed=seed, resume=resume, overwrite=overwrite,
            parent=parent, watcher=watcher,
        )  # fmt: skip
    reached = read_run(folder).reached
    payload = {
        "run": str(folder),
        "weights": str(folder / WEIGHTS),
        "epochs": settings.epochs,
        "accuracy": reached.accuracy,
        "images": reached.images,
        "seconds": run.seconds,
        "device": run.device,
    }
    summary = f"{reached.accuracy:.2%} of {reached.images} validation images right, {run.seconds:.0f} s on {run.device}"
    return Outcome(
        payload,
        show=lambda: say(f"{folder}: {summary}", "bold"),
        next=f"zoo export {folder} --to torchscript,onnx --data {data}",
    )


def _line(done: Epoch, epochs: int) -> str:
    return (
        f"epoch {done.epoch}/{epochs}  loss {done.loss:.3f}  val {done.accuracy:.2%}  "
        f"lr {done.lr:.4f}  {done.images_per_second:,.0f} images/s  {done.seconds:.0f} s"
    )
