"""`zoo train`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import DONE, GATE, UsageError, quoted
from .main import DataRoot, Debug, Device, Json, Outcome, Seed, need_torch, own_device, parse_input
from .source_options import Labels, Spec

if TYPE_CHECKING:
    from ...models.data.dataset import Dataset
    from ...models.sources import Model
    from ...models.training.loop import Epoch
    from ...models.training.recipe import Recipe


def train(
    source: Annotated[
        str, typer.Argument(help="A name of `zoo list models`, a run, torchvision:NAME, module:factory.")
    ],
    data: Annotated[str, typer.Option(help="digits, fashion-mnist, cifar10, cifar100, or a folder of class folders.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data; else the recipe's.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A name of `zoo list recipes` or a TOML file.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipe: key=value.")] = None,
    weights: Annotated[str | None, typer.Option(help="Start from a run, a file, or imagenet.")] = None,
    input_: Annotated[str | None, typer.Option("--input", help="CxHxW; else what suits the pictures.")] = None,
    spec: Spec = None,
    labels: Labels = None,
    stem: Annotated[str | None, typer.Option(help="paper or small; else small up to 64 pixels.")] = None,
    qat: Annotated[
        bool, typer.Option("--qat", help="Train with fake quantisation, from --weights; see docs/quantisation.md.")
    ] = False,
    for_: Annotated[
        str | None,
        typer.Option("--for", help="With --qat: whose integers, of a backend that has int8.", show_default="onnx"),
    ] = None,
    freeze: Annotated[
        str, typer.Option(help="The last module that stays as --weights have it, such as layer3 or features.12.")
    ] = "",
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that decode images; else two a core.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; else runs/MODEL-DATA.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the training stopped; start where it never began.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    overfit: Annotated[
        bool, typer.Option("--overfit-batch", help="Only prove that the model can learn one batch; nothing is written.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files for TensorBoard into the run folder too.")
    ] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    debug: Debug = False,
    json: Json = False,
) -> Outcome:
    """Train a classifier; writes a run folder that every other command takes as a source.

    On several GPUs: torchrun --nproc-per-node 8 -m zoo train ...
    """
    del debug, json
    need_torch("zoo train")
    from ...models.data.catalog import open_data
    from ...models.data.labels import read_labels
    from ...models.runs import WEIGHTS, claim, read_run
    from ...models.training.loop import Watcher
    from ...models.training.loop import train as train_model
    from ...models.training.world import world_of
    from ..report.console import notes, progress, say
    from ..train import Asked, set_up

    if for_ is not None and not qat:
        raise UsageError("--for names whose integers --qat trains for", fix="add --qat, or leave --for out")
    where, here = own_device(device, os.environ), world_of(os.environ)
    with progress("steps", "loading the model and the data", silent=not here.first):
        dataset = open_data(data, data_root)
        made = set_up(
            Asked(
                source, weights, recipe, set_ or (), {"epochs": epochs}, parse_input(input_), spec,
                read_labels(labels) if labels is not None else None, stem, seed, (for_ or "onnx") if qat else None,
            ),
            dataset,
        )  # fmt: skip
    model, settings, dataset = made.model, made.recipe, made.data
    if overfit:
        if resume or overwrite or out or qat:
            raise UsageError("--overfit-batch writes no run", fix="leave --out, --resume, --overwrite and --qat out")
        return _overfit(model, dataset, settings, where, seed, freeze)
    folder = out or made.folder
    claim(folder, resume=resume, overwrite=overwrite, dry=True)  # by each: one that waited for another could not end
    if here.first:
        notes((*dataset.notes, *model.notes))
        how = f", fake quantisation for {made.standin.options.target}" if made.standin else ""
        how += f", by {here.size} processes" if here.size > 1 else ""
        say(f"{model.spec.name}: {model.weights}; {len(dataset.train)} images of {data}, recipe {made.named}{how}")

    with progress("steps", silent=not here.first) as bar:
        watcher = Watcher(
            start=say,
            step=lambda epoch, total, step, steps: bar("training", epoch * steps + step, total * steps),
            epoch=lambda done: say(line_of(done, settings.epochs)),
            warn=lambda text: say(f"warning: {text}", "yellow"),
        )
        with told_how_to_go_on(folder, first=here.first, overwrite=overwrite):
            run = train_model(
                model, dataset, settings, folder, device=where, seed=seed, resume=resume, overwrite=overwrite,
                parent=made.parent, freeze=freeze, threads=workers, tensorboard=tensorboard, watcher=watcher,
                standin=made.standin, recovery=made.recovery,
            )  # fmt: skip
    if not here.first:
        return Outcome(silent=True)
    reached = read_run(folder).reached
    unmatched = made.standin.unmatched if made.standin else ()
    payload: dict[str, object] = {
        "run": str(folder),
        "weights": str(folder / WEIGHTS),
        "epochs": settings.epochs,
        "accuracy": reached.accuracy,
        "images": reached.images,
        "seconds": run.seconds,
        "device": run.device,
    }
    after = "--to torchscript,onnx"
    summary_of = ""
    if run.learned is not None:
        payload["qat"] = {
            "target": run.learned.target, "accuracy": run.learned.accuracy, "ranges": len(run.learned.ranges),
            "unmatched": list(unmatched),
        }  # fmt: skip
        after = f"--to {run.learned.target} --int8"
        summary_of = f"; {run.learned.accuracy:.2%} with fake quantisation"
    right = f"{reached.accuracy:.2%} of {reached.images} validation images right in fp32"
    summary = f"{right}, {run.seconds:.0f} s on {run.device}"
    return Outcome(
        payload,
        show=lambda: say(f"{folder}: {summary}{summary_of}", "bold"),
        next=f"zoo export {quoted(folder)} {after} --data {quoted(data)}",
    )


@contextmanager
def told_how_to_go_on(folder: Path, *, first: bool = True, overwrite: bool = False) -> Iterator[None]:
    """The block after whose interruption a person is told what is kept.

    Args:
        folder: of the run.
        first: of several processes, the one that speaks.
        overwrite: whether --overwrite was given, which the command that goes on must not have.
    """
    from ...models.runs import CHECKPOINT, REPLACED
    from ..report.console import say

    try:
        yield
    except KeyboardInterrupt:
        if first and (folder / CHECKPOINT).exists():
            kept = f"; the run that it replaces is kept in {folder / REPLACED}" if (folder / REPLACED).exists() else ""
            other = ", and without --overwrite," if overwrite else ""
            say(f"saved in {folder}: the same command with --resume{other} goes on{kept}")
        raise


def _overfit(model: Model, dataset: Dataset, settings: Recipe, device: str, seed: int, freeze: str) -> Outcome:
    from ...models.training.overfit import overfit_batch
    from ..report.console import progress, say

    with progress("steps") as bar:
        found = overfit_batch(
            model, dataset, settings, device=device, seed=seed, freeze=freeze,
            progress=lambda done, most: bar("one batch", done, most),
        )  # fmt: skip
    told = f"{found.right:.0%} of {found.images} images right after {found.steps} steps, loss {found.last:.3g}"
    verdict = "pass: it can learn" if found.learned else "fail: it does not learn even one batch"
    why = "" if found.learned else "; look at the labels, at --set lr=…, and at what the model does with its input"
    return Outcome(
        {"overfit": {**vars(found), "learned": found.learned}},
        DONE if found.learned else GATE,
        lambda: say(f"{verdict}: {told}{why}", "bold"),
        f"zoo train {quoted(model.origin.source)} --data {quoted(dataset.name)}" if found.learned else "",
    )


def line_of(done: Epoch, epochs: int) -> str:
    """An epoch in one line."""
    return (
        f"epoch {done.epoch}/{epochs}  loss {done.loss:.3f}  train {done.train_accuracy:.2%}  val {done.accuracy:.2%}  "
        f"lr {done.lr:.4f}  {done.images_per_second:,.0f} images/s  {done.seconds:.0f} s"
    )
