"""`zoo prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shell import DataRoot, Debug, Device, Json, Outcome, Seed, choose_device, need_torch


def prune(
    source: Annotated[str, typer.Argument(help="A run, or another model source with weights.")],
    data: Annotated[str, typer.Option(help="The data it was trained on, to recover and to judge by.")],
    macs: Annotated[float, typer.Option(help="Share of the multiply-accumulates that is to be left, such as 0.5.")],
    criterion: Annotated[
        str, typer.Option(help="Which channels go: magnitude, bn-scale, taylor, fpgm, random.")
    ] = "magnitude",
    spread: Annotated[str, typer.Option(help="global: rank all channels; uniform: the same share of each.")] = "global",
    round_to: Annotated[int, typer.Option(min=1, help="Channels that stay are a multiple of it.")] = 8,
    keep: Annotated[list[str] | None, typer.Option(help="A module whose channels all stay.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Parts in which channels go.")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of the recovery; else the recipe's.")] = None,
    recipe: Annotated[str, typer.Option(help="Of the recovery: a name or a TOML file.")] = "prune",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipe: key=value.")] = None,
    weights: Annotated[str | None, typer.Option(help="As for zoo export.")] = None,
    timed: Annotated[bool, typer.Option(help="Measure the latency before and after.")] = True,
    beside: Annotated[
        bool, typer.Option(help="Train the same architecture at a smaller width too, for as many steps.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="The run folder; else runs/MODEL-DATA-pruned.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the recovery stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Remove channels, recover by training, and measure what that brought; writes a run like any other."""
    del debug, json
    need_torch("zoo prune")
    from ...models.data.catalog import open_data
    from ...models.runs import claim, is_run
    from ...models.sources import SourceOptions, resolve
    from ...models.training.epoch import Watcher
    from ...models.training.recipe import load_recipe
    from ..pruning.prune import PruneOptions, told_beside, told_of
    from ..pruning.prune import prune as prune_model
    from ..report.console import notes, progress, say
    from .train import line_of, told_how_to_go_on

    options = PruneOptions(macs, criterion, spread, round_to, tuple(keep or ()), steps, timed, beside)  # type: ignore[arg-type]
    settings = load_recipe(recipe, set_ or (), epochs=epochs)
    where = choose_device(device)
    dataset = open_data(data, data_root)
    model = resolve(source, SourceOptions(weights=weights, seed=seed))
    parent = source if is_run(Path(source)) else weights if weights and is_run(Path(weights)) else ""
    folder = out or Path("runs") / f"{model.spec.name}-{Path(dataset.name).name}-pruned"
    claim(folder, resume=resume, overwrite=overwrite, dry=True)
    notes((*dataset.notes, *model.notes))
    say(f"{model.spec.name}: {model.weights}; {macs:g} of the MACs by {criterion}, {spread}, multiples of {round_to}")
    with progress("steps") as bar:
        watcher = Watcher(
            start=say,
            step=lambda epoch, total, step, count: bar("recovering", epoch * count + step, total * count),
            epoch=lambda done: say(line_of(done, settings.epochs)),
            warn=lambda text: say(f"warning: {text}", "yellow"),
        )
        with told_how_to_go_on(folder):
            report = prune_model(
                model, dataset, options, settings, folder, device=where, seed=seed, resume=resume, overwrite=overwrite,
                parent=parent, watcher=watcher, tell=say, progress=bar,
            )  # fmt: skip
    pruned = report.pruned
    payload = {
        "run": str(folder),
        "accuracy": report.run.reached.accuracy,
        "accuracy_before": report.before,
        "accuracy_without_recovery": report.without,
        "images": report.run.reached.images,
        "macs": pruned.macs / pruned.macs_before,
        "parameters": pruned.parameters / pruned.parameters_before,
        "latency": report.latency,
        "latency_ratios": list(report.ratios),
        "groups": [vars(group) for group in pruned.groups],
        "beside": report.beside if isinstance(report.beside, str) else vars(report.beside),
    }

    def show() -> None:
        say(f"{folder}: {told_of(report, options)}", "bold")
        say(told_beside(report))

    return Outcome(
        payload,
        show=show,
        next=f"zoo export {folder} --to torchscript,onnx --data {data}",
    )
