"""`zoo prune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import DONE, quoted
from .main import DataRoot, Debug, Device, Json, Outcome, Seed, choose_device, need_torch, parse_input
from .source_options import Input, Labels, Spec, Weights, source_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...models.sources import SourceOptions
    from ..prune.options import PruneOptions


def prune(
    source: Annotated[str, typer.Argument(help="A run, or another model source with weights.")],
    data: Annotated[str | None, typer.Option(help="The data it was trained on, to recover and to judge by.")] = None,
    macs: Annotated[float | None, typer.Option(help="Share of the multiply-accumulates to keep, such as 0.5.")] = None,
    latency: Annotated[
        float | None, typer.Option(help="Instead of --macs: share of the measured latency to keep.")
    ] = None,
    target: Annotated[
        str, typer.Option("--for", help="Whose runtime is timed on this machine, such as onnx.")
    ] = "onnx",
    will_it_pay: Annotated[
        bool, typer.Option("--will-it-pay", help="Only say what pruning, int8 and fp16 would bring here; no --data.")
    ] = False,
    criterion: Annotated[
        str, typer.Option(help="Which channels are removed first: magnitude, bn-scale, taylor, fpgm, random.")
    ] = "magnitude",
    spread: Annotated[
        str,
        typer.Option(
            help="global: rank all channels; uniform: the same share of each; sensitivity: what each stage "
            "can do without, measured first."
        ),
    ] = "global",
    round_to: Annotated[
        int | None,
        typer.Option(min=1, help="Channels that stay are a multiple of it; else 16 on AVX-512, or 8."),
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A module whose channels all stay.")] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Share of its channels that a stage keeps: layer1=0.75.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Zeros among the weights: 2:4 (for TensorRT) or unstructured.")
    ] = None,
    sparsity: Annotated[float | None, typer.Option(help="With --pattern unstructured: share of zeros.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Points of top-1: end the recovery once no more are lost; judged in the end.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps in which channels are removed.")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of the recovery; without it the recipe's.")] = None,
    recipe: Annotated[str, typer.Option(help="Recipe of the recovery: a name or a TOML file.")] = "prune",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipe: key=value.")] = None,
    weights: Weights = None,
    input_: Input = None,
    spec: Spec = None,
    labels: Labels = None,
    timed: Annotated[bool, typer.Option(help="Measure the latency before and after.")] = True,
    timed_at: Annotated[
        str | None, typer.Option(help="CxHxW of the images that latency is measured with; else the model's own.")
    ] = None,
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
    from ...errors import UsageError
    from ...models.data.catalog import open_data
    from ...models.runs import claim, is_run
    from ...models.sources import resolve
    from ...models.training.epoch import Watcher
    from ...models.training.recipe import load_recipe
    from ..prune.options import PruneOptions, usual_block
    from ..prune.run import Told
    from ..prune.run import prune as prune_model
    from ..prune.summary import told_beside, told_channels, told_of, told_zeros
    from ..report.console import notes, progress, say, table, waiting
    from ..timing.layer_table import refuse_target
    from ..timing.machine import cpu_flags
    from .train import line_of, told_how_to_go_on

    given = source_options(weights=weights, input_=input_, spec=spec, labels=labels, seed=seed)
    shape = parse_input(timed_at, "--timed-at")
    block = round_to or usual_block(cpu_flags())
    if will_it_pay:
        given_too = {"--macs": macs, "--latency": latency, "--pattern": pattern, "--stage": stage, "--data": data,
                     "--max-drop": max_drop, "--out": out, "--resume": resume, "--overwrite": overwrite}  # fmt: skip
        named = [name for name, value in given_too.items() if value]
        if named:
            raise UsageError("--will-it-pay only looks, and prunes nothing", fix=f"leave {', '.join(named)} out")
        return _will_it_pay(source, given, target, block, shape)
    options = PruneOptions(
        macs, latency, target, criterion, spread, block, tuple(keep or ()), parse_stages(stage or ()), steps,  # type: ignore[arg-type]
        pattern, sparsity, max_drop, timed, shape, beside,  # type: ignore[arg-type]
    )  # fmt: skip
    if data is None:
        raise UsageError("pruning needs images to recover with and to judge by", fix="give --data")
    settings = load_recipe(recipe, set_ or (), epochs=epochs)
    if latency is not None:
        refuse_target(target)
    where = choose_device(device)
    with waiting("loading the model and the data"):
        dataset = open_data(data, data_root)
        model = resolve(source, given)
    parent = source if is_run(Path(source)) else weights if weights and is_run(Path(weights)) else ""
    folder = out or Path("runs") / f"{model.spec.name}-{Path(dataset.name).name}-pruned"
    claim(folder, resume=resume, overwrite=overwrite, dry=True)
    notes((*dataset.notes, *model.notes))
    say(f"{model.spec.name}: {model.weights}; {asked_for(options)}")
    with progress("steps") as bar:
        watcher = Watcher(
            start=say,
            step=lambda epoch, total, step, count: bar("recovering", epoch * count + step, total * count),
            epoch=lambda done: say(line_of(done, settings.epochs)),
            warn=lambda text: say(f"warning: {text}", "yellow"),
        )
        with told_how_to_go_on(folder, overwrite=overwrite):
            report = prune_model(
                model, dataset, options, settings, folder, device=where, seed=seed, resume=resume, overwrite=overwrite,
                parent=parent, told=Told(say, bar, watcher),
            )  # fmt: skip

    def show() -> None:
        say(f"{folder}: {told_of(report, options)}", "bold")
        if options.pattern is not None and options.structured:
            say(told_zeros(report, options))
        if options.structured:
            say(told_beside(report, options))
            say(told_channels(report))
        if options.pattern == "unstructured":
            rows = [[one.layer, f"{one.weights:,}", f"{one.zeros / one.weights:.0%}", one.dense]
                    for one in report.sparsity]  # fmt: skip
            table("zeros", ["layer", "weights", "zero", "why none"], rows)
        if report.gate is not None:
            say(f"accuracy: {report.gate.verdict}: {report.gate.reason}")

    to = "trt --fp16 --build-later" if pattern == "2:4" else "torchscript,onnx"
    return Outcome(
        {"run": str(folder), **report.as_mapping()},
        report.gate.exit_code if report.gate is not None else DONE,
        show=show,
        next=f"zoo export {quoted(folder)} --to {to} --data {quoted(data)}",
    )


def parse_stages(texts: Iterable[str]) -> dict[str, float]:
    """`layer1=0.75` as a mapping; the share that a stage keeps."""
    from ...config import parse_setting
    from ...errors import UsageError

    found: dict[str, float] = {}
    for text in texts:
        name, share = parse_setting(text, "layer1=0.75", "--stage")
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise UsageError(f"--stage {text}: {share} is no number", fix="for example --stage layer1=0.75")
        found[name] = float(share)
    return found


def asked_for(options: PruneOptions) -> str:
    """What is asked for, in words."""
    stages = ", ".join(f"{share:g} of the channels of {name}" for name, share in options.stages.items())
    share = f"{options.macs:g} of the MACs" if options.macs is not None else stages
    if options.latency is not None:
        share = f"{options.latency:g} of the latency on {options.target}"
    how = f"{share} by {options.criterion}, {options.spread}, multiples of {options.round_to}"
    share_of_zeros = f", {options.sparsity:g} of the weights" if options.sparsity else ""
    zeros = f"{options.pattern} zeros{share_of_zeros}" if options.pattern else ""
    return ", ".join(filter(None, [how if options.structured else "", zeros]))


def _will_it_pay(
    source: str, given: SourceOptions, target: str, round_to: int, shape: tuple[int, int, int] | None
) -> Outcome:
    from ...models.sources import resolve
    from ..prune.estimate import as_mapping, told_rows, will_it_pay
    from ..report.console import notes, progress, say, table, waiting

    with waiting("loading the model"):
        model = resolve(source, given)
    notes(model.notes)
    with progress("steps") as bar:
        found = will_it_pay(model, target, round_to=round_to, shape=shape, progress=bar)

    def show() -> None:
        table(found.title, ["what", "pays", "latency left", "why"], told_rows(found))
        for line in found.notes:
            say(line)

    after = f"zoo prune {quoted(source)} --data DATA --latency 0.6 --for {target}"
    return Outcome(as_mapping(found), show=show, next=after)
